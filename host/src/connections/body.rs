//! The two bodies of a call: what ends a call ends both, wherever they are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::dependency::PeerShared;
use super::link::{LinkBody, LinkError};

/// Ready when a call is ended from here, with the status that its caller gets.
pub(super) type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// What is sent. It ends with an error when the call has ended, so that no upload goes on after it.
pub(super) struct Upload {
    body: Body,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Upload {
    /// The request's body, so long as the call is not over.
    pub fn wrap(body: Body, over: &CancellationToken) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self { body, over: Box::pin(over.clone().cancelled_owned()) })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Status::cancelled("the call is over"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A call that runs on a link: counted, and over when this is dropped.
pub(super) struct Running {
    peer: Arc<PeerShared>,
    _over: DropGuard,
}

impl Running {
    /// Counts a call to this peer.
    pub fn begin(peer: Arc<PeerShared>, over: CancellationToken) -> Self {
        peer.running.fetch_add(1, Ordering::Relaxed);
        Self { peer, _over: over.drop_guard() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.peer.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is received. A call that is cut yields its status here, once.
pub(super) struct Download<Broken> {
    /// Gone as soon as the call is over: dropping it resets the call at the peer.
    body: Option<(LinkBody, Running)>,
    end: End,
    broken: Broken,
}

impl<Broken> Download<Broken>
where
    Broken: Fn(LinkError) -> Status + Send + Unpin + 'static,
{
    /// The answer's body, until `end`; `broken` says what an error of the link is for the caller.
    pub fn wrap(body: LinkBody, running: Running, end: End, broken: Broken) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Self { body: Some((body, running)), end, broken })
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        Poll::Ready(Some(Err(status)))
    }
}

impl<Broken> http_body::Body for Download<Broken>
where
    Broken: Fn(LinkError) -> Status + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some((body, _)) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(status) = this.end.as_mut().poll(context) {
            return this.fail(status);
        }
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                let status = (this.broken)(error);
                this.fail(status)
            }
            None => {
                this.body = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

//! The way to a peer that is in the very host that calls: no socket, straight to what the host answers.
//!
//! Each call runs in a task of its own, as one over a socket does: a component that keeps its thread, calls itself without
//! end or panics hurts its own call only, and a stream goes on while its caller does something else. Not responsible for
//! who may be called, nor for what the host answers: `client` and `serve` are the same as for other peers.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use plugin_api::identity::ServerId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

/// A host that calls itself.
#[derive(Clone)]
pub struct LocalHost {
    /// Which of the peers it is.
    pub server_id: ServerId,
    /// What it answers.
    pub calls: LocalCalls,
}

/// All that a host answers over its listener, identity checks and refusals too.
pub type LocalCalls = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

impl fmt::Debug for LocalHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalHost").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}

/// Frames that are under way before their reader takes them, beside those that come with the answer's head.
const UNDER_WAY: usize = 4;

/// So many frames come with the head: all of a unary answer does.
const WITH_THE_HEAD: usize = 2;

type Step = Option<Result<Frame<Bytes>, Status>>;

/// The call has ended without an answer: its link was closed, or the host's own code has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended without an answer")]
pub struct Unanswered;

/// Carries a call out, until `close` is cancelled.
///
/// # Cancel safety
///
/// Dropped, it cancels the call.
pub(super) fn call(
    calls: &LocalCalls,
    close: &CancellationToken,
    request: Request<Body>,
) -> impl Future<Output = Result<Response<LocalBody>, Unanswered>> + Send + use<> {
    let (head, answered) = oneshot::channel();
    let (calls, close) = (Arc::clone(calls), close.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::select! {
            biased;
            () = close.cancelled() => {}
            () = carry_out(calls, request, head) => {}
        }
    }));
    async move {
        let (response, rest) = answered.await.map_err(|_| Unanswered)?;
        let rest = rest.map(|frames| Rest { frames, _task: task });
        Ok(response.map(|ahead| LocalBody { ahead, rest }))
    }
}

type Head = (Response<VecDeque<Result<Frame<Bytes>, Status>>>, Option<mpsc::Receiver<Step>>);

async fn carry_out(calls: LocalCalls, request: Request<Body>, head: oneshot::Sender<Head>) {
    let (parts, mut body) = calls(request).await.into_parts();
    let (ahead, ended) = poll_fn(|context| Poll::Ready(there_at_once(&mut body, context))).await;
    let response = Response::from_parts(parts, ahead);
    if ended {
        drop(body);
        // Nobody waits any more for an answer whose caller has gone.
        let _ = head.send((response, None));
        return;
    }
    let (sender, rest) = mpsc::channel(UNDER_WAY);
    if head.send((response, Some(rest))).is_err() {
        return;
    }
    loop {
        let step = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let last = !matches!(step, Some(Ok(_)));
        if sender.send(step).await.is_err() || last {
            return;
        }
    }
}

/// The frames that are there, and whether they are all.
fn there_at_once(body: &mut Body, context: &mut Context<'_>) -> (VecDeque<Result<Frame<Bytes>, Status>>, bool) {
    let mut frames = VecDeque::new();
    while !body.is_end_stream() {
        if frames.len() == WITH_THE_HEAD {
            return (frames, false);
        }
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Pending => return (frames, false),
            Poll::Ready(None) => break,
            Poll::Ready(Some(frame)) => {
                let last = !frame.as_ref().is_ok_and(Frame::is_data);
                frames.push_back(frame);
                if last {
                    break;
                }
            }
        }
    }
    (frames, true)
}

/// What comes back over a local link.
pub struct LocalBody {
    ahead: VecDeque<Result<Frame<Bytes>, Status>>,
    rest: Option<Rest>,
}

struct Rest {
    frames: mpsc::Receiver<Step>,
    /// Ends the call when the body is dropped.
    _task: AbortOnDropHandle<()>,
}

/// How an answer breaks off.
pub(super) enum BrokenOff {
    /// The call ends with this.
    Status(Status),
    /// It ends without a word.
    Unanswered(Unanswered),
}

impl LocalBody {
    /// The next frame; `None` at the end.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(frame.map_err(BrokenOff::Status)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let step = match ready!(rest.frames.poll_recv(context)) {
            Some(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Some(Some(Err(status))) => Some(Err(BrokenOff::Status(status))),
            Some(None) => None,
            None => Some(Err(BrokenOff::Unanswered(Unanswered))),
        };
        self.rest = None;
        Poll::Ready(step)
    }

    /// Is all of it read?
    pub(super) fn is_end(&self) -> bool {
        self.ahead.is_empty() && self.rest.is_none()
    }
}

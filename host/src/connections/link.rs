//! One way to a peer: HTTP/2 connections that are owned here, with all of their tasks; or, to a peer in this very host, none.
//!
//! The seam of the transport: everything above it sends a request and learns when the link is going away or broken. It
//! never connects again by itself; the driver makes a new link.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use plugin_api::identity::Role;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use super::ConnectionsConfig;
use super::connection::{Connection, ConnectionEnd, OpenError};
use super::frames::Traffic;
use super::local::{self, BrokenOff, LocalBody, LocalCalls, Unanswered};
use super::open::Open;
use super::pool::{self, Member, Pool, PoolEnd};
use crate::metrics::{Disconnect, OfRole};
use crate::tls::Security;
use crate::tls::fault::TlsFault;

/// A connection to a peer. Dropping it lets running calls end; closing is the token's business that it was opened with.
pub struct Link {
    inner: Inner,
}

enum Inner {
    Http2(Pool),
    Local { calls: LocalCalls, close: CancellationToken },
}

/// How calls go to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It is in this very host.
    Local,
    /// HTTP/2 over TCP.
    Tcp,
}

impl Way {
    /// The word for it, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Tcp => "tcp",
        }
    }
}

/// Tells how a [`Link`] comes to its end.
pub struct LinkEnd(LinkEndInner);

enum LinkEndInner {
    Http2(Box<PoolEnd>),
    /// It ends when it is closed, and not before.
    Local {
        close: CancellationToken,
        open: Option<Open>,
    },
}

/// How a link came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// GOAWAY, with its error code: it takes no new calls, and running ones go on.
    GoingAway(u32),
    /// It is broken, and no call runs on it: why, for people and for the metrics.
    Lost(String, Disconnect),
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoingAway(_) => formatter.write_str("the peer is going away (GOAWAY)"),
            Self::Lost(why, _) => formatter.write_str(why),
        }
    }
}

/// A call that a link did not answer.
pub enum SendFailure {
    /// The link took no more calls: nothing was sent.
    NotSent,
    /// It was handed over, and the link broke.
    Broken(LinkError),
    /// It was handed over, and the peer says that it did not take it.
    NotTaken(LinkError),
    /// It was handed over, and the peer ended this call alone.
    Reset(LinkError),
}

/// An error of a link, or of one call on it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Of the connection.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// Of a call within this host.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// What ended a call within this host.
    #[error("{}", .0.message())]
    Call(Status),
}

impl Link {
    /// Connects to the host of this role at `address`. All of the link's tasks end when `close` is cancelled; `traffic` counts
    /// what passes.
    ///
    /// # Errors
    ///
    /// As [`OpenError`] has it. There is no limit of time here: the dial has one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left when it is dropped.
    pub async fn open(
        address: &str,
        role: &Role,
        close: CancellationToken,
        config: &ConnectionsConfig,
        security: &Security,
        traffic: Arc<Traffic>,
    ) -> Result<(Self, LinkEnd), OpenError> {
        let (pool, end) = Pool::new(Connection::open(address, role, close, config, security, traffic).await?);
        Ok((Self { inner: Inner::Http2(pool) }, LinkEnd(LinkEndInner::Http2(Box::new(end)))))
    }

    /// A link to this very host. Its calls end when `close` is cancelled.
    pub fn local(calls: LocalCalls, close: CancellationToken) -> (Self, LinkEnd) {
        let end = LinkEnd(LinkEndInner::Local { close: close.clone(), open: None });
        (Self { inner: Inner::Local { calls, close } }, end)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// As [`SendFailure`] has it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it resets this call alone.
    pub fn send(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<LinkBody>, SendFailure>> + Send + use<> {
        match &self.inner {
            Inner::Http2(pool) => futures_util::future::Either::Left(pool.send(request)),
            Inner::Local { calls, close } => {
                let answer = local::call(calls, close, request);
                futures_util::future::Either::Right(async move {
                    let answer = answer.await.map_err(|unanswered| SendFailure::of(unanswered.into()))?;
                    Ok(answer.map(LinkBody::Local))
                })
            }
        }
    }
}

impl Link {
    /// How many connections take its calls now; none to this very host.
    pub fn connections(&self) -> usize {
        match &self.inner {
            Inner::Http2(pool) => pool.size(),
            Inner::Local { .. } => 0,
        }
    }

    /// Makes no more connections, as it is going away; those that are there stay.
    pub fn retire(&self) {
        if let Inner::Http2(pool) = &self.inner {
            pool.retire();
        }
    }

    /// Its first connection, for another link.
    pub(super) fn first(&self) -> Option<Connection> {
        match &self.inner {
            Inner::Http2(pool) => pool.first(),
            Inner::Local { .. } => None,
        }
    }
}

/// What comes back over a link.
pub enum LinkBody {
    /// Over HTTP/2.
    Http2 {
        /// The answer.
        body: Incoming,
        /// The connection on which it counts as running until it is dropped.
        _on: Arc<Member>,
    },
    /// From this very host.
    Local(LocalBody),
}

impl http_body::Body for LinkBody {
    type Data = Bytes;
    type Error = LinkError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LinkError>>> {
        match &mut *self {
            Self::Http2 { body, .. } => Pin::new(body).poll_frame(context).map_err(LinkError::from),
            Self::Local(body) => body.poll_next(context).map_err(|broken| match broken {
                BrokenOff::Status(status) => LinkError::Call(status),
                BrokenOff::Unanswered(unanswered) => unanswered.into(),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http2 { body, .. } => body.is_end_stream(),
            Self::Local(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http2 { body, .. } => body.size_hint(),
            Self::Local(_) => SizeHint::default(),
        }
    }
}

impl From<LinkError> for Status {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Call(status) => status,
            error => Self::from_error(Box::new(error)),
        }
    }
}

impl SendFailure {
    /// Which kind of failure this error of a call is.
    pub fn of(error: LinkError) -> Self {
        let error = match error {
            LinkError::Connection(error) => error,
            LinkError::Unanswered(_) => return Self::Broken(error),
            LinkError::Call(_) => return Self::Reset(error),
        };
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<h2::Error>() {
                return match (cause.is_reset(), cause.is_go_away() && cause.is_remote(), cause.reason()) {
                    // It was not processed (RFC 9113, 8.7).
                    (true, _, Some(h2::Reason::REFUSED_STREAM)) if cause.is_remote() => Self::NotTaken(error.into()),
                    (true, ..) => Self::Reset(error.into()),
                    // Those whose number is within GOAWAY's go on; only those beyond it have this error (RFC 9113, 6.8).
                    (_, true, Some(h2::Reason::NO_ERROR)) => Self::NotTaken(error.into()),
                    _ => Self::Broken(error.into()),
                };
            }
            source = cause.source();
        }
        if error.is_user() { Self::Reset(error.into()) } else { Self::Broken(error.into()) }
    }
}

impl LinkEnd {
    /// The fault of TLS by which it has ended, where it is certain.
    pub fn fault(&self) -> Option<TlsFault> {
        match &self.0 {
            LinkEndInner::Http2(end) => end.fault(),
            LinkEndInner::Local { .. } => None,
        }
    }

    /// Counts its connections in this role's metrics from now on, and the way within the host as one.
    pub(super) fn count(&mut self, measured: &Arc<OfRole>) {
        match &mut self.0 {
            LinkEndInner::Http2(end) => end.count(measured),
            LinkEndInner::Local { open, .. } => *open = Some(Open::new(measured)),
        }
    }

    /// Lets the link have so many connections, which are made as it says.
    pub(super) fn grow(&mut self, size: usize, dial: pool::Dial, config: Arc<ConnectionsConfig>) {
        if let LinkEndInner::Http2(end) = &mut self.0 {
            end.grow(size, dial, config);
        }
    }

    /// Its first connection's.
    pub(super) fn into_first(self) -> Option<ConnectionEnd> {
        match self.0 {
            LinkEndInner::Http2(end) => Some(end.into_first()),
            LinkEndInner::Local { .. } => None,
        }
    }

    /// Ready when the link takes no more calls. To be polled: it drives the connection.
    ///
    /// # Cancel safety
    ///
    /// It can be asked again.
    pub async fn ended(&mut self) -> Ended {
        match &mut self.0 {
            LinkEndInner::Http2(end) => end.ended().await,
            LinkEndInner::Local { close, .. } => {
                close.cancelled().await;
                Ended::Lost("the link has been closed".to_owned(), Disconnect::Shutdown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http2::handshake;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;

    /// A frame of this stream (RFC 9113, 4.1) whose payload are numbers of 32 bits.
    fn frame(kind: u8, stream: u32, payload: &[u32]) -> Vec<u8> {
        let length = u32::try_from(payload.len() * 4).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0]);
        [stream].iter().chain(payload).for_each(|number| frame.extend(number.to_be_bytes()));
        frame
    }

    /// Waits until a request has come.
    async fn request(peer: &mut DuplexStream) {
        let mut preface = [0; 24];
        peer.read_exact(&mut preface).await.expect("the preface");
        loop {
            let mut head = [0; 9];
            peer.read_exact(&mut head).await.expect("a frame");
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            peer.read_exact(&mut payload).await.expect("its payload");
            if head[3] == HEADERS {
                return;
            }
        }
    }

    /// As what a call fails to whose request the peer says this.
    async fn failure(said: Vec<u8>) -> SendFailure {
        let (near, mut peer) = tokio::io::duplex(64 << 10);
        let (mut sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(near)).await.expect("no word of the peer's is needed");
        let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        peer.write_all(&frame(SETTINGS, 0, &[])).await.expect("room");
        let request_sent = Request::post("http://peer/fake.Echo/Metadata").body(Body::empty()).expect("a request");
        let answers = async {
            request(&mut peer).await;
            peer.write_all(&said).await.expect("room");
        };
        let (failed, ()) = tokio::join!(sender.send_request(request_sent), answers);
        SendFailure::of(failed.expect_err("no answer came").into())
    }

    #[tokio::test]
    async fn what_the_peer_did_not_take_is_told_from_what_it_ended() {
        let (stream, none) = (1, 0);
        for (said, is_taken) in [
            (frame(RST_STREAM, stream, &[h2::Reason::REFUSED_STREAM.into()]), false),
            (frame(RST_STREAM, stream, &[h2::Reason::CANCEL.into()]), true),
            (frame(GOAWAY, 0, &[none, h2::Reason::NO_ERROR.into()]), false),
            (frame(GOAWAY, 0, &[none, h2::Reason::INTERNAL_ERROR.into()]), true),
        ] {
            let failure = failure(said.clone()).await;
            assert_eq!(!matches!(failure, SendFailure::NotTaken(_)), is_taken, "{said:?}");
        }
    }
}

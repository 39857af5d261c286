//! One way to a peer: an HTTP/2 connection that is owned here, with all of its tasks; or, to a peer in this very host, none.
//!
//! The seam of the transport: everything above it sends a request and learns when the link is going away or broken. It
//! never connects again by itself; the driver makes a new link.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use plugin_api::error::chain;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;

use super::ConnectionsConfig;
use super::frames::{Traffic, Watched};
use super::local::{self, BrokenOff, LocalBody, LocalCalls, Unanswered};

/// How much of one answer may be under way before its reader takes it. Large enough for a fast network with some
/// delay (2 MiB each 20 ms are 100 MiB/s).
const STREAM_WINDOW: u32 = 2 << 20;
/// The same for all answers together: some streams whose readers are slow must not hold the others.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// A status with its details travels in headers; the details of others are not ours to cut off.
const MAX_HEADERS: u32 = 256 << 10;

/// A connection to a peer. Dropping it lets running calls end; closing is the token's business that it was opened with.
pub struct Link {
    inner: Inner,
}

enum Inner {
    Http2 { sender: SendRequest<Body>, authority: Authority },
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

type Dispatch = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Tells how a [`Link`] comes to its end.
pub struct LinkEnd(LinkEndInner);

enum LinkEndInner {
    Http2(ConnectionEnd),
    /// It ends when it is closed, and not before.
    Local(CancellationToken),
}

struct ConnectionEnd {
    /// Hands requests to the connection; gone when it takes no more.
    dispatch: Option<Dispatch>,
    going_away: CancellationToken,
    tasks: LinkTasks,
}

/// How a link came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// GOAWAY: it takes no new calls, and running ones go on.
    GoingAway,
    /// It is broken, and no call runs on it.
    Lost(String),
}

/// A link that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address cannot be part of a URI.
    #[error("'{address}' is no host:port")]
    Address {
        /// What was registered.
        address: String,
        /// Why not.
        source: http::uri::InvalidUri,
    },
    /// TCP.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// HTTP/2.
    #[error("no HTTP/2 with {address}")]
    Handshake {
        /// With whom.
        address: String,
        /// Why not.
        source: hyper::Error,
    },
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
    /// Connects to `address`. All of the link's tasks end when `close` is cancelled; `traffic` counts what passes.
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
        close: CancellationToken,
        config: &ConnectionsConfig,
        traffic: Arc<Traffic>,
    ) -> Result<(Self, LinkEnd), OpenError> {
        let authority = address.parse().map_err(|source| OpenError::Address { address: address.to_owned(), source })?;
        let stream =
            connect(address).await.map_err(|source| OpenError::Connect { address: address.to_owned(), source })?;
        let tasks = LinkTasks { tasks: TaskTracker::new(), close };
        let going_away = CancellationToken::new();
        let stream = Watched::new(stream, going_away.clone(), traffic);
        let (sender, connection) = Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(config.keepalive())
            .keep_alive_timeout(config.keepalive_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| OpenError::Handshake { address: address.to_owned(), source })?;
        let end = ConnectionEnd { dispatch: Some(Box::pin(connection)), going_away, tasks };
        Ok((Self { inner: Inner::Http2 { sender, authority } }, LinkEnd(LinkEndInner::Http2(end))))
    }

    /// A link to this very host. Its calls end when `close` is cancelled.
    pub fn local(calls: LocalCalls, close: CancellationToken) -> (Self, LinkEnd) {
        let end = LinkEnd(LinkEndInner::Local(close.clone()));
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
            Inner::Http2 { sender, authority } => {
                futures_util::future::Either::Left(send(sender.clone(), authority, request))
            }
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

fn send(
    mut sender: SendRequest<Body>,
    authority: &Authority,
    mut request: Request<Body>,
) -> impl Future<Output = Result<Response<LinkBody>, SendFailure>> + Send + use<> {
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = uri(authority, path);
    *request.version_mut() = http::Version::HTTP_2;
    let sent = sender.try_send_request(request);
    async move {
        let answer = sent.await.map_err(|mut failure| match failure.take_message() {
            Some(_) => SendFailure::NotSent,
            None => SendFailure::of(failure.into_error().into()),
        })?;
        Ok(answer.map(LinkBody::Http2))
    }
}

fn uri(authority: &Authority, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("a scheme, an authority and a path make a URI")
}

/// What comes back over a link.
pub enum LinkBody {
    /// Over HTTP/2.
    Http2(Incoming),
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
            Self::Http2(body) => Pin::new(body).poll_frame(context).map_err(LinkError::from),
            Self::Local(body) => body.poll_next(context).map_err(|broken| match broken {
                BrokenOff::Status(status) => LinkError::Call(status),
                BrokenOff::Unanswered(unanswered) => unanswered.into(),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http2(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http2(body) => body.size_hint(),
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
    /// Ready when the link takes no more calls. To be polled: it drives the connection.
    ///
    /// # Cancel safety
    ///
    /// It can be asked again.
    pub async fn ended(&mut self) -> Ended {
        match &mut self.0 {
            LinkEndInner::Http2(end) => end.ended().await,
            LinkEndInner::Local(close) => {
                close.cancelled().await;
                Ended::Lost("the link has been closed".to_owned())
            }
        }
    }
}

impl ConnectionEnd {
    async fn ended(&mut self) -> Ended {
        let Some(dispatch) = &mut self.dispatch else { return Ended::GoingAway };
        tokio::select! {
            result = dispatch => {
                self.dispatch = None;
                match result {
                    Err(error) => Ended::Lost(chain(&error)),
                    Ok(()) => Ended::Lost("the peer has closed the connection".to_owned()),
                }
            }
            () = self.going_away.cancelled() => {
                // Calls that were handed over before may still go through: the connection takes care of them.
                if let Some(dispatch) = self.dispatch.take() {
                    hyper::rt::Executor::execute(&self.tasks, async move { drop(dispatch.await) });
                }
                Ended::GoingAway
            }
        }
    }
}

/// Runs what belongs to one connection: so long as it lives, and no longer than `close` allows.
#[derive(Clone)]
struct LinkTasks {
    tasks: TaskTracker,
    close: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for LinkTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let close = self.close.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = close.cancelled() => {}
                () = future => {}
            }
        });
    }
}

async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl ConnectionsConfig {
    fn keepalive(&self) -> Option<Duration> {
        (!self.keepalive_interval.is_zero()).then_some(self.keepalive_interval)
    }
}

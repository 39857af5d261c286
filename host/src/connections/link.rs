//! One way to a peer: an HTTP/2 connection that is owned here, with all of its tasks.
//!
//! The seam of the transport: everything above it sends a request and learns when the link is going away or broken. It
//! never connects again by itself; the driver makes a new link.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use plugin_api::error::chain;
use plugin_api::identity::Role;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::ConnectionsConfig;
use super::goaway::Watched;
use crate::tls::Security;
use crate::tls::connect::{ConnectError, connect};
use crate::tls::fault::TlsFault;
use crate::tls::stream::Trace;

/// How much of one answer may be under way before its reader takes it. Large enough for a fast network with some
/// delay (2 MiB each 20 ms are 100 MiB/s).
const STREAM_WINDOW: u32 = 2 << 20;
/// The same for all answers together: some streams whose readers are slow must not hold the others.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// A status with its details travels in headers; the details of others are not ours to cut off.
const MAX_HEADERS: u32 = 256 << 10;

/// A connection to a peer. Dropping it lets running calls end; closing is the token's business that it was opened with.
pub struct Link {
    sender: SendRequest<Body>,
    authority: Authority,
    scheme: Scheme,
}

type Dispatch = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Tells how a [`Link`] comes to its end.
pub struct LinkEnd {
    /// Hands requests to the connection; gone when it takes no more.
    dispatch: Option<Dispatch>,
    going_away: CancellationToken,
    tasks: LinkTasks,
    trace: Trace,
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
    /// TCP or TLS.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// HTTP/2.
    #[error("no HTTP/2 with {address}")]
    Handshake {
        /// With whom.
        address: String,
        /// Why not.
        source: hyper::Error,
    },
}

impl OpenError {
    /// Must certificates or the configuration change, before another try makes sense?
    pub fn is_of_tls(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_for_good())
    }
}

/// A call that a link did not answer.
pub enum SendFailure {
    /// The link took no more calls: the request comes back as it was.
    NotSent(Box<Request<Body>>),
    /// It was handed over, and the link broke.
    Broken(hyper::Error),
    /// It was handed over when the peer had said already that it would take no more calls: it did not take this one.
    NotTaken(hyper::Error),
    /// It was handed over, and the peer ended this call alone.
    Reset(hyper::Error),
}

impl Link {
    /// Connects to the host of this role at `address`. All of the link's tasks end when `close` is cancelled.
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
    ) -> Result<(Self, LinkEnd), OpenError> {
        let authority = address.parse().map_err(|source| OpenError::Address { address: address.to_owned(), source })?;
        let trace = Trace::default();
        let stream = connect(address, role, security, &trace).await?;
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let tasks = LinkTasks { tasks: TaskTracker::new(), close };
        let going_away = CancellationToken::new();
        let stream = Watched::new(stream, going_away.clone());
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
        let end = LinkEnd { dispatch: Some(Box::pin(connection)), going_away, tasks, trace };
        Ok((Self { sender, authority, scheme }, end))
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
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendFailure>> + Send + use<> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = self.uri(path);
        *request.version_mut() = http::Version::HTTP_2;
        let sent = self.sender.clone().try_send_request(request);
        async move {
            sent.await.map_err(|mut failure| match failure.take_message() {
                Some(request) => SendFailure::NotSent(Box::new(request)),
                None => SendFailure::of(failure.into_error()),
            })
        }
    }

    fn uri(&self, path: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("a scheme, an authority and a path make a URI")
    }
}

impl SendFailure {
    /// Which kind of failure this error of a call is.
    pub fn of(error: hyper::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<h2::Error>() {
                return match (cause.is_reset(), cause.is_go_away() && cause.is_remote(), cause.reason()) {
                    (true, ..) => Self::Reset(error),
                    // Those whose number is within GOAWAY's go on; only those beyond it have this error (RFC 9113, 6.8).
                    (_, true, Some(h2::Reason::NO_ERROR)) => Self::NotTaken(error),
                    _ => Self::Broken(error),
                };
            }
            source = cause.source();
        }
        if error.is_user() { Self::Reset(error) } else { Self::Broken(error) }
    }
}

impl LinkEnd {
    /// The fault of TLS by which it has ended, where it is certain.
    pub fn fault(&self) -> Option<TlsFault> {
        // Who ends a connection without a word may just as well have died.
        self.trace.told().filter(|fault| *fault != TlsFault::PlainClient)
    }

    /// Ready when the link takes no more calls. To be polled: it drives the connection.
    ///
    /// # Cancel safety
    ///
    /// It can be asked again.
    pub async fn ended(&mut self) -> Ended {
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

impl ConnectionsConfig {
    fn keepalive(&self) -> Option<Duration> {
        (!self.keepalive_interval.is_zero()).then_some(self.keepalive_interval)
    }
}

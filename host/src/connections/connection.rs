//! One HTTP/2 connection to a peer, that is owned here with all of its tasks.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use plugin_api::error::chain;
use plugin_api::identity::Role;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::ConnectionsConfig;
use super::frames::{Traffic, Watched};
use super::link::{Ended, SendFailure};
use crate::metrics::Disconnect;
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

/// A connection. Dropping it lets running calls end.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    authority: Authority,
    scheme: Scheme,
}

/// Why a call was not answered, with its request where nothing of it was sent.
pub(super) type NotAnswered = (SendFailure, Option<Box<Request<Body>>>);

type Dispatch = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Tells how a connection comes to its end.
pub(super) struct ConnectionEnd {
    /// Hands requests to the connection; gone when it takes no more.
    dispatch: Option<Dispatch>,
    /// The error code of its GOAWAY.
    going_away: Arc<SetOnce<u32>>,
    tasks: LinkTasks,
    trace: Trace,
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

impl Connection {
    /// Connects to the host of this role at `address`. All of the connection's tasks end when `close` is cancelled; `traffic` counts what passes.
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
    ) -> Result<(Self, ConnectionEnd), OpenError> {
        let authority = address.parse().map_err(|source| OpenError::Address { address: address.to_owned(), source })?;
        let trace = Trace::default();
        let stream = connect(address, role, security, &trace).await?;
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let tasks = LinkTasks { tasks: TaskTracker::new(), close };
        let going_away = Arc::new(SetOnce::new());
        let stream = Watched::new(stream, Arc::clone(&going_away), traffic);
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
        let end = ConnectionEnd { dispatch: Some(Box::pin(connection)), going_away, tasks, trace };
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
    ) -> impl Future<Output = Result<Response<Incoming>, NotAnswered>> + Send + use<> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = self.uri(path);
        *request.version_mut() = http::Version::HTTP_2;
        let sent = self.sender.clone().try_send_request(request);
        async move {
            sent.await.map_err(|mut failure| match failure.take_message() {
                Some(request) => (SendFailure::NotSent, Some(Box::new(request))),
                None => (SendFailure::of(failure.into_error().into()), None),
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

impl ConnectionEnd {
    /// The fault of TLS by which it has ended, where it is certain.
    pub fn fault(&self) -> Option<TlsFault> {
        // Who ends a connection without a word may just as well have died.
        self.trace.told().filter(|fault| *fault != TlsFault::PlainClient)
    }

    /// Ready when the connection takes no more calls. To be polled: it drives it.
    ///
    /// # Cancel safety
    ///
    /// It can be asked again.
    pub async fn ended(&mut self) -> Ended {
        let Some(dispatch) = &mut self.dispatch else {
            return Ended::GoingAway(self.going_away.get().copied().unwrap_or_default());
        };
        tokio::select! {
            result = dispatch => {
                self.dispatch = None;
                // Both may be there at once: it has said so before it closed.
                if let Some(code) = self.going_away.get() {
                    return Ended::GoingAway(*code);
                }
                match result {
                    Err(error) => Ended::Lost(chain(&error), disconnect(&error)),
                    Ok(()) => Ended::Lost("the peer has closed the connection".to_owned(), Disconnect::Unknown),
                }
            }
            code = self.going_away.wait() => {
                // Calls that were handed over before may still go through: the connection takes care of them.
                if let Some(dispatch) = self.dispatch.take() {
                    hyper::rt::Executor::execute(&self.tasks, async move { drop(dispatch.await) });
                }
                Ended::GoingAway(*code)
            }
        }
    }
}

/// Which of gRPC's reasons a connection's error is.
fn disconnect(error: &hyper::Error) -> Disconnect {
    // Its keepalive was not answered.
    if error.is_timeout() {
        return Disconnect::TimedOut;
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        let of_h2 = cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
        if let Some(error) = of_h2.or_else(|| cause.downcast_ref::<std::io::Error>()) {
            return match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Disconnect::Reset,
                ErrorKind::TimedOut => Disconnect::TimedOut,
                ErrorKind::ConnectionAborted => Disconnect::Aborted,
                _ => Disconnect::Socket,
            };
        }
        source = cause.source();
    }
    Disconnect::Unknown
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

//! One way to a peer: an HTTP/2 connection that is owned here, with all of its tasks.
//!
//! The seam of the transport: everything above it sends a request and learns when the link is going away or broken. It
//! never connects again by itself; the driver makes a new link.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::ConnectionsConfig;

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
}

/// Tells how a [`Link`] comes to its end.
pub struct LinkEnd {
    dispatch: Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>,
    tasks: TaskTracker,
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
    /// The link took no more calls: the request comes back as it was.
    NotSent(Box<Request<Body>>),
    /// It was handed over, and the link broke.
    Broken(hyper::Error),
    /// It was handed over, and the peer ended this call alone.
    Reset(hyper::Error),
}

impl Link {
    /// Connects to `address`. All of the link's tasks end when `close` is cancelled.
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
    ) -> Result<(Self, LinkEnd), OpenError> {
        let authority = address.parse().map_err(|source| OpenError::Address { address: address.to_owned(), source })?;
        let stream =
            connect(address).await.map_err(|source| OpenError::Connect { address: address.to_owned(), source })?;
        let tasks = LinkTasks { tasks: TaskTracker::new(), close };
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
        tasks.tasks.close();
        let end = LinkEnd { dispatch: Box::pin(connection), tasks: tasks.tasks };
        Ok((Self { sender, authority }, end))
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
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("a scheme, an authority and a path make a URI")
    }
}

impl SendFailure {
    /// Which kind of failure this error of a call is.
    pub fn of(error: hyper::Error) -> Self {
        if is_of_this_call_alone(&error) { Self::Reset(error) } else { Self::Broken(error) }
    }
}

/// Did the peer end one call, while the connection lives?
fn is_of_this_call_alone(error: &hyper::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            return cause.is_reset();
        }
        source = cause.source();
    }
    error.is_user()
}

impl LinkEnd {
    /// Ready when the link takes no more calls. To be polled: it drives the connection.
    pub async fn ended(&mut self) -> Ended {
        let result = self.dispatch.as_mut().await;
        match result {
            Err(error) => Ended::Lost(plugin_api::error::chain(&error)),
            // After GOAWAY the connection's own task lives on as long as calls do.
            Ok(()) if !self.tasks.is_empty() => Ended::GoingAway,
            Ok(()) => Ended::Lost("the peer has closed the connection".to_owned()),
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

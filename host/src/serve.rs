//! The listener: one for all components of a host, beside the host's own service, health and reflection.
//!
//! Not responsible for how a component stands (`lifecycle`) nor for its code (`plugin`): it routes by gRPC service name to
//! what [`Served`] says.

mod answer;
mod cut;
mod dispatch;
mod handshakes;
mod health;
mod hold;
mod host_service;
mod log;
mod paced;
mod served;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::server::HealthReporter;
use tower::Service as _;

pub use cut::Cut;
pub use dispatch::{Dispatch, Own};
pub use hold::{Gated, HeldCalls, Hold};
pub use served::{Certain, Member, Misfit, SameService, Served, Serving, Table};

use crate::tls::Security;
use crate::wire::v1::host_server::HostServer;
use handshakes::Handshakes;
use host_service::HostService;
use paced::Paced;

/// What a stream and a connection may have under way before the receiver takes it: enough for a fast local network, and a
/// bound on what a slow reader costs.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Connections that wait to be accepted; what the standard library takes as well.
const BACKLOG: u32 = 1024;

/// Callers that vanished without a word are let go after these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The listener failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not be bound.
    #[error("cannot listen on {address} (server.listen)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// It ended.
    #[error("the listener failed")]
    Failed {
        /// tonic's words.
        source: tonic::transport::Error,
    },
}

/// An address that is bound, and not listened to yet: who calls is refused by TCP at once, and does not wait for an answer.
pub struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Bound {
    /// Binds the address, so that one that is taken is told of before anything else begins.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`].
    pub fn new(address: SocketAddr) -> Result<Self, ServeError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A port whose former connections linger is free all the same.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind().map_err(|source| ServeError::Bind { address, source })
    }

    /// What is bound; the port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`]: another process began to listen there in between.
    pub fn listen(self) -> Result<TcpListener, ServeError> {
        let address = self.address;
        self.socket.listen(BACKLOG).map_err(|source| ServeError::Bind { address, source })
    }
}

/// All that a host answers: its own service, health, reflection and its components. It is there before the listener listens.
/// Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    ways: Arc<Ways>,
    health: HealthReporter,
    served: Served,
}

/// Where a call goes.
struct Ways {
    /// The host's own services.
    own: Routes,
    /// All others. Not a part of those routes, which look at a path once more, and wrap the call and its answer.
    dispatch: Dispatch,
}

/// The names of the host's own services, which go before those of its components.
const OWN: [&str; 2] = [<HostServer<HostService> as NamedService>::NAME, tonic_health::pb::health_server::SERVICE_NAME];

impl Answers {
    /// Of this host and these components.
    pub fn new(own: Arc<Own>, served: Served) -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        let host = HostServer::new(HostService::new(own.clone(), served.clone()));
        let own_services = Routes::new(host).add_service(health).prepare();
        let ways = Ways { own: own_services, dispatch: Dispatch::new(own, served.clone()) };
        Self { ways: Arc::new(ways), health: reporter, served }
    }

    /// Answers a call from within this host, as the listener does.
    ///
    /// # Cancel safety
    ///
    /// The call is cancelled with it.
    pub fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        self.ways.clone().answer(request).boxed()
    }
}

impl Ways {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        if OWN.contains(&dispatch::service_of(request.uri().path())) {
            let Ok(response) = self.own.clone().call(request).await;
            return response;
        }
        self.dispatch.call(request).await
    }
}

/// What the listener answers with. Cheap to clone: it is cloned for each call.
#[derive(Clone)]
struct Answering(Arc<Ways>);

impl tower::Service<Request<Body>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.clone().answer(request).map(Ok).boxed()
    }
}

/// Serves, over TLS where it is configured, until `drain` ends; then callers are told with GOAWAY, and it returns when the last call has ended.
///
/// # Errors
///
/// [`ServeError::Failed`].
///
/// # Cancel safety
///
/// Connections are closed with it.
pub async fn run(
    listener: TcpListener,
    answers: Answers,
    security: Security,
    drain: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    // Owned by this function: they end when it does, by the guard or by the wait.
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let _ended = stop.clone().drop_guard();
    health::follow(&answers.served, &answers.health, &tasks, &stop);
    let answering = Answering(answers.ways);
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true);
    let result = match security {
        Security::Plain { .. } => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming_shutdown(answering, Paced::new(incoming), drain).await
        }
        Security::Tls(credentials) => {
            let incoming = Paced::new(Handshakes::new(listener, credentials));
            server.serve_with_incoming_shutdown(answering, incoming, drain).await
        }
    };
    let result = result.map_err(|source| ServeError::Failed { source });
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    result
}

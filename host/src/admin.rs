//! The answers over HTTP: how each component and each link stands, what happens to them, and what can be changed.
//!
//! Over TCP on a loopback address they are there from the very beginning of the process, for programs of this machine, and
//! only show; once the host has its id, over a Unix socket too, for its own user alone ([`Socket`]), who may also swap and
//! restart components. What is shown comes from a [`View`], what is changed is done by a [`Control`].

mod answers;
mod changes;
mod control;
mod events;
mod feed;
mod guard;
mod socket;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use answers::Answers;

pub use control::{Control, ControlError, Restarted};
pub use feed::Feed;
pub use socket::{Socket, SocketError};
pub use view::{ComponentView, MissingDependency, Past, PluginView, StepName, StepView, View};

/// How long running answers may take once the listener stops. They are made from memory, so only a client that does not
/// read holds one up.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How long a client may take to send the head of its request, so that silent ones do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The listener of the read-only answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The address that is bound, `ip:port`; a loopback one, because nobody is asked who they are. 9091 by default, as
    /// Milvus has it. Port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9091) }
    }
}

impl AdminConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        if self.listen.ip().is_loopback() {
            return Vec::new();
        }
        vec![("listen", format!("expected a loopback address such as 127.0.0.1:9091, found {}", self.listen))]
    }
}

/// Answers on `listener` until `shutdown`, and then for at most a second more.
///
/// # Errors
///
/// Where the listener does not know its own address.
///
/// # Cancel safety
///
/// Dropped, it ends all its connections at once.
pub async fn run(listener: TcpListener, view: Arc<dyn View>, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = answers::guarded(over_tcp(view, shutdown.clone()), listener.local_addr()?);
    accept(listener, router, shutdown).await;
    Ok(())
}

/// Answers over a Unix socket, whose file's mode says who may ask and change, until `shutdown`; the file goes with it.
///
/// # Cancel safety
///
/// As [`run`].
pub async fn run_socket(socket: Socket, view: Arc<dyn View>, control: Arc<dyn Control>, shutdown: CancellationToken) {
    let (listener, _file) = socket.into_parts();
    accept(listener, over_socket(view, control, shutdown.clone()), shutdown).await;
}

fn over_tcp(view: Arc<dyn View>, shutdown: CancellationToken) -> Router {
    answers::router(Answers { view, shutdown }).merge(changes::elsewhere())
}

fn over_socket(view: Arc<dyn View>, control: Arc<dyn Control>, shutdown: CancellationToken) -> Router {
    answers::router(Answers { view, shutdown: shutdown.clone() }).merge(changes::router(control, shutdown))
}

async fn accept<L: Listener>(mut listener: L, router: Router, shutdown: CancellationToken) {
    // Owns the connections' tasks: dropped with this function, it ends them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // Its errors are axum's to log, with a pause after each: with no descriptors left it would fail at once again.
            (stream, _) = listener.accept() => {
                connections.spawn(answer(stream, router.clone(), shutdown.clone()));
            }
            // Ended tasks are taken out as they come, so that the set does not grow.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        tracing::debug!(open = connections.len(), "admin connections were cut at the stop");
    }
}

async fn answer<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke");
    }
}

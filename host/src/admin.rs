//! The read-only answers over HTTP on a loopback address: how each component and each link stands.
//!
//! It listens from the very beginning of the process, reads what others publish, and changes nothing: whatever changes
//! something has a Unix socket of its own. What is shown comes from a [`View`].

mod answers;
mod guard;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use view::{ComponentView, MissingDependency, PluginView, StepName, StepView, View};

/// How long running answers may take once the listener stops. They are made from memory, so only a client that does not
/// read holds one up.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How long a client may take to send the head of its request, so that silent ones do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after an accept that failed; with no file descriptors left it would fail at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let router = answers::router(view, listener.local_addr()?);
    // Owns the connections' tasks: dropped with this function, it ends them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer(stream, router.clone(), shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Ended tasks are taken out as they come, so that the set does not grow.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        tracing::debug!(open = connections.len(), "admin connections were cut at the stop");
    }
    Ok(())
}

async fn answer(stream: TcpStream, router: axum::Router, shutdown: CancellationToken) {
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

//! The server: a listener on loopback, the services, and the task that ends leases.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use futures_util::stream::select_all;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::engine::Engine;
use crate::identity::Identity;
use crate::journal::{DataError, Journal};
use crate::lessor::MIN_TTL;
use crate::machine::Machine;
use crate::service::{ClusterService, KvService, LeaseService, MaintenanceService, WatchService};

/// How long a stop waits for requests that are being answered.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// etcd's own default.
const QUOTA_BYTES: u64 = 2 << 30;

/// How a server is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The ports on 127.0.0.1, of which clients are told the first; 0 takes a free one.
    pub ports: Vec<u16>,
    /// The directory that keeps what is acknowledged; none keeps nothing, and each start is another cluster.
    pub data_dir: Option<PathBuf>,
    /// The id of a cluster that begins; none draws one.
    pub cluster_id: Option<u64>,
    /// What each lease lives at least, in seconds.
    pub min_lease_ttl: i64,
    /// How many revisions can be read at least, where older ones are thrown away every five minutes, and sooner where they take
    /// more than 64 MiB; none keeps all, as etcd does where it is not told.
    pub auto_compaction_retention: Option<i64>,
    /// About how many bytes keys and values may take, former versions among them: then what puts is refused until less is there.
    pub quota_bytes: u64,
}

impl Default for Settings {
    /// On a free port, in memory, with etcd's own least lease of 2 s and quota of 2 GiB.
    fn default() -> Self {
        Self {
            ports: vec![0],
            data_dir: None,
            cluster_id: None,
            min_lease_ttl: MIN_TTL,
            auto_compaction_retention: None,
            quota_bytes: QUOTA_BYTES,
        }
    }
}

/// Why a server cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The port is taken, or may not be bound.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The settings name no port.
    #[error("no port to listen at")]
    NoPort,
    /// The data directory cannot be used.
    #[error("cannot use the data directory of the embedded etcd")]
    Data(#[from] DataError),
}

/// A running server. On drop it ends soon, without waiting for who is served; who needs its port again stops it.
pub struct EmbeddedEtcd {
    address: SocketAddr,
    engine: Arc<Engine>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl EmbeddedEtcd {
    /// Starts one on a free port, in memory. It answers when this returns.
    ///
    /// # Errors
    ///
    /// As [`StartError`] has them.
    pub async fn start() -> Result<Self, StartError> {
        Self::start_with(&Settings::default()).await
    }

    /// Starts one with these settings. It answers when this returns.
    ///
    /// # Errors
    ///
    /// As [`StartError`] has them.
    pub async fn start_with(settings: &Settings) -> Result<Self, StartError> {
        // First the directory: who starts a second one is told of that, not of its port.
        let cluster_id = settings.cluster_id;
        let engine = match settings.data_dir.clone() {
            None => Engine::in_memory(Identity::new(cluster_id), ready(Machine::default(), settings)),
            Some(path) => {
                // Files block.
                let opened = tokio::task::spawn_blocking(move || Journal::open(&path, cluster_id)).await;
                let (journal, identity, machine) = opened.expect("opening a journal does not panic")?;
                Engine::kept(journal, identity, ready(machine, settings))
            }
        };
        let listeners = match listen_at(&settings.ports).await {
            Ok(listeners) => listeners,
            Err(error) => {
                // The directory is free again.
                engine.end(STOP_LIMIT);
                return Err(error);
            }
        };
        let (_, address) = listeners[0];
        let stop = CancellationToken::new();
        let listeners = listeners.into_iter().map(|(listener, _)| listener).collect();
        let serving = serve(listeners, address, Arc::clone(&engine), stop.clone());
        let (compacting, retention) = (Arc::clone(&engine), settings.auto_compaction_retention);
        let serving = tokio::spawn(async move {
            let compact = async {
                match retention {
                    Some(retention) => compacting.compact_all_but(retention).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = serving => {}
                () = compact => {}
            }
        });
        Ok(Self { address, engine, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients are told: `127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// The cluster id that its answers name.
    pub fn cluster_id(&self) -> u64 {
        self.engine.identity().cluster_id
    }

    /// Ends streams, answers what was asked, and stops. What takes longer than two seconds is cut.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_LIMIT, &mut self.serving).await.is_err() {
            tracing::warn!(limit = ?STOP_LIMIT, "requests to the embedded etcd were cut at its stop");
            self.serving.abort();
            // It ends at once; that it was aborted is what it says.
            let _ = (&mut self.serving).await;
        }
        let engine = Arc::clone(&self.engine);
        let ended = tokio::task::spawn_blocking(move || engine.end(STOP_LIMIT)).await;
        ended.expect("ending does not panic");
    }
}

impl Drop for EmbeddedEtcd {
    fn drop(&mut self) {
        self.stop.cancel();
        self.serving.abort();
        // What was decided becomes durable, and the directory is free again. After a stop it is already.
        self.engine.end(STOP_LIMIT);
    }
}

/// A machine that serves from now on.
fn ready(mut machine: Machine, settings: &Settings) -> Machine {
    machine.set_min_ttl(settings.min_lease_ttl);
    machine.set_quota(settings.quota_bytes);
    machine.begin(tokio::time::Instant::now());
    machine
}

async fn listen_at(ports: &[u16]) -> Result<Vec<(TcpListener, SocketAddr)>, StartError> {
    let mut listeners = Vec::new();
    for port in ports {
        listeners.push(listen(*port).await?);
    }
    if listeners.is_empty() { Err(StartError::NoPort) } else { Ok(listeners) }
}

async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The bytes of the largest message that is read at all.
const LARGEST_MESSAGE: usize = 64 << 20;

/// Serves until it is stopped.
async fn serve(listeners: Vec<TcpListener>, address: SocketAddr, engine: Arc<Engine>, stop: CancellationToken) {
    let share = || Arc::clone(&engine);
    // The largest request is checked by the service, which answers as etcd does. What is larger than any that it would look at
    // is refused by its head: room is made for a message before it has come.
    let kv = PbKvServer::new(KvService(share())).max_decoding_message_size(LARGEST_MESSAGE);
    let incoming = |listener| TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = select_all(listeners.into_iter().map(incoming));
    let serving = Server::builder()
        .max_concurrent_streams(u32::MAX)
        .add_service(kv)
        .add_service(PbWatchServer::new(WatchService { engine: share(), stop: stop.clone() }))
        .add_service(PbLeaseServer::new(LeaseService { engine: share(), stop: stop.clone() }))
        .add_service(PbMaintenanceServer::new(MaintenanceService(share())))
        .add_service(PbClusterServer::new(ClusterService { engine: share(), address }))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "the embedded etcd does not serve any more");
            }
        }
        () = engine.expire() => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::machine::Effect;

    /// However long it took to read a directory.
    #[test]
    fn leases_begin_their_time_when_they_are_served() {
        let (mut machine, settings) = (Machine::default(), Settings::default());
        let read = Instant::now() - Duration::from_secs(60);
        machine.restore(Effect::Grant { id: 1, ttl: 10 }, read);
        let begin = Instant::now();
        let deadline = ready(machine, &settings).lessor().next_deadline().expect("a lease");
        assert!(deadline >= begin + Duration::from_secs(10), "{:?}", deadline - begin);
    }
}

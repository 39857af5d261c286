//! The peer that is lost, and how it comes back: a built host with the built probe, and what stands before it.

use std::time::Duration;

use tests::clock::monotonic;
use tests::port::Port;
use tests::probe::node;
use tests::proxy::Proxy;
use tests::watcher::{Seen, Watcher};
use tests::{Cluster, Host, HostConfig};

/// Its role.
pub const PEER: &str = "beta";

/// How it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its process is killed.
    Killed,
    /// Its process is held.
    Stopped,
    /// Nothing passes to it and to its etcd, and nobody is told.
    BlackHole,
}

/// Where it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// At the port that it had: its process started again, let go on, or reached again.
    SamePort,
    /// At another one: another process, while the first stays lost.
    OtherPort,
}

/// A cluster of its own with the peer.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// The bare watcher of its sessions.
    pub watcher: Watcher,
    loss: Loss,
    peer: Host,
    other: Option<Host>,
    port: Port,
    ways: Option<Ways>,
}

/// What stands before the peer, and between it and etcd.
struct Ways {
    front: Proxy,
    etcd: Proxy,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Killed, Self::Stopped, Self::BlackHole];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill -9",
            Self::Stopped => "SIGSTOP",
            Self::BlackHole => "black hole",
        }
    }
}

impl Return {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::SamePort, Self::OtherPort];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::SamePort => "same port",
            Self::OtherPort => "other port",
        }
    }
}

impl Stage {
    /// The peer is Healthy.
    pub async fn set(loss: Loss) -> Self {
        let (cluster, port) = (Cluster::start().await, Port::reserve());
        let watcher = Watcher::of(&cluster).await;
        let ways = (loss == Loss::BlackHole).then(|| Ways {
            front: Proxy::to(port.address()),
            etcd: Proxy::to(cluster.etcd().endpoint().parse().expect("an address")),
        });
        let mut config = cluster.config().set("server.listen", port.address().to_string());
        if let Some(Ways { front, etcd }) = &ways {
            config = config.set("server.advertise", front.address().to_string());
            config = config.set("etcd.endpoints", vec![etcd.address().to_string()]);
        }
        let peer = cluster.spawn(probe(config));
        peer.healthy().await;
        Self { cluster, watcher, loss, peer, other: None, port, ways }
    }

    /// Where it is reached.
    pub fn address(&self) -> String {
        let front = self.ways.as_ref().map(|ways| ways.front.address());
        front.unwrap_or_else(|| self.port.address()).to_string()
    }

    /// A client that goes past what stands before it.
    pub async fn peer(&self) -> tests::client::Probe {
        self.peer.probe(PEER).await
    }

    /// Loses it; says when.
    pub async fn lose(&self) -> Duration {
        let at = monotonic();
        match (&self.ways, self.loss) {
            (Some(Ways { front, etcd }), _) => {
                front.black_hole();
                etcd.black_hole();
            }
            (None, Loss::Killed) => self.peer.kill9(),
            (None, _) => self.peer.sigstop().await,
        }
        at
    }

    /// Its DELETE, as the bare watcher sees it.
    pub async fn deleted(&self, since: Duration) -> Seen {
        self.watcher.sees(since, Seen::is_delete).await
    }

    /// Lets it come back; gives its put as the bare watcher sees it.
    pub async fn comes_back(&mut self, place: Return) -> Seen {
        let begin = monotonic();
        match (place, &self.ways, self.loss) {
            (Return::OtherPort, ..) => self.other = Some(self.cluster.spawn(probe(self.cluster.config()))),
            (Return::SamePort, Some(Ways { front, etcd }), _) => {
                front.heal();
                etcd.heal();
            }
            (Return::SamePort, None, Loss::Killed) => drop(self.peer.restart().await),
            (Return::SamePort, None, _) => self.peer.cont(),
        }
        self.watcher.sees(begin, |seen| !seen.is_delete()).await
    }
}

fn probe(config: HostConfig) -> HostConfig {
    config.probe(PEER, node())
}

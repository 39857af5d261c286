//! What a thousand dependencies that do not answer cost a host's start, and how soon a component is told of a peer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use componenthost::cluster::Record;
use plugin_api::identity::Role;
use probe_plugin::v1::Empty;
use serde_json::json;
use tests::client::Probe;
use tests::host::{Host, LIMIT};
use tests::port::Port;
use tests::{Cluster, eventually};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::sessions::record;
use super::stamps::{Stamps, seconds_between};
use crate::peers::Peers;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "start",
    about: "from a host's exec to Healthy with 100 and 1,000 dead and 1,000 black-holed dependencies, to one with none",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// The other subject.
pub const NOTICES: Subject = Subject {
    name: "notices",
    about: "from a bare watcher's receipt of a DELETE to a component's on_peer",
    measure: |effort| -> Measuring { Box::pin(measure_notices(effort)) },
};

/// So many black holes, half of each kind.
const BLACK_HOLES: usize = 1000;

/// So many that refuse to be connected to.
const DEAD: [usize; 2] = [100, 1000];

/// More ids than the hosts of a run are given.
const MANY_HOSTS: usize = 1000;

/// The peers' role.
const BETA: &str = "beta";

/// Longer than a run.
const LEASE: Duration = Duration::from_secs(3600);

async fn measure(effort: Effort) -> Vec<Row> {
    let (holes, dead) = (Holes::dig().await, Port::reserve());
    let dead = dead.address().to_string();
    let mut with = Vec::new();
    for count in DEAD {
        with.push(Place::with(format!("{count} dead"), &vec![dead.as_str(); count]).await);
    }
    let half = BLACK_HOLES / 2;
    let silent = [vec![holes.full.as_str(); half], vec![holes.silent.as_str(); half]].concat();
    with.push(Place::with(format!("{BLACK_HOLES} black holes"), &silent).await);
    let without = Place::with("none".to_owned(), &[]).await;
    let rounds = effort.pick(5, 20);
    let (mut pairs, mut alone) = (vec![Vec::new(); with.len()], Vec::new());
    for round in 0..=rounds {
        // Each comes as often before what it is compared with as after it.
        let before = without.started().await;
        let mut ours = Vec::new();
        for place in &with {
            ours.push(place.started().await);
        }
        let baseline = if round % 2 == 0 { before } else { without.started().await };
        if round > 0 {
            pairs.iter_mut().zip(ours).for_each(|(pairs, ours)| pairs.push((ours, baseline)));
            alone.push(baseline);
        }
    }
    let counts = format!("{rounds} rounds of starts, looked at every 10 ms, one round of warm-up");
    let mut rows = vec![Row::alone("start: no dependency", Unit::Seconds, &alone, Target::None, counts.clone())];
    for (place, pairs) in with.iter().zip(&pairs) {
        let name = format!("start: {}, to none", place.name);
        rows.push(Row::later(&name, Unit::Seconds, pairs, Target::LaterByAtMost(0.1), counts.clone()));
    }
    rows
}

/// A cluster with peers that do not answer.
struct Place {
    name: String,
    cluster: Cluster,
    peers: usize,
}

impl Place {
    async fn with(name: String, addresses: &[&str]) -> Self {
        let cluster = Cluster::start().await;
        for (number, address) in addresses.iter().enumerate() {
            register(&cluster, number + MANY_HOSTS, address).await;
        }
        Self { name, cluster, peers: addresses.len() }
    }

    /// Seconds from a host's exec until it is Healthy.
    async fn started(&self) -> f64 {
        started(&self.cluster, self.peers).await
    }
}

/// Seconds from the host's exec until it is Healthy.
async fn started(cluster: &Cluster, peers: usize) -> f64 {
    let begin = Instant::now();
    let host = alpha(cluster);
    host.healthy().await;
    let took = begin.elapsed().as_secs_f64();
    eventually(LIMIT, async || {
        let known = host.connections().await.to_string().matches("\"registration\"").count();
        if known == peers { Ok(()) } else { Err(format!("{known} of {peers} are known")) }
    })
    .await;
    took
}

fn alpha(cluster: &Cluster) -> Host {
    let dependencies = json!([{ "role": BETA, "kind": "node", "optional": true }]);
    // A coordinator would wait for the key of the one before it, which was killed.
    let probe = json!({ "kind": "node", "dependencies": dependencies });
    cluster.spawn(cluster.config().probe("alpha", probe))
}

async fn register(cluster: &Cluster, id: usize, address: &str) -> tests::etcd::ForeignSession {
    let record = Record { address: address.to_owned(), ..record(id, 0, 0) };
    cluster.etcd().put_session(&cluster.keys(), &beta(), &record, LEASE).await
}

fn beta() -> Role {
    Role::new(BETA).expect("a role")
}

/// Where whoever connects gets no answer.
struct Holes {
    /// It never accepts, and its queue is full.
    full: String,
    /// It accepts and says nothing.
    silent: String,
    _tasks: JoinSet<()>,
}

impl Holes {
    async fn dig() -> Self {
        let mut tasks = JoinSet::new();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
        let listener = socket.listen(1).expect("a listener");
        let full = listener.local_addr().expect("a bound listener has an address");
        let listener = Arc::new(listener);
        for _ in 0..4 {
            let listener = Arc::clone(&listener);
            tasks.spawn(async move {
                let _stream = TcpStream::connect(full).await;
                let _listener = listener;
                std::future::pending::<()>().await;
            });
        }
        let connects = async || tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(full)).await;
        eventually(LIMIT, async || if connects().await.is_err() { Ok(()) } else { Err("its queue is not full") }).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let silent = listener.local_addr().expect("a bound listener has an address");
        tasks.spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { full: full.to_string(), silent: silent.to_string(), _tasks: tasks }
    }
}

async fn measure_notices(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let rounds = effort.pick(20, 100);
    let peers = Peers::start_as(rounds + 2, BETA, cluster.name());
    let prefix = cluster.keys().active_session(&beta());
    let mut received = Stamps::of_bare(cluster.etcd().endpoints(), prefix).await;
    let host = alpha(&cluster);
    let probe = host.healthy().await.probe("alpha").await;
    let mut delays = Vec::new();
    for round in 0..=rounds {
        // The first id is the host's own.
        let id = round + 2;
        let session = register(&cluster, id, &peers.addresses[id - 1]).await;
        told(&probe, "online", id).await;
        let revision = super::cut::delete(cluster.etcd(), &session.key).await;
        let at = received.at(revision).await;
        let delay = seconds_between(at, told(&probe, "offline", id).await);
        if round > 0 {
            delays.push(delay);
        }
    }
    let counts = format!("{rounds} peers, by two clocks of one machine, one of warm-up");
    vec![Row::alone("notices: told of a DELETE", Unit::Seconds, &delays, Target::AtMost(0.25), counts)]
}

/// When its component was told that this peer has changed so.
async fn told(probe: &Probe, change: &str, id: usize) -> Instant {
    let server_id = i64::try_from(id).expect("a small number");
    let at_us = eventually(LIMIT, async || {
        let events = probe.clone().events(Empty {}).await.map_err(|status| status.to_string())?.into_inner().on_peer;
        let is_it = |event: &&probe_plugin::v1::Event| {
            event.change == change && event.peers.first().is_some_and(|peer| peer.server_id == server_id)
        };
        events.iter().find(is_it).map(|event| event.at_us).ok_or_else(|| format!("{:?}", events.last()))
    })
    .await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at_us.unsigned_abs());
    Instant::now() - at.elapsed().unwrap_or_default()
}

//! How soon running calls end when their peer's key goes from etcd.

use std::time::{Duration, Instant};

use componenthost::discovery::{Discovery, DiscoveryConfig};
use componenthost::etcd::Etcd as Registry;
use etcd_client::{EventType, WatchOptions};
use tests::etcd::Etcd;
use tonic::transport::Channel;
use tonic::transport::channel::Change;

use super::caller::{Caller, LIMIT, Running, endpoint, proved_channel, record_at};
use super::sessions::role;
use super::stamps::{Stamps, seconds_between};
use crate::allocator::in_use;
use crate::interval::{median, quantile};
use crate::peers::Peers;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "cut",
    about: "from a bare watcher's receipt of a DELETE to the end of one call, or of each of 1,000, on the peer's link",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// So many run.
const CALLS: usize = 1000;

/// What a plain channel's calls are given to end.
const PATIENCE: Duration = Duration::from_secs(5);

async fn measure(effort: Effort) -> Vec<Row> {
    let mut scene = Scene::set().await;
    let rounds = effort.pick(10, 40);
    let (mut medians, mut tails, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let Cut { delays, .. } = scene.cut(CALLS).await;
        if round > 0 {
            medians.push(median(&delays));
            tails.push(quantile(&delays, 0.99));
            lasts.push(quantile(&delays, 1.0));
        }
    }
    let [one_median, one_tail] = cut_alone(effort, &mut scene).await;
    let counts = format!("{rounds} rounds of {CALLS} calls, half of them streams, one round of warm-up");
    let rows = vec![
        one_median,
        one_tail,
        Row::alone("cut: median", Unit::Seconds, &medians, Target::AtMost(0.001), counts.clone()),
        Row::alone("cut: 99 of 100", Unit::Seconds, &tails, Target::AtMost(0.005), counts.clone()),
        Row::alone("cut: the last", Unit::Seconds, &lasts, Target::None, counts),
        scene.plain().await,
        scene.balanced().await,
    ];
    scene.end().await;
    rows
}

/// One call at a time.
async fn cut_alone(effort: Effort, scene: &mut Scene) -> [Row; 2] {
    let (rounds, cuts) = (effort.pick(5, 20), effort.pick(10, 25));
    let (mut medians, mut tails) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut delays = Vec::new();
        for _ in 0..cuts {
            delays.extend(scene.cut(1).await.delays);
        }
        if round > 0 {
            medians.push(median(&delays));
            tails.push(quantile(&delays, 0.99));
        }
    }
    let counts = format!("{rounds} rounds of {cuts} cuts of one stream, one round of warm-up");
    let row = |name: &str, delays: &[f64], most: f64| {
        Row::alone(name, Unit::Seconds, delays, Target::AtMost(most), counts.clone())
    };
    [row("cut: one call, median", &medians, 0.001), row("cut: one call, 99 of 100", &tails, 0.005)]
}

/// A peer to be registered, who calls it, and a bare watcher.
pub struct Scene {
    etcd: Etcd,
    peers: Peers,
    registry: Registry,
    caller: Caller,
    received: Stamps,
    _discovery: Discovery,
}

/// What was seen of calls that were cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Seconds from the watcher's receipt to the end of each.
    pub delays: Vec<f64>,
    /// In use while they ran, more than before, for their callers too.
    pub bytes: f64,
}

impl Scene {
    /// Nobody is registered yet.
    pub async fn set() -> Self {
        let (etcd, peers) = (Etcd::start().await, Peers::start(1));
        let registry = etcd.registry().await;
        let prefix = registry.keys().active_session(&role());
        let received = Stamps::of_bare(etcd.endpoints(), prefix).await;
        let discovery = Discovery::new(registry.clone(), &DiscoveryConfig::default());
        let caller = Caller::of(discovery.follow(&role()), None);
        Self { etcd, peers, registry, caller, received, _discovery: discovery }
    }

    /// So many calls run, and are cut.
    pub async fn cut(&mut self, calls: usize) -> Cut {
        let key = self.register().await;
        self.caller.one_ready().await;
        let before = in_use() as f64;
        let running = Running::begin(calls, self.caller.client()).await;
        let bytes = in_use() as f64 - before;
        let at = self.received.at(delete(&self.etcd, &key).await).await;
        let delays = running.ends().await.into_iter().map(|end| seconds_between(at, end)).collect();
        self.caller.none_left().await;
        Cut { delays, bytes }
    }

    /// Ends all links.
    pub async fn end(self) {
        self.caller.stop().await;
    }

    fn address(&self) -> &str {
        &self.peers.addresses[0]
    }

    /// The peer's key.
    async fn register(&self) -> String {
        let (record, lease) = (record_at(1, self.address()), Duration::from_secs(3600));
        self.etcd.put_session(self.registry.keys(), &role(), &record, lease).await.key
    }

    /// A channel of tonic's knows nothing of etcd.
    async fn plain(&self) -> Row {
        let key = self.register().await;
        let running = Running::begin(CALLS, proved_channel(self.address()).await).await;
        delete(&self.etcd, &key).await;
        told("cut: a tonic channel", running).await
    }

    /// Its balancer is told by a watch of etcd.
    async fn balanced(&self) -> Row {
        let prefix = self.registry.keys().active_session(&role());
        let (channel, changes) = Channel::balance_channel(8);
        changes.send(Change::Insert(1, endpoint(self.address()))).await.expect("the balancer runs");
        let key = self.register().await;
        let running = Running::begin(CALLS, channel).await;
        let options = WatchOptions::new().with_prefix();
        let mut watch = self.etcd.client().await.watch(prefix, Some(options)).await.expect("etcd lets watch");
        delete(&self.etcd, &key).await;
        let deleted = async {
            loop {
                let answer = watch.message().await.expect("the watch goes on").expect("an answer");
                if answer.events().iter().any(|event| event.event_type() == EventType::Delete) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, deleted).await.expect("the DELETE comes");
        changes.send(Change::Remove(1)).await.expect("the balancer runs");
        told("cut: tonic's balancer by a watch", running).await
    }
}

/// The key has just gone.
async fn told(name: &str, running: Running) -> Row {
    let begin = Instant::now();
    match running.ends_within(PATIENCE).await {
        Ok(ends) => {
            let delays: Vec<_> = ends.into_iter().map(|end| seconds_between(begin, end)).collect();
            Row::alone(name, Unit::Seconds, &delays, Target::None, format!("{CALLS} calls"))
        }
        Err(left) => {
            let counts = format!("{left} of {CALLS} calls still run then");
            Row::not_within(name, PATIENCE.as_secs_f64(), counts)
        }
    }
}

/// Deletes a key; gives the revision.
pub async fn delete(etcd: &Etcd, key: &str) -> i64 {
    let deleted = etcd.client().await.delete(key, None).await.expect("etcd deletes");
    deleted.header().expect("each answer has a header").revision()
}

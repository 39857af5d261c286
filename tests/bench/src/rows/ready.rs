//! How soon a peer that has come back is called again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::cluster::Keys;
use componenthost::discovery::{Discovery, DiscoveryConfig};
use etcd_client::{EventType, KeyValue, WatchOptions, WatchStream};
use tests::etcd::Etcd;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

use super::caller::{Caller, LIMIT, asks_who, endpoint, proved_channel, record_at};
use super::cut::delete;
use super::sessions::role;
use super::stamps::{Stamps, seconds_between};
use crate::interval::median;
use crate::peers::Peers;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "ready",
    about: "from a bare watcher's receipt of a put to the answer of a call that waited for that peer",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// So many rounds make one pair of what is compared.
const TOGETHER: usize = 5;

async fn measure(effort: Effort) -> Vec<Row> {
    let etcd = Etcd::start().await;
    let rounds = effort.pick(25, 100);
    let peers = Peers::start(3 * (rounds + 1));
    let registry = etcd.registry().await;
    let received = Stamps::of_bare(etcd.endpoints(), registry.keys().active_session(&role())).await;
    let mut run = Run { etcd: &etcd, keys: registry.keys(), peers: &peers, received, next: 0, deleted: 0 };
    let discovery = Discovery::new(registry.clone(), &DiscoveryConfig::default());
    let caller = Caller::of(discovery.follow(&role()), None);
    let (balancer, changes) = Channel::balance_channel(8);
    let watch = run.watch().await;
    let (fed, mut has_fed) = watch::channel(0);
    let feeding = tokio::spawn(feed(watch, changes, Arc::from(peers.addresses.as_slice()), fed));
    let (mut pairs, mut to_bare) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let client = caller.client();
        let ours = run.called_after(async move { asks_who(client, 0).await }).await;
        let channel = balancer.clone();
        // Neither side may answer by a peer that was deleted before.
        has_fed.wait_for(|revision| *revision >= run.deleted).await.expect("it goes on");
        let baseline = run.called_after(async move { asks_who(channel, 0).await }).await;
        let bare = run.called_after(connected(run.watch().await, Arc::from(peers.addresses.as_slice()))).await;
        caller.none_left().await;
        if round > 0 {
            pairs.push((ours, baseline));
            to_bare.push((ours, bare));
        }
    }
    feeding.abort();
    caller.stop().await;
    let counts = format!("{rounds} peers, each a new process at a new address, one of warm-up");
    let to_others = format!("{counts}; medians of {TOGETHER}");
    let alone: Vec<_> = pairs.iter().map(|(ours, _)| *ours).collect();
    let (pairs, to_bare) = (together(&pairs), together(&to_bare));
    vec![
        Row::alone("ready: a waiting call answered", Unit::Seconds, &alone, Target::AtMost(0.020), counts.clone()),
        Row::compared(
            "ready: to a watcher that connects",
            Unit::Seconds,
            &to_bare,
            Target::RatioAtMost(1.3),
            to_others.clone(),
        ),
        Row::compared("ready: to tonic's balancer by a watch", Unit::Seconds, &pairs, Target::None, to_others),
    ]
}

/// The medians of some rounds each: a single one may be answered before the watcher has its event.
fn together(pairs: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let medians = |some: &[(f64, f64)]| {
        let (ours, baseline): (Vec<_>, Vec<_>) = some.iter().copied().unzip();
        (median(&ours), median(&baseline))
    };
    pairs.chunks(TOGETHER).map(medians).collect()
}

struct Run<'a> {
    etcd: &'a Etcd,
    keys: &'a Keys,
    peers: &'a Peers,
    received: Stamps,
    next: usize,
    /// The revision of the last DELETE.
    deleted: i64,
}

impl Run<'_> {
    /// A bare watch of the peers.
    async fn watch(&self) -> WatchStream {
        let (prefix, options) = (self.keys.active_session(&role()), WatchOptions::new().with_prefix());
        self.etcd.client().await.watch(prefix, Some(options)).await.expect("etcd lets watch")
    }

    /// One more peer comes, is called, and goes.
    async fn called_after(&mut self, call: impl Future<Output = bool> + Send + 'static) -> f64 {
        let call = tokio::spawn(async move {
            let answered = call.await;
            (answered, Instant::now())
        });
        // It waits by then, in the ordinary way of things; if not, the figure is as true.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.next += 1;
        let record = record_at(self.next, &self.peers.addresses[self.next - 1]);
        let put = self.etcd.put_session(self.keys, &role(), &record, Duration::from_secs(3600)).await;
        let at = self.received.at(put.revision).await;
        let (answered, end) = tokio::time::timeout(LIMIT, call).await.expect("in time").expect("no panic");
        assert!(answered, "the call is answered");
        self.deleted = delete(self.etcd, &put.key).await;
        self.received.at(self.deleted).await;
        seconds_between(at, end)
    }
}

/// What a user would write who has a watch, and no links: it connects to the first who comes, and calls.
async fn connected(mut watch: WatchStream, addresses: Arc<[String]>) -> bool {
    while let Ok(Some(answer)) = watch.message().await {
        if let Some(id) = answer.events().iter().find_map(|event| event.kv().and_then(id_in)) {
            proved_channel(&addresses[usize::try_from(id).expect("a small number") - 1]).await;
            return true;
        }
    }
    false
}

/// The id at the end of a node's key.
fn id_in(stored: &KeyValue) -> Option<i64> {
    stored.key_str().ok()?.rsplit_once('-')?.1.parse().ok()
}

/// What a user of tonic's would write.
async fn feed(
    mut watch: WatchStream,
    changes: Sender<Change<i64, Endpoint>>,
    addresses: Arc<[String]>,
    fed: watch::Sender<i64>,
) {
    while let Ok(Some(answer)) = watch.message().await {
        for event in answer.events() {
            let Some(id) = event.kv().and_then(id_in) else { continue };
            let change = match event.event_type() {
                EventType::Put => {
                    Change::Insert(id, endpoint(&addresses[usize::try_from(id).expect("a small number") - 1]))
                }
                EventType::Delete => Change::Remove(id),
            };
            if changes.send(change).await.is_err() {
                return;
            }
            fed.send_replace(event.kv().map_or(0, KeyValue::mod_revision));
        }
    }
}

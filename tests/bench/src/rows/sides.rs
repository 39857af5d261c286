//! Two sides that make the same calls in turn, and the hosts and rows for that: what several subjects share.

use std::future::Future;
use std::time::Duration;

use bench_plugin::v1::caller_client::CallerClient;
use bench_plugin::v1::{Measured, Place, Volley};
use componenthost::cluster::Record;
use plugin_api::identity::Role;
use serde_json::json;
use tests::{Cluster, Host, HostConfig};
use tonic::transport::Channel;

use super::caller::endpoint;
use super::sessions::record;
use crate::peers::Peers;
use crate::row::{Effort, Row, Target, Unit};

/// The role that is called.
pub const CALLED: &str = "beta";

/// The role that calls.
pub const CALLING: &str = "alpha";

/// Longer than a run.
const LEASE: Duration = Duration::from_secs(3600);

/// How many pairs of rounds are measured, short ones: whatever else the machine does meets both sides of a pair.
pub const ROUNDS: (usize, usize) = (10, 40);

/// Calls of one size, so many of them at the same time.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Bytes of each.
    pub size: u32,
    /// How many run at the same time.
    pub at_once: u32,
    /// How many each round has.
    pub calls: u32,
}

/// What the unary calls are measured with.
pub const SHAPES: [Shape; 6] = [
    Shape { size: 100, at_once: 1, calls: 500 },
    Shape { size: 100, at_once: 64, calls: 3200 },
    Shape { size: 100, at_once: 256, calls: 3840 },
    Shape { size: 64 << 10, at_once: 1, calls: 200 },
    Shape { size: 64 << 10, at_once: 64, calls: 960 },
    Shape { size: 64 << 10, at_once: 256, calls: 1280 },
];

impl Shape {
    /// The same as a request.
    pub fn volley(self, place: Place) -> Volley {
        Volley { place: place.into(), calls: self.calls, at_once: self.at_once, size: self.size }
    }

    /// Its name in a table.
    pub fn name(self) -> String {
        let size = if self.size < 1024 { format!("{} B", self.size) } else { format!("{} KiB", self.size >> 10) };
        format!("{size} x {}", self.at_once)
    }
}

/// What the rounds of both sides have given, ours first.
#[derive(Default)]
pub struct Pairs {
    /// Calls in a second.
    pub rates: Vec<(f64, f64)>,
    /// Seconds of a call.
    pub medians: Vec<(f64, f64)>,
    /// Of a hundred calls one takes longer.
    pub tails: Vec<(f64, f64)>,
}

impl Pairs {
    /// One round more.
    pub fn add(&mut self, (ours, baseline): (&Measured, &Measured)) {
        let rate = |side: &Measured| f64::from(side.calls) / side.seconds;
        self.rates.push((rate(ours), rate(baseline)));
        self.medians.push((ours.median, baseline.median));
        self.tails.push((ours.tail, baseline.tail));
    }

    /// The rows of calls that go through: what is promised for them depends on how many run at the same time.
    pub fn rows(&self, name: &str, shape: Shape) -> Vec<Row> {
        let counts = self.counts(shape);
        let name = format!("{name}{}", shape.name());
        let row = |what: &str, unit, pairs, target| {
            Row::compared(&format!("{name}, {what}"), unit, pairs, target, counts.clone())
        };
        let median = |most| row("p50", Unit::Seconds, &self.medians, Target::RatioAtMost(most));
        if shape.at_once == 1 {
            return vec![median(1.15)];
        }
        vec![
            row("calls", Unit::PerSecond, &self.rates, Target::RatioAtLeast(0.97)),
            median(1.05),
            row("p99", Unit::Seconds, &self.tails, Target::RatioAtMost(1.10)),
        ]
    }

    /// What was counted.
    pub fn counts(&self, shape: Shape) -> String {
        format!("{} pairs of {} calls, one of warm-up", self.rates.len(), shape.calls)
    }
}

/// Both, one after the other: in each round another one comes first.
pub async fn in_turn<T>(round: usize, ours: impl Future<Output = T>, baseline: impl Future<Output = T>) -> (T, T) {
    if round.is_multiple_of(2) {
        let ours = ours.await;
        (ours, baseline.await)
    } else {
        let baseline = baseline.await;
        (ours.await, baseline)
    }
}

/// Both callers make the same calls in turn, shape by shape.
pub async fn rounds<const N: usize>(
    effort: Effort,
    shapes: [Shape; N],
    place: Place,
    ours: &CallerClient<Channel>,
    baseline: &CallerClient<Channel>,
) -> [Pairs; N] {
    let mut pairs = [const { Pairs { rates: Vec::new(), medians: Vec::new(), tails: Vec::new() } }; N];
    // The first round warms up.
    for round in 0..=effort.pick(ROUNDS.0, ROUNDS.1) {
        for (pairs, shape) in pairs.iter_mut().zip(shapes) {
            let volley = shape.volley(place);
            let (ours, baseline) = in_turn(round, call(ours, volley), call(baseline, volley)).await;
            if round > 0 {
                pairs.add((&ours, &baseline));
            }
        }
    }
    pairs
}

/// Has them made.
pub async fn call(caller: &CallerClient<Channel>, volley: Volley) -> Measured {
    caller.clone().call(volley).await.expect("all calls are answered").into_inner()
}

/// Whoever calls in the process that listens there.
pub async fn caller(address: &str) -> CallerClient<Channel> {
    CallerClient::new(endpoint(address).connect().await.expect("it listens"))
}

/// A configuration with the bench's plugin, as its own file, in that role. It calls the other one, where one is given.
pub fn with_plugin(config: HostConfig, role: &str, calls: Option<&str>) -> HostConfig {
    let own = calls.map_or_else(|| json!({}), |calls| json!({ "calls": calls }));
    // A busy machine must not cost a session.
    config.component(role, "bench_plugin", own).set("session.ttl", "30s")
}

/// A built host, once it is Healthy.
pub async fn host(cluster: &Cluster, config: HostConfig) -> Host {
    let host = cluster.spawn(config);
    host.healthy().await;
    host
}

/// A peer of hosts, which serves what is called, registered for good.
pub async fn peer(cluster: &Cluster) -> (Peers, String) {
    // The first id is that of a host.
    const IDS: usize = 100;
    let peers = Peers::start_as(IDS, CALLED, cluster.name());
    let address = peers.addresses[IDS - 1].clone();
    let record = Record { address: address.clone(), ..record(IDS, 0, 0) };
    let role = Role::new(CALLED).expect("a role");
    cluster.etcd().put_session(&cluster.keys(), &role, &record, LEASE).await;
    (peers, address)
}

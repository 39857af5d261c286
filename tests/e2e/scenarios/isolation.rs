//! Six roles are called at once while one of them is killed again and again: the five others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use probe_plugin::v1::EchoRequest;
use serde_json::Value;
use tests::client::Probe;
use tests::clock::monotonic;
use tests::probe::coordinator;
use tests::{Cluster, Host};
use tokio::task::JoinHandle;

use super::caller::{Caller, depends_on, unary_within};
use super::calls::{Calls, Tally, p99};
use super::row::Row;

/// The roles that nothing happens to.
pub const OTHERS: [&str; 5] = ["bone", "btwo", "bthree", "bfour", "bfive"];

/// Far longer than any call takes here.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Enough for a 99th percentile.
const BASELINE: usize = 100;

/// A host with all of them.
pub async fn others(cluster: &Cluster) -> Host {
    let config = OTHERS.iter().fold(cluster.config(), |config, role| config.probe(role, coordinator()));
    cluster.host(config).await
}

/// The calls to the others, how quick they were when nothing happened, and how quick they are past the caller.
pub struct Undisturbed {
    calls: Vec<Calls>,
    baselines: Vec<Duration>,
    /// A machine that does much else slows these as well; a caller whose links hold one another up does not.
    control: Control,
}

impl Undisturbed {
    /// Waits until each can be called, and calls each.
    pub async fn begin(row: &mut Row, caller: &Caller, others: &Host) -> Self {
        for role in OTHERS {
            caller.goes_through(unary_within(role, DEADLINE)).await;
        }
        let mut baselines = Vec::new();
        for tally in end(begin(caller)).await {
            tally.assert_none_failed();
            baselines.push(tally.p99());
            row.calls(&tally);
        }
        let control = Control::begin(others.probe(OTHERS[0]).await);
        Self { calls: begin_all(caller), baselines, control }
    }

    /// None has failed, each role was as quick as before, and no link to any was touched.
    pub async fn end(self, row: &mut Row, caller: &Caller) {
        for calls in &self.calls {
            calls.made(BASELINE).await;
        }
        let past = self.control.end().await;
        for ((calls, before), role) in self.calls.into_iter().zip(self.baselines).zip(OTHERS) {
            let tally = calls.end().await;
            tally.assert_none_failed();
            let (p99, bound) = (tally.p99(), before.max(past) * 3 + Duration::from_millis(50));
            assert!(p99 <= bound, "{role}: 99 % within {p99:?}, before within {before:?}, past the caller {past:?}");
            row.calls(&tally);
            let view = caller.dependency(role).await;
            let events: Vec<_> = view["events"].as_array().into_iter().flatten().map(|event| &event["event"]).collect();
            assert_eq!(events, [&Value::from("online")], "{view:#}");
            let peer = &view["peers"][0];
            assert_eq!((&peer["link"], &peer["tries"]), (&Value::from("ready"), &Value::from(0)), "{view:#}");
        }
    }
}

/// Calls that go straight to the host of the others.
struct Control {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Duration>>,
}

impl Control {
    fn begin(mut probe: Probe) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                probe.echo(EchoRequest::default()).await.expect("it answers whom it is not cut off from");
                took.push(begin.elapsed());
                tokio::time::sleep(super::calls::PAUSE).await;
            }
            took
        });
        Self { stop, task }
    }

    /// The time within which 99 % of them ended.
    async fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        p99(self.task.await.expect("no panic"))
    }
}

fn begin_all(caller: &Caller) -> Vec<Calls> {
    OTHERS.iter().map(|role| Calls::begin(&caller.probe, unary_within(role, DEADLINE))).collect()
}

async fn begin(caller: &Caller) -> Vec<Calls> {
    let calls = begin_all(caller);
    for calls in &calls {
        calls.made(BASELINE).await;
    }
    calls
}

async fn end(calls: impl Future<Output = Vec<Calls>>) -> Vec<Tally> {
    let mut tallies = Vec::new();
    for calls in calls.await {
        tallies.push(calls.end().await);
    }
    tallies
}

#[tokio::test]
async fn a_role_that_is_killed_again_and_again_slows_no_other() {
    let mut row = Row::begin("03", "#6110 one of six roles killed over and over");
    let cluster = Cluster::start().await;
    let five = others(&cluster).await;
    let dead = cluster.probe("dead", coordinator()).await;
    let mut roles: Vec<_> = OTHERS.iter().map(|role| (*role, "coordinator")).collect();
    roles.push(("dead", "coordinator"));
    let caller = Caller::start(&cluster, depends_on(&roles)).await;
    five.healthy().await;
    let undisturbed = Undisturbed::begin(&mut row, &caller, &five).await;
    caller.goes_through(unary_within("dead", DEADLINE)).await;
    let calls = Calls::begin(&caller.probe, unary_within("dead", Duration::from_millis(300)));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(3), Duration::from_secs(20)) {
        let id = dead.server_id("dead").await;
        dead.kill9();
        caller.truth.ended("dead", id);
        row.pause(100..800).await;
        let begin = monotonic();
        let new = dead.restart().await.server_id("dead").await;
        let appeared = caller.appears(begin, new).await.at;
        let through = caller.goes_through(unary_within("dead", DEADLINE)).await;
        row.ready_after(through.saturating_sub(appeared));
    }
    let tally = calls.end().await;
    tally.assert_ended_within(Duration::from_millis(300));
    undisturbed.end(&mut row, &caller).await;
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

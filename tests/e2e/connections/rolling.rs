//! Hosts that are stopped gracefully, one after the other, while others call: real processes and a real etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use probe_plugin::v1::{CallKind, CallRequest, CallResponse};
use serde_json::{Value, json};
use tests::client::Probe;
use tests::probe::{call, calling_nodes, coordinator, node, reaches};
use tests::{Cluster, Host, LIMIT, eventually, form, holds};
use tokio::task::JoinHandle;

/// How many hosts are stopped.
fn stops() -> usize {
    form::short_or_full(2, 8)
}

/// Calls that are made one after the other until they are told to stop.
struct Loops {
    over: Arc<AtomicBool>,
    running: Vec<JoinHandle<(usize, Vec<CallResponse>)>>,
}

impl Loops {
    /// One loop for each of these.
    fn begin(probe: &Probe, calls: impl IntoIterator<Item = CallRequest>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let begin = |asked| tokio::spawn(again_and_again(probe.clone(), asked, Arc::clone(&over)));
        let running = calls.into_iter().map(begin).collect();
        Self { over, running }
    }

    /// How many calls were made, and the answers of those that failed.
    async fn end(self) -> (usize, Vec<CallResponse>) {
        self.over.store(true, Ordering::SeqCst);
        let (mut made, mut failed) = (0, Vec::new());
        for running in self.running {
            let (calls, failures) = running.await.expect("no panic");
            made += calls;
            failed.extend(failures);
        }
        (made, failed)
    }
}

async fn again_and_again(mut probe: Probe, asked: CallRequest, over: Arc<AtomicBool>) -> (usize, Vec<CallResponse>) {
    let (mut made, mut failed) = (0, Vec::new());
    // Many calls each second, and time for the others on a small machine.
    let mut ticks = tokio::time::interval(Duration::from_millis(3));
    while !over.load(Ordering::SeqCst) {
        ticks.tick().await;
        let seen = probe.call(asked.clone()).await.expect("the probe answers").into_inner();
        made += 1;
        if seen.code != 0 {
            failed.push(seen);
        }
    }
    (made, failed)
}

/// A caller of beta, which sees so many of them ready.
async fn sees(caller: &Host, count: usize) {
    eventually(LIMIT, async || {
        let view = caller.connections().await;
        let ready = |peer: &&Value| peer["link"] == "ready" && peer["session"] == "live" && peer["standby"] == false;
        let peers = view["dependencies"][0]["peers"].as_array().cloned().unwrap_or_default();
        holds(peers.iter().filter(ready).count() == count, view)
    })
    .await;
}

#[tokio::test]
async fn nodes_that_stop_one_after_the_other_cost_their_callers_no_call() {
    let cluster = Cluster::start().await;
    let caller = cluster.probe("gamma", calling_nodes("beta")).await;
    let mut nodes = vec![cluster.probe("beta", node()).await, cluster.probe("beta", node()).await];
    let probe = caller.healthy().await.probe("gamma").await;
    sees(&caller, 2).await;
    let kinds = [CallKind::Unary, CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream];
    let loops = Loops::begin(&probe, kinds.map(|kind| call("beta", kind)));
    for _ in 0..stops() {
        assert!(nodes.remove(0).stop().await.success());
        nodes.push(cluster.probe("beta", node()).await);
        sees(&caller, 2).await;
    }
    let (made, failed) = loops.end().await;
    assert!(failed.is_empty(), "{} of {made} failed: {:?}", failed.len(), failed.first());
    assert!(made > 10 * stops(), "only {made} calls were made");
}

#[tokio::test]
async fn a_call_to_one_node_fails_only_when_that_has_refused_and_is_known_not_to_be_executed() {
    let cluster = Cluster::start().await;
    let caller = cluster.probe("gamma", calling_nodes("beta")).await;
    let beta = cluster.probe("beta", node()).await;
    let probe = caller.healthy().await.probe("gamma").await;
    sees(&caller, 1).await;
    let id = beta.component("beta").await["server_id"].as_i64();
    let loops = Loops::begin(&probe, [CallRequest { server_id: id, ..call("beta", CallKind::Unary) }]);
    assert!(beta.stop().await.success());
    let (made, failed) = loops.end().await;
    let first = failed.first().expect("it has stopped");
    // Before it was gone from etcd it refused by itself, or its link was on its way out.
    let expected = ["SESSION_STOPPING", "SESSION_GONE", "LINK_LOST", "CONNECTING", "CONNECT_FAILED"];
    assert!(expected.contains(&first.reason.as_str()), "{first:?}");
    let uncertain = failed.iter().find(|seen| seen.details["executed"] != "no");
    assert!(uncertain.is_none(), "of {made} calls: {uncertain:?}");
}

#[tokio::test]
async fn a_coordinator_that_stops_costs_callers_that_wait_no_call() {
    let cluster = Cluster::start().await;
    let caller = json!({ "kind": "node", "dependencies": [{ "role": "beta", "kind": "coordinator" }] });
    let caller = cluster.probe("gamma", caller).await;
    let mut hosts = vec![cluster.probe("beta", coordinator()).await];
    hosts[0].healthy().await;
    let probe = caller.healthy().await.probe("gamma").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    let patient = |kind| CallRequest { wait_ms: Some(20_000), timeout_ms: Some(20_000), ..call("beta", kind) };
    let loops = Loops::begin(&probe, [CallKind::Unary, CallKind::BidiStream].map(patient));
    for _ in 0..stops() {
        let standby = cluster.probe("beta", coordinator()).await;
        standby.in_state("beta", "StandBy").await;
        assert!(hosts.remove(0).stop().await.success());
        standby.in_state("beta", "Healthy").await;
        hosts.push(standby);
        sees(&caller, 1).await;
    }
    let (made, failed) = loops.end().await;
    assert!(failed.is_empty(), "{} of {made} failed: {:?}", failed.len(), failed.first());
    assert!(made > 10 * stops(), "only {made} calls were made");
}

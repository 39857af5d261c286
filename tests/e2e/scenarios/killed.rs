//! Processes that are killed again and again, each time coming back elsewhere.

use std::time::Duration;

use probe_plugin::v1::{CallKind, CallRequest};
use tests::clock::monotonic;
use tests::probe::{call, coordinator, node};
use tests::{Cluster, Host};

use super::caller::{Caller, depends_on, node_key, unary, unary_within};
use super::calls::Calls;
use super::row::{CUT_WITHIN, Row};
use super::trap::Trap;

const DEADLINE: Duration = Duration::from_millis(500);

/// Starts it again elsewhere after a pause. Says when the watcher saw its session.
async fn comes_back(row: &mut Row, caller: &Caller, host: &Host, role: &str) -> Duration {
    row.pause(0..200).await;
    let begin = monotonic();
    let new = host.restart().await.server_id(role).await;
    caller.appears(begin, new).await.at
}

#[tokio::test]
async fn a_node_that_is_killed_and_comes_back_elsewhere_over_and_over() {
    let mut row = Row::begin("01", "#5976 node killed and back elsewhere, over and over");
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", node()).await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "node")])).await;
    beta.healthy().await;
    caller.goes_through(unary("beta")).await;
    let calls = Calls::begin(&caller.probe, unary_within("beta", DEADLINE));
    let mut traps = Vec::new();
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(40)) {
        row.pause(0..400).await;
        let (id, address) = (beta.server_id("beta").await, beta.address().await);
        let killed = monotonic();
        beta.kill9();
        caller.truth.ended("beta", id);
        // Who dials the dead one's address is taken in, and kept waiting.
        let trap = Trap::at(&address);
        let appeared = comes_back(&mut row, &caller, &beta, "beta").await;
        row.ready_after(caller.goes_through(unary("beta")).await.saturating_sub(appeared));
        let key = node_key(&cluster, "beta", id);
        let deleted = caller.watcher().sees(killed, |seen| seen.is_delete() && seen.key == key).await;
        traps.push((deleted.at, trap));
    }
    let tally = calls.end().await;
    tally.assert_ended_within(DEADLINE);
    for (deleted, trap) in &traps {
        let late: Vec<_> = trap.visits().into_iter().filter(|at| *at > *deleted + CUT_WITHIN).collect();
        assert!(late.is_empty(), "dialled after its DELETE at {deleted:?}: {late:?}");
    }
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

#[tokio::test]
async fn a_coordinator_that_is_killed_over_and_over_needs_no_restart_of_its_callers() {
    let mut row = Row::begin("06", "#6058 #6660 killed over and over, callers go on");
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", coordinator()).await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "coordinator")])).await;
    beta.healthy().await;
    caller.goes_through(unary("beta")).await;
    let calls = Calls::begin(&caller.probe, unary_within("beta", DEADLINE));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
        row.pause(0..400).await;
        let id = beta.server_id("beta").await;
        beta.kill9();
        caller.truth.ended("beta", id);
        let appeared = comes_back(&mut row, &caller, &beta, "beta").await;
        row.ready_after(caller.goes_through(unary("beta")).await.saturating_sub(appeared));
    }
    let tally = calls.end().await;
    tally.assert_ended_within(DEADLINE);
    row.calls(&tally);
    for kind in [CallKind::Unary, CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream] {
        let request = CallRequest { wait_ms: Some(0), ..call("beta", kind) };
        let seen = caller.call(request).await;
        assert_eq!(seen.code, 0, "{kind:?}: {seen:?}");
    }
    let component = caller.host.component("alpha").await;
    assert_eq!(component["restarts"], 0, "{component}");
    caller.truth.finish();
    row.end();
}

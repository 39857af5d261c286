//! A standby takes over from an active one that dies.

use std::time::Duration;

use tests::clock::monotonic;
use tests::cluster::TTL_SECONDS;
use tests::probe::coordinator;
use tests::{Cluster, Host};

use super::caller::{Caller, depends_on, unary, unary_within};
use super::calls::Calls;
use super::row::Row;

const DEADLINE: Duration = Duration::from_millis(500);

/// From the death: a lease's time, and what an etcd and hosts that share a busy machine need.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(TTL_SECONDS + 5);

/// How often its component was activated.
fn activations(host: &Host) -> usize {
    let is_one =
        |line: &&tests::log::LogLine| line.message() == "life" && line.text("method").as_deref() == Some("Activate");
    host.log().iter().filter(is_one).count()
}

#[tokio::test]
async fn a_standby_serves_soon_after_the_active_one_dies_and_once_only() {
    let mut row = Row::begin("14", "#44111 #21666 standby takes over");
    let cluster = Cluster::start().await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "coordinator")])).await;
    let mut active = cluster.probe("beta", coordinator()).await;
    active.healthy().await;
    caller.goes_through(unary("beta")).await;
    let mut standby = cluster.probe("beta", coordinator()).await;
    let calls = Calls::begin(&caller.probe, unary_within("beta", DEADLINE));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
        standby.in_state("beta", "StandBy").await;
        let (old, new) = (active.server_id("beta").await, standby.server_id("beta").await);
        let before = activations(&standby);
        row.pause(0..300).await;
        let killed = monotonic();
        active.kill9();
        caller.truth.ended("beta", old);
        let took_over = caller
            .watcher()
            .sees(killed, |seen| seen.server_id() == Some(new) && !seen.key.ends_with(&format!("-{new}")));
        let took_over = took_over.await.at;
        let took = took_over.saturating_sub(killed);
        assert!(took <= TAKEN_OVER_WITHIN, "taken over after {took:?}");
        let through = caller.goes_through(unary("beta")).await;
        row.ready_after(through.saturating_sub(took_over));
        assert_eq!(caller.call(unary("beta")).await.server_id, new);
        assert_eq!(activations(&standby), before + 1, "once only");
        active.restart().await;
        std::mem::swap(&mut active, &mut standby);
    }
    let tally = calls.end().await;
    tally.assert_ended_within(DEADLINE);
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

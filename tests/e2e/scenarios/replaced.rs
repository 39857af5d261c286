//! Another process in a peer's place: at its address, or under its key while the caller could not see it.

use std::time::{Duration, Instant};

use probe_plugin::v1::CallKind;
use tests::clock::monotonic;
use tests::port::Port;
use tests::probe::{coordinator, held};
use tests::proxy::Proxy;
use tests::{Cluster, LIMIT, within};

use super::caller::{Caller, depends_on, unary, unary_to, unary_within};
use super::calls::{Calls, Tally};
use super::row::{Row, TOLD_WITHIN};

/// A watch that was cut is made again within this time.
const WATCH_AGAIN_WITHIN: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_millis(500);

/// The caller's watch is cut while its silent peer is replaced: nothing but the new key can tell it.
#[tokio::test]
async fn a_call_that_runs_is_cut_when_its_peer_was_replaced_unseen() {
    let mut row = Row::begin("10a", "#26219 #16652 replaced while the watch is cut");
    let cluster = Cluster::start().await;
    let active = cluster.probe("beta", coordinator()).await;
    active.healthy().await;
    let standby = cluster.probe("beta", coordinator()).await;
    standby.in_state("beta", "StandBy").await;
    let proxy = Proxy::to(cluster.etcd().endpoint().parse().expect("an address"));
    let config = cluster.config().set("etcd.endpoints", vec![proxy.address().to_string()]).set("session.ttl", "60s");
    let config = config.probe("alpha", depends_on(&[("beta", "coordinator")]));
    let caller = Caller::start_with(&cluster, config).await;
    caller.goes_through(unary("beta")).await;
    let (old, new) = (active.server_id("beta").await, standby.server_id("beta").await);
    let running = caller.running(tests::probe::call("beta", CallKind::Hold));
    held(&active.probe("beta").await, 1).await;

    let begin = monotonic();
    caller.truth.cut_off();
    proxy.cut();
    active.sigstop().await;
    let is_active = |seen: &tests::watcher::Seen| seen.server_id() == Some(new) && seen.key.ends_with("/beta");
    caller.watcher().sees(begin, is_active).await;
    assert!(!running.is_finished(), "nobody has told the caller");
    row.pause(0..300).await;
    proxy.heal();
    caller.truth.healed();
    let healed = monotonic();
    let (at, cut) = within(LIMIT, running).await.expect("no panic");
    assert_eq!(cut.reason, "PEER_REPLACED", "{cut:?}");
    let took = at.saturating_sub(healed);
    assert!(took <= WATCH_AGAIN_WITHIN, "cut {took:?} after the watch could be made again");
    let (told, _) = caller.told(begin, "replaced", old).await;
    let apart = told.saturating_sub(at).max(at.saturating_sub(told));
    assert!(apart <= TOLD_WITHIN, "cut at {at:?}, told at {told:?}");
    let mut tally = Tally::default();
    let through = caller.goes_through(unary_within("beta", DEADLINE)).await;
    row.ready_after_within(through.saturating_sub(healed), WATCH_AGAIN_WITHIN);
    for _ in 0..20 {
        let seen = caller.call(unary("beta")).await;
        assert_eq!(seen.server_id, new, "{seen:?}");
        tally.note(seen);
    }
    tally.assert_none_failed();
    row.calls(&tally);
    active.cont();
    caller.truth.finish();
    row.end();
}

#[tokio::test]
async fn another_process_at_the_same_address_is_never_taken_for_the_one_before() {
    let mut row = Row::begin("10b", "#26219 #16652 replaced at the same address");
    let cluster = Cluster::start().await;
    let port = Port::reserve();
    let config = cluster.config().set("server.listen", port.address().to_string());
    let beta = cluster.host(config.probe("beta", coordinator())).await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "coordinator")])).await;
    beta.healthy().await;
    caller.goes_through(unary("beta")).await;
    let mut tally = Tally::default();
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
        let old = beta.server_id("beta").await;
        let running = caller.running(tests::probe::call("beta", CallKind::Hold));
        held(&beta.probe("beta").await, 1).await;
        row.pause(0..100).await;
        let begin = monotonic();
        beta.kill9();
        caller.truth.ended("beta", old);
        let new = beta.restart().await.server_id("beta").await;
        let (at, cut) = within(LIMIT, running).await.expect("no panic");
        assert!(["LINK_LOST", "SESSION_GONE", "PEER_REPLACED"].contains(&cut.reason.as_str()), "{cut:?}");
        row.cut_after(at.saturating_sub(begin));
        let appeared = caller.appears(begin, new).await.at;
        row.ready_after(caller.goes_through(unary("beta")).await.saturating_sub(appeared));
        let seen = caller.call(unary("beta")).await;
        assert_eq!(seen.server_id, new, "{seen:?}");
        tally.note(seen);
        let refused = caller.call(unary_to("beta", old)).await;
        assert!(["SESSION_GONE", "PEER_REPLACED"].contains(&refused.reason.as_str()), "{refused:?}");
        tally.note(refused);
        caller.told(begin, "online", new).await;
    }
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

/// Its old key would live for a minute.
#[tokio::test]
async fn a_stale_key_of_its_own_keeps_no_coordinator_from_coming_back() {
    let mut row = Row::begin("11", "#33421 #28063 stale key at a restart");
    let cluster = Cluster::start().await;
    let port = Port::reserve();
    let config = cluster.config().set("server.listen", port.address().to_string()).set("session.ttl", "60s");
    let beta = cluster.host(config.probe("beta", coordinator())).await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "coordinator")])).await;
    beta.healthy().await;
    caller.goes_through(unary("beta")).await;
    let calls = Calls::begin(&caller.probe, unary_within("beta", DEADLINE));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
        let old = beta.server_id("beta").await;
        row.pause(0..200).await;
        beta.kill9();
        caller.truth.ended("beta", old);
        let (begin, started) = (monotonic(), Instant::now());
        let new = beta.restart().await.healthy().await.server_id("beta").await;
        assert!(started.elapsed() < Duration::from_secs(5), "Healthy after {:?}", started.elapsed());
        assert_ne!(old, new, "another process, another id");
        let appeared = caller.appears(begin, new).await.at;
        row.ready_after(caller.goes_through(unary("beta")).await.saturating_sub(appeared));
    }
    let tally = calls.end().await;
    tally.assert_ended_within(DEADLINE);
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

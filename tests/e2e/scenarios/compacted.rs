//! What happened while the watch was cut, and etcd threw away what it could have told of it.

use std::time::Duration;

use tests::clock::monotonic;
use tests::probe::node;
use tests::proxy::Proxy;
use tests::{Cluster, LIMIT, eventually, holds};

use super::caller::{Caller, depends_on, unary_to};
use super::calls::Calls;
use super::row::Row;

/// A watch that was cut is made again, and its list taken, within this time.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn after_a_compaction_the_table_is_that_of_etcd_and_no_link_is_left_over() {
    let mut row = Row::begin("12", "#46397 #36554 compacted while the watch is cut");
    let cluster = Cluster::with_own_etcd().await;
    let proxy = Proxy::to(cluster.etcd().endpoint().parse().expect("an address"));
    let config = cluster.config().set("etcd.endpoints", vec![proxy.address().to_string()]).set("session.ttl", "60s");
    let caller = Caller::start_with(&cluster, config.probe("alpha", depends_on(&[("beta", "node")]))).await;
    let [stays, goes, moves] = [(); 3].map(|()| cluster.spawn(cluster.config().probe("beta", node())));
    let mut ids = Vec::new();
    for host in [&stays, &goes, &moves] {
        ids.push(host.healthy().await.server_id("beta").await);
    }
    caller.linked_to("beta", ids.clone()).await;
    let calls = Calls::begin(&caller.probe, unary_to("beta", ids[0]));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(3), Duration::from_secs(20)) {
        row.pause(0..200).await;
        let mut former = vec![moves.address().await];
        caller.truth.cut_off();
        proxy.cut();
        let begin = monotonic();
        let old = moves.server_id("beta").await;
        moves.kill9();
        caller.truth.ended("beta", old);
        let mut now = vec![ids[0], moves.restart().await.server_id("beta").await];
        if row.chance().bool() {
            former.push(goes.address().await);
            let old = goes.server_id("beta").await;
            assert!(goes.stop().await.success(), "it stops in good order");
            caller.truth.ended("beta", old);
            goes.restart().await;
        }
        now.push(goes.server_id("beta").await);
        for id in &now[1..] {
            caller.watcher().sees(Duration::ZERO, |seen| seen.server_id() == Some(*id)).await;
        }
        caller.watcher().sees(begin, |seen| seen.is_delete()).await;
        cluster.etcd().compact().await;
        proxy.heal();
        caller.truth.healed();
        let healed = monotonic();
        caller.linked_to("beta", now).await;
        row.ready_after_within(monotonic().saturating_sub(healed), LISTED_WITHIN);
        for host in [&stays, &goes, &moves] {
            assert_eq!(caller.host.connected_to(&host.address().await), 1, "one link to each");
        }
        for address in former {
            eventually(LIMIT, async || holds(caller.host.connected_to(&address) == 0, "a link is left over")).await;
        }
    }
    let view = caller.host.connections().await;
    let restarts = view["discovery"].to_string();
    assert!(restarts.contains("compacted"), "its watch went on without a list: {restarts}");
    let tally = calls.end().await;
    tally.assert_none_failed();
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

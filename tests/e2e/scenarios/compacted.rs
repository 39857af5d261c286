//! What happened while watches were cut, and etcd threw away what it could have told of it.

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
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(20)) {
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

/// All leases run out while nobody can renew them, and the caller is the first to see what etcd has left: nobody. But they answer.
#[tokio::test]
async fn peers_that_lost_their_keys_and_still_answer_are_suspects_whose_calls_go_on() {
    let mut row = Row::begin("12b", "#46397 #36554 all keys lost unseen, peers alive");
    let cluster = Cluster::with_own_etcd().await;
    let etcd = || Proxy::to(cluster.etcd().endpoint().parse().expect("an address"));
    let (own, theirs) = (etcd(), etcd());
    let through = |proxy: &Proxy| cluster.config().set("etcd.endpoints", vec![proxy.address().to_string()]);
    let config = through(&own).set("session.ttl", "60s").probe("alpha", depends_on(&[("beta", "node")]));
    let caller = Caller::start_with(&cluster, config).await;
    let nodes = [(); 3].map(|()| cluster.spawn(through(&theirs).probe("beta", node())));
    let mut ids = Vec::new();
    for host in &nodes {
        ids.push(host.healthy().await.server_id("beta").await);
    }
    caller.linked_to("beta", ids.clone()).await;
    let loops: Vec<_> = ids.iter().map(|id| Calls::begin(&caller.probe, unary_to("beta", *id))).collect();
    caller.truth.cut_off();
    own.cut();
    theirs.cut();
    eventually(LIMIT, async || {
        let left = cluster.sessions("beta").await;
        holds(left.is_empty(), left)
    })
    .await;
    cluster.etcd().compact().await;
    row.pause(0..200).await;
    own.heal();
    caller.truth.healed();
    eventually(LIMIT, async || {
        let view = caller.dependency("beta").await;
        let suspects = view["peers"].as_array().into_iter().flatten().filter(|peer| peer["suspect"] == true).count();
        holds(suspects == ids.len(), view)
    })
    .await;
    row.pause(500..1500).await;
    let healed = monotonic();
    theirs.heal();
    eventually(LIMIT, async || {
        let view = caller.dependency("beta").await;
        let again =
            view["events"].as_array().into_iter().flatten().filter(|one| one["event"] == "reregistered").count();
        holds(again == ids.len(), view)
    })
    .await;
    row.ready_after_within(monotonic().saturating_sub(healed), LISTED_WITHIN);
    caller.linked_to("beta", ids.clone()).await;
    for calls in loops {
        let tally = calls.end().await;
        tally.assert_none_failed();
        row.calls(&tally);
    }
    for host in &nodes {
        assert_eq!(caller.host.connected_to(&host.address().await), 1, "the link that there was");
    }
    caller.truth.finish();
    row.end();
}

//! Nodes that are taken away and are there again, others and more of them.

use tests::clock::monotonic;
use tests::probe::node;
use tests::{Cluster, LIMIT, eventually, holds};

use super::caller::{Caller, depends_on, node_key, unary, unary_to};
use super::calls::Tally;
use super::row::{CUT_WITHIN, Row};
use super::trap::Trap;

#[tokio::test]
async fn from_two_nodes_to_none_to_six() {
    let mut row = Row::begin("08", "#7125 scaled 2 -> 0 -> 6");
    let cluster = Cluster::start().await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "node")])).await;
    let two = [cluster.probe("beta", node()).await, cluster.probe("beta", node()).await];
    let mut ids = Vec::new();
    for host in &two {
        ids.push(host.healthy().await.server_id("beta").await);
    }
    caller.linked_to("beta", ids.clone()).await;
    let mut tally = Tally::default();
    let mut traps = Vec::new();
    for (host, id) in two.iter().zip(ids) {
        let (begin, address) = (monotonic(), host.address().await);
        // Some are taken away, some die.
        if row.chance().bool() {
            host.stop().await;
        } else {
            host.kill9();
        }
        caller.truth.ended("beta", id);
        let trap = Trap::at(&address);
        row.pause(0..300).await;
        tally.note(caller.call(unary("beta")).await);
        let key = node_key(&cluster, "beta", id);
        let deleted = caller.watcher().sees(begin, |seen| seen.is_delete() && seen.key == key).await;
        traps.push((deleted.at, trap));
    }
    caller.linked_to("beta", vec![]).await;
    let refused = caller.call(unary("beta")).await;
    assert_eq!(refused.reason, "NO_SUCH_PEER", "{refused:?}");

    let begin = monotonic();
    let six = [(); 6].map(|()| cluster.spawn(cluster.config().probe("beta", node())));
    let mut ids = Vec::new();
    for host in &six {
        let id = host.listening().await.server_id("beta").await;
        let appeared = caller.appears(begin, id).await.at;
        // Not when this test came to call it: that waits for the others' start too.
        let (online, _) = caller.told(begin, "online", id).await;
        row.ready_after(online.saturating_sub(appeared));
        caller.goes_through(unary_to("beta", id)).await;
        ids.push(id);
    }
    caller.linked_to("beta", ids).await;
    for host in &six {
        assert_eq!(caller.host.connected_to(&host.address().await), 1, "one link to each");
    }
    for (deleted, trap) in &traps {
        let late: Vec<_> = trap.visits().into_iter().filter(|at| *at > *deleted + CUT_WITHIN).collect();
        assert!(late.is_empty(), "dialled after its DELETE at {deleted:?}: {late:?}");
        let address = trap.address().to_string();
        eventually(LIMIT, async || holds(caller.host.connected_to(&address) == 0, "a link to one that has gone")).await;
    }
    for _ in 0..60 {
        tally.note(caller.call(unary("beta")).await);
    }
    row.calls(&tally);
    caller.truth.finish();
    row.end();
}

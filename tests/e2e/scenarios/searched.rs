//! A collection is searched while the nodes that hold it are killed, each coming back elsewhere.

use std::time::Duration;

use tests::clock::monotonic;
use tests::cluster::TTL_SECONDS;
use tests::truth::Truth;
use tests::{Host, LIMIT, eventually, holds};

use super::caller::node_key;
use super::row::{CUT_WITHIN, Row};
use super::trap::Trap;
use crate::search::reference::parts;
use crate::search::scene::Scene;
use crate::search::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(2);

/// Kills a node, and starts it again elsewhere. Gives the trap at its old address, and when its DELETE was received.
async fn moved(row: &mut Row, scene: &Scene, node: &Host, truth: &Truth) -> (Duration, Trap) {
    let (id, address) = (node.server_id("querynode").await, node.address().await);
    let killed = monotonic();
    node.kill9();
    truth.ended("querynode", id);
    let trap = Trap::at(&address);
    row.pause(0..300).await;
    let begin = monotonic();
    let new = node.restart().await.server_id("querynode").await;
    let appeared = truth.watcher().sees(begin, |seen| seen.server_id() == Some(new)).await.at;
    eventually(LIMIT, async || {
        let linked = linked(scene).await;
        holds(linked.contains(&new), linked)
    })
    .await;
    row.ready_after(monotonic().saturating_sub(appeared));
    let key = node_key(&scene.cluster, "querynode", id);
    let deleted = truth.watcher().sees(killed, |seen| seen.is_delete() && seen.key == key).await;
    (deleted.at, trap)
}

/// The ids of the nodes to which the coordinator has a link that is ready.
async fn linked(scene: &Scene) -> Vec<i64> {
    let view = scene.querycoord.connections().await;
    let nodes = view["dependencies"].as_array().into_iter().flatten().find(|role| role["role"] == "querynode").cloned();
    let peers = nodes.expect("it depends on nodes")["peers"].as_array().cloned().unwrap_or_default();
    let ready = peers.iter().filter(|peer| peer["link"] == "ready");
    ready.filter_map(|peer| peer["server_id"].as_i64()).collect()
}

#[tokio::test]
async fn a_collection_is_searched_while_its_nodes_are_killed_and_come_back_elsewhere() {
    let mut row = Row::begin("02", "#6098 search while nodes die and move");
    let (scene, collection) = Scene::of(parts(row.chance(), [100, 100], 8)).await;
    let question = [collection.any_question(row.chance(), 4, 10)];
    let truth = Truth::beside(&scene.querycoord, &scene.cluster).await;
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &question, clients: 1, deadline: DEADLINE };
    let mut dice = row.chance().fork();
    let moves = async {
        let mut traps = Vec::new();
        row.faults_begin();
        while !row.is_over(Duration::from_secs(3), Duration::from_secs(22)) {
            row.pause(0..400).await;
            let node = scene.node(row.chance().usize(..2));
            traps.push(moved(&mut row, &scene, &node, &truth).await);
        }
        traps
    };
    let (tally, traps) = searches.during(&mut dice, moves).await;
    tally.assert_right();
    row.searches(&tally);

    let mut now = Vec::new();
    for node in scene.nodes() {
        now.push(node.server_id("querynode").await);
    }
    now.sort_unstable();
    eventually(LIMIT, async || {
        let linked = linked(&scene).await;
        holds(linked == now, linked)
    })
    .await;
    // Nobody calls LoadCollection: what was lost is loaded again by itself.
    scene.whole(Duration::from_secs(TTL_SECONDS + 5), &[(&collection, 1)]).await;
    scene.searches(&question[0]).await;
    for (deleted, trap) in &traps {
        let late: Vec<_> = trap.visits().into_iter().filter(|at| *at > *deleted + CUT_WITHIN).collect();
        assert!(late.is_empty(), "dialled after its DELETE at {deleted:?}: {late:?}");
        let address = trap.address().to_string();
        eventually(LIMIT, async || holds(scene.querycoord.connected_to(&address) == 0, "a link to a former address"))
            .await;
    }
    scene.nobody_has_ended();
    truth.finish();
    row.end();
}

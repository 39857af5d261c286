//! A collection is searched while the nodes that hold it are killed, each coming back elsewhere.

use std::time::{Duration, Instant};

use probe_plugin::v1::CallResponse;
use proto::querycoord::v1::LoadCollectionRequest;
use tests::clock::monotonic;
use tests::truth::Truth;
use tests::vectors::Vectors;
use tests::{Host, LIMIT, eventually, holds};
use tokio::sync::watch;

use super::caller::node_key;
use super::calls::Tally;
use super::row::{CUT_WITHIN, Row};
use super::trap::Trap;
use crate::search::scene::{NAME, Scene, queries, two_parts};

const DEADLINE: Duration = Duration::from_secs(2);

/// Searches until it is told to end.
async fn search(scene: &Scene, queries: &Vectors, mut end: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    while !*end.borrow_and_update() {
        let begin = Instant::now();
        let answer = scene.search_within(queries, DEADLINE).await;
        let status = answer.err();
        tally.note(CallResponse {
            code: status.as_ref().map_or(0, |status| status.code() as i32),
            message: status.map(|status| status.message().to_owned()).unwrap_or_default(),
            elapsed_us: u64::try_from(begin.elapsed().as_micros()).expect("a short time"),
            ..CallResponse::default()
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tally
}

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
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    let truth = Truth::beside(&scene.querycoord, &scene.cluster).await;
    let (end, ends) = watch::channel(false);
    let moves = async {
        let mut traps = Vec::new();
        row.faults_begin();
        while !row.is_over(Duration::from_secs(3), Duration::from_secs(22)) {
            row.pause(0..400).await;
            let node = &scene.nodes[row.chance().usize(..2)];
            traps.push(moved(&mut row, &scene, node, &truth).await);
        }
        end.send_replace(true);
        traps
    };
    let (tally, traps) = tokio::join!(search(&scene, &queries, ends), moves);
    tally.assert_ended_within(DEADLINE);
    row.calls(&tally);

    let mut now = vec![scene.nodes[0].server_id("querynode").await, scene.nodes[1].server_id("querynode").await];
    now.sort_unstable();
    eventually(LIMIT, async || {
        let linked = linked(&scene).await;
        holds(linked == now, linked)
    })
    .await;
    // What a new load needs is there, so it is not asked for twice.
    let request = LoadCollectionRequest { collection_name: NAME.to_owned(), replica_number: 0 };
    scene.querycoord.querycoord().await.load_collection(request).await.expect("a new load succeeds");
    let answer = scene.search_within(&queries, DEADLINE).await.expect("the last search succeeds");
    scene.assert_nearest(&queries, &answer);
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

//! Nodes that are stopped in good order cost no search.

use std::time::{Duration, Instant};

use proto::rootcoord::v1::MetricType;
use tests::{Host, LIMIT, short_or_full};

use super::held::held_by;
use super::reference::parts;
use super::scene::{NAME, Scene, dice};
use super::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(5);

/// A node goes as soon as it is empty: well within `shutdown.grace`, which is 15 s here.
const STOP_LIMIT: Duration = Duration::from_secs(10);

async fn stops(node: &Host) {
    let begin = Instant::now();
    assert!(node.stop().await.success());
    assert!(begin.elapsed() < STOP_LIMIT, "it took {:?}", begin.elapsed());
}

#[tokio::test]
async fn nodes_that_stop_one_after_the_other_cost_no_failed_and_no_partial_answer() {
    let mut dice = dice();
    let scene = Scene::start(3).await;
    let mut collections = Vec::new();
    for (name, replicas) in [("one", 1), ("two", 2)] {
        let sizes: Vec<_> = (0..7).map(|_| dice.usize(20..200)).collect();
        collections.push(scene.create(name, MetricType::L2, parts(&mut dice, sizes, 12)).await);
        scene.load(name, replicas).await.expect("a loaded collection");
    }
    let questions: Vec<_> = collections.iter().map(|collection| collection.any_question(&mut dice, 4, 10)).collect();
    let wanted = [(&*collections[0], 1), (&*collections[1], 2)];
    scene.whole(LIMIT, &wanted).await;

    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 4, deadline: DEADLINE };
    let stopping = async {
        for _ in 0..short_or_full(1, 5) {
            for node in scene.nodes() {
                stops(&node).await;
                node.restart().await.healthy().await;
                scene.links(3).await;
            }
        }
    };
    let (tally, ()) = searches.during(&mut dice, stopping).await;
    tally.print("each node stopped in turn");
    tally.assert_all_whole();
    scene.whole(LIMIT, &wanted).await;
}

#[tokio::test]
async fn a_node_without_any_other_does_not_wait_for_its_grace() {
    let mut dice = dice();
    let scene = Scene::start(1).await;
    let collection = scene.create(NAME, MetricType::Ip, parts(&mut dice, [50, 60], 4)).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    let question = collection.any_question(&mut dice, 1, 3);
    scene.searches(&question).await;
    // Nothing can be moved away, and it is told so.
    stops(&scene.node(0)).await;
    // What was wanted is still wanted.
    scene.node(0).restart().await.healthy().await;
    scene.answers(LIMIT, &question).await;
    assert_eq!(held_by(&scene.node(0)).await.expect("it answers"), collection.segment_ids());
}

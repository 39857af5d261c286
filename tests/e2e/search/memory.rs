//! A node whose memory is full: it refuses, another is taken, and people are told.

use proto::rootcoord::v1::MetricType;
use tests::{LIMIT, eventually, holds};
use tonic::Code;

use super::held::held_by;
use super::reference::parts;
use super::scene::{NAME, Scene, dice};

#[tokio::test]
async fn a_node_that_is_full_refuses_and_another_is_taken() {
    let mut dice = dice();
    let scene = Scene::start(1).await;
    // Room for none of these, of 51 kB each.
    let full = scene.spawn_node(|config| config.set("component.querynode.config.memory_limit", "40KiB"));
    full.healthy().await;
    scene.links(2).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [200; 4], 64)).await;
    scene.load(NAME, 1).await.expect("the other has room");
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    assert_eq!(held_by(&scene.node(0)).await.expect("it answers"), collection.segment_ids());
    let question = collection.any_question(&mut dice, 2, 10);
    scene.searches(&question).await;

    // Two replicas need both.
    let refused = scene.load(NAME, 2).await.expect_err("one of the two is full");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("memory"), "{refused:?}");
    let id = full.server_id("querynode").await;
    eventually(LIMIT, async || {
        let told = scene.distribution().await?;
        let node = told.nodes.iter().find(|node| node.server_id == id).ok_or("it is not shown")?;
        holds(node.failed_loads > 0 && node.last_load_error.contains("memory"), format!("{told:#?}"))
    })
    .await;
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    scene.searches(&question).await;
}

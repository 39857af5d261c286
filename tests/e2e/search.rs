//! The main job: three components and two QueryNodes, each in a process of its own, search real vectors from files.

pub mod scene;
mod trace;

use std::time::{Duration, Instant};

use proto::querycoord::v1::LoadCollectionRequest;
use proto::rootcoord::v1::{CreateCollectionRequest, DescribeCollectionRequest, MetricType};
use tests::cluster::TTL_SECONDS;
use tests::{LIMIT, eventually, holds};
use tonic::Code;

use scene::{NAME, Scene, queries, two_parts};

const DIMENSION: usize = 128;

#[tokio::test]
async fn a_hundred_thousand_vectors_are_searched_exactly() {
    let parts = two_parts(100_000, DIMENSION);
    let queries = queries(100, &parts);
    let scene = Scene::of(parts).await;
    let answer = scene.search(&queries).await.expect("an answer");
    scene.assert_nearest(&queries, &answer);
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_restarted_rootcoord_is_called_without_a_restart_of_its_callers() {
    let scene = Scene::of(two_parts(200, 8)).await;
    scene.rootcoord.kill9();
    scene.rootcoord.restart().await.healthy().await;
    // It asks RootCoord for the collection.
    eventually(Duration::from_secs(1), || async {
        let request = LoadCollectionRequest { collection_name: NAME.to_owned(), replica_number: 0 };
        scene.querycoord.querycoord().await.load_collection(request).await
    })
    .await;
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_killed_querynode_makes_answers_partial_within_its_ttl() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.nodes[0].kill9();
    let killed = Instant::now();

    // Never whole from here on; an answer is partial or the call fails.
    let partial = eventually(LIMIT, || async {
        match scene.search(&queries).await {
            Ok(answer) => holds(answer.partial, answer).map_err(|answer| panic!("a whole answer: {answer:?}")),
            Err(status) => Err(status),
        }
    });
    partial.await;
    assert!(killed.elapsed() < Duration::from_secs(TTL_SECONDS + 1), "partial after {:?}", killed.elapsed());
    let answer = scene.search(&queries).await.expect("a partial answer");
    assert_eq!(answer.missing.len(), 1, "{answer:?}");

    for host in [&scene.rootcoord, &scene.querycoord, &scene.nodes[1]] {
        host.assert_running();
    }
}

#[tokio::test]
async fn a_stopped_querynodes_calls_end_within_its_ttl() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    // It neither answers nor closes its connections: only its session's end tells.
    scene.nodes[0].sigstop().await;
    let stopped = Instant::now();
    let ended = scene.search(&queries).await;
    let limit = Duration::from_secs(TTL_SECONDS + 1) + ETCD_DELAY;
    assert!(stopped.elapsed() < limit, "ended after {:?}: {ended:?}", stopped.elapsed());
    if let Ok(answer) = ended {
        assert!(answer.partial, "{answer:?}");
    }
    scene.nodes[0].cont();
}

/// etcd removes a key up to half a second after its lease ran out.
const ETCD_DELAY: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_returned_querynode_makes_answers_whole_again() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.nodes[0].kill9();
    scene.nodes[0].restart().await.healthy().await;
    eventually(LIMIT, || async {
        // Its memory went with it: the collection is loaded again, on whatever node is there.
        let request = LoadCollectionRequest { collection_name: NAME.to_owned(), replica_number: 0 };
        scene.querycoord.querycoord().await.load_collection(request).await?;
        let answer = scene.search(&queries).await?;
        if answer.partial { Err(tonic::Status::unknown(format!("{:?}", answer.missing))) } else { Ok(answer) }
    })
    .await;
    let answer = scene.search(&queries).await.expect("an answer");
    scene.assert_nearest(&queries, &answer);
}

#[tokio::test]
async fn a_restarted_querycoord_still_knows_what_is_loaded() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.querycoord.kill9();
    scene.querycoord.restart().await.healthy().await;
    let answer = eventually(LIMIT, || async {
        let answer = scene.search(&queries).await?;
        if answer.partial { Err(tonic::Status::unknown(format!("{:?}", answer.missing))) } else { Ok(answer) }
    })
    .await;
    scene.assert_nearest(&queries, &answer);
}

#[tokio::test]
async fn a_restarted_rootcoord_still_knows_its_collections() {
    let scene = Scene::of(two_parts(200, 8)).await;
    let describe = DescribeCollectionRequest { collection_name: NAME.to_owned(), collection_id: 0 };
    let before = scene.rootcoord.rootcoord().await.describe_collection(describe.clone()).await.expect("it is there");
    scene.rootcoord.kill9();
    scene.rootcoord.restart().await.healthy().await;
    let after = scene.rootcoord.rootcoord().await.describe_collection(describe).await.expect("it is there still");
    assert_eq!(before.into_inner(), after.into_inner());

    let again =
        CreateCollectionRequest { collection_name: NAME.to_owned(), dimension: 8, metric_type: MetricType::L2.into() };
    let taken = scene.rootcoord.rootcoord().await.create_collection(again).await.expect_err("the name is taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    drop(scene.cluster);
}

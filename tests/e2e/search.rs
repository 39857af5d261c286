//! The main job: three components, each host a process of its own, search real vectors from files.
//!
//! [`scene`] has the hosts, [`reference`] what is right, [`searches`] clients that search all the while, [`held`] what the
//! nodes hold. Each other file is about one thing that has to hold.

mod bad_files;
mod bad_input;

mod files;
mod held;
mod kills;
mod limits;
mod loads;
mod memory;
mod moves;
mod random;
pub mod reference;
pub mod scene;
pub mod searches;
mod stops;
mod trace;
mod unreachable;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::rootcoord::v1::{CreateCollectionRequest, DescribeCollectionRequest, MetricType};
use tests::cluster::TTL_SECONDS;
use tests::{LIMIT, eventually};
use tonic::Code;

use reference::{Collection, Question, parts};
use scene::{NAME, Scene, dice};

/// Two nodes, a part of 100 vectors on each, and a question.
async fn two_parts() -> (Scene, Arc<Collection>, Question) {
    let mut dice = dice();
    let (scene, collection) = Scene::of(parts(&mut dice, [100, 100], 8)).await;
    let question = collection.any_question(&mut dice, 4, 10);
    (scene, collection, question)
}

#[tokio::test]
async fn a_hundred_thousand_vectors_are_searched_exactly() {
    let mut dice = dice();
    let (scene, collection) = Scene::of(parts(&mut dice, [50_000, 50_000], 128)).await;
    scene.searches(&collection.any_question(&mut dice, 50, 10)).await;
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_restarted_rootcoord_is_called_without_a_restart_of_its_callers() {
    let (scene, _, _) = two_parts().await;
    scene.rootcoord.kill9();
    scene.rootcoord.restart().await.healthy().await;
    // It asks RootCoord for the collection.
    eventually(Duration::from_secs(1), || scene.load(NAME, 0)).await;
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_killed_querynode_that_stays_away_leaves_its_segments_to_the_others() {
    let (scene, collection, question) = two_parts().await;
    scene.node(0).kill9();
    // Whole only once the other has loaded it; meanwhile an answer says what it lacks, or the call fails.
    scene.answers(Duration::from_secs(TTL_SECONDS + 5), &question).await;
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    for host in [&scene.rootcoord, &scene.querycoord, &*scene.node(1)] {
        host.assert_running();
    }
}

#[tokio::test]
async fn a_stopped_querynodes_calls_end_within_its_ttl() {
    let (scene, _, question) = two_parts().await;
    // It neither answers nor closes its connections: only its session's end tells.
    scene.node(0).sigstop().await;
    let stopped = Instant::now();
    let ended = scene.search(&question).await;
    let limit = Duration::from_secs(TTL_SECONDS + 1) + ETCD_DELAY;
    assert!(stopped.elapsed() < limit, "ended after {:?}: {ended:?}", stopped.elapsed());
    if let Ok(answer) = ended {
        question.check(&answer).expect("right for what was searched");
    }
    scene.node(0).cont();
}

/// etcd removes a key up to half a second after its lease ran out.
const ETCD_DELAY: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_returned_querynode_makes_answers_whole_again() {
    let (scene, collection, question) = two_parts().await;
    scene.node(0).kill9();
    scene.node(0).restart().await.healthy().await;
    // Its memory went with it: its segments are loaded again, on whatever node is there, and nobody calls LoadCollection.
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    scene.searches(&question).await;
}

#[tokio::test]
async fn a_restarted_querycoord_still_knows_what_is_loaded() {
    let (scene, collection, question) = two_parts().await;
    let before = scene.held().await.expect("the nodes answer");
    scene.querycoord.kill9();
    scene.querycoord.restart().await.healthy().await;
    scene.answers(LIMIT, &question).await;
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    assert_eq!(scene.held().await.expect("the nodes answer"), before, "nothing was to be moved");
}

#[tokio::test]
async fn a_restarted_rootcoord_still_knows_its_collections() {
    let (scene, _, _) = two_parts().await;
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
}

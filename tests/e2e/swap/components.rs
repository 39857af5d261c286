//! RootCoord, QueryCoord and QueryNodes, swapped back and forth under searches: each answer is whole and right, and no id or
//! timestamp comes twice or goes back.

use std::sync::Arc;
use std::time::Duration;

use componenthost::swap::Outcome;
use fastrand::Rng;
use proto::querycoord::v1::ReleaseCollectionRequest;
use proto::rootcoord::v1::root_coord_client::RootCoordClient;
use proto::rootcoord::v1::{AllocIdRequest, AllocTimestampRequest, DescribeCollectionRequest, MetricType};
use serde_json::json;
use tests::binary::{plugin_file, second};
use tests::load::Load;
use tests::numbers::Numbers;
use tests::vectors::Vectors;
use tests::{Host, LIMIT, patient, short_or_full};
use tonic::transport::Channel;

use crate::search::reference::{Collection, Question, parts};
use crate::search::scene::{NAME, Scene, Settings, dice};
use crate::search::searches::Searches;
use crate::swap::rig::{AT_ONCE, MANY_SWAPS, text};

/// A search has to come within this on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(10);

/// Two nodes and a collection that is loaded; no session is lost because the machine does much else.
async fn scene(parts: Vec<Vectors>) -> (Scene, Arc<Collection>) {
    let scene = Scene::with(Settings {
        all: vec![("session.ttl", json!("15s")), (MANY_SWAPS.0, json!(MANY_SWAPS.1))],
        ..Settings::nodes(2)
    })
    .await;
    let collection = scene.create(NAME, MetricType::L2, parts).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    (scene, collection)
}

async fn swap(host: &Host, role: &str, to_second: bool) {
    let plugin = if to_second { second(role) } else { role.to_owned() };
    let swapped = host.swap(role, &plugin_file(&plugin), &AT_ONCE).await;
    swapped.assert(Outcome::Committed);
}

/// Each of them, one after the other.
async fn swap_all(scene: &Scene, to_second: bool) {
    swap(&scene.rootcoord, "rootcoord", to_second).await;
    swap(&scene.querycoord, "querycoord", to_second).await;
    for node in scene.nodes() {
        swap(&node, "querynode", to_second).await;
    }
}

async fn ids(client: &RootCoordClient<Channel>, numbers: &Numbers) -> Result<(), String> {
    let floor = numbers.floor();
    let answer = client.clone().alloc_id(AllocIdRequest { count: 7 }).await.map_err(text)?.into_inner();
    let first = u64::try_from(answer.id).map_err(|error| error.to_string())?;
    numbers.take_range(floor, first..first + u64::from(answer.count))
}

async fn timestamps(client: &RootCoordClient<Channel>, numbers: &Numbers) -> Result<(), String> {
    let floor = numbers.floor();
    let answer = client.clone().alloc_timestamp(AllocTimestampRequest { count: 3 }).await.map_err(text)?.into_inner();
    numbers.take_range(floor, answer.timestamp..answer.timestamp + u64::from(answer.count))
}

/// Calls of RootCoord by two clients each.
async fn load<'a>(scene: &'a Scene, given: &'a [Numbers; 2]) -> Load<'a> {
    let client = scene.rootcoord.rootcoord().await;
    let describe = DescribeCollectionRequest { collection_name: NAME.to_owned(), collection_id: 0 };
    (0..2).fold(Load::default(), |load, _| {
        let (of_ids, of_timestamps, of_collections) = (client.clone(), client.clone(), client.clone());
        let describe = describe.clone();
        load.with("ids", async move || ids(&of_ids, &given[0]).await)
            .with("timestamps", async move || timestamps(&of_timestamps, &given[1]).await)
            .with("collections", async move || {
                of_collections.clone().describe_collection(describe.clone()).await.map_err(text).map(drop)
            })
    })
}

/// Searches and calls go on while this does, and none fails.
async fn nobody_notices(scene: &Scene, dice: &mut Rng, questions: &[Question], during: impl Future<Output = ()>) {
    let given = <[Numbers; 2]>::default();
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions, clients: 3, deadline: patient(DEADLINE) };
    let searching = searches.during(dice, during);
    let (tally, (searched, ())) = load(scene, &given).await.during(searching).await;
    searched.print("searches");
    tally.print("RootCoord");
    searched.assert_all_whole();
    tally.assert_none_failed();
    scene.nobody_has_ended();
}

#[tokio::test]
async fn the_three_components_are_swapped_under_searches_and_nobody_notices() {
    let mut dice = dice();
    let (scene, collection) = scene(parts(&mut dice, [300; 6], 16)).await;
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    let questions = [collection.any_question(&mut dice, 4, 10), collection.any_question(&mut dice, 1, 100)];
    let held = scene.held().await.expect("the nodes answer");
    // What is in memory is handed over: nobody reads the files again.
    for segment in &collection.segments {
        std::fs::remove_file(&segment.path).expect("it is there");
    }
    // Four swaps each.
    nobody_notices(&scene, &mut dice, &questions, async {
        for round in 0..short_or_full(10, 250) {
            swap_all(&scene, round % 2 == 0).await;
        }
    })
    .await;
    assert_eq!(scene.held().await.expect("the nodes answer"), held, "nothing was moved");
    for node in scene.nodes() {
        node.only_one_generation_lives("querynode").await;
    }
}

#[tokio::test]
async fn a_component_without_a_state_begins_with_what_is_in_the_metadata() {
    let mut dice = dice();
    let (scene, collection) = scene(parts(&mut dice, [100, 100], 8)).await;
    let question = [collection.any_question(&mut dice, 4, 10)];
    let fresh = [&AT_ONCE[..], &["--state", "fresh"]].concat();
    // Coordinators have all that counts in the metadata; a node would have to read its files again.
    nobody_notices(&scene, &mut dice, &question, async {
        for (role, host) in [("rootcoord", &scene.rootcoord), ("querycoord", &scene.querycoord)] {
            host.swap(role, &plugin_file(&second(role)), &fresh).await.assert(Outcome::Committed);
        }
    })
    .await;
}

#[tokio::test]
async fn loads_and_releases_go_on_while_nodes_and_querycoord_are_swapped() {
    let mut dice = dice();
    let (scene, collection) = scene(parts(&mut dice, [2000; 6], 32)).await;
    let node = scene.node(0);
    let load = Load::default().with("loads and releases", async || {
        scene.load(NAME, 1).await.map_err(text)?;
        let release = ReleaseCollectionRequest { collection_name: NAME.to_owned(), collection_id: 0 };
        scene.querycoord.querycoord().await.release_collection(release).await.map_err(text).map(drop)
    });
    let swaps = async {
        for round in 0..short_or_full(8, 100) {
            swap(&node, "querynode", round % 2 == 0).await;
            swap(&scene.querycoord, "querycoord", round % 2 == 0).await;
        }
    };
    let (tally, ()) = load.during(swaps).await;
    tally.print("QueryCoord");
    tally.assert_none_failed();
    scene.load(NAME, 1).await.expect("it is loaded");
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    scene.searches(&collection.any_question(&mut dice, 4, 10)).await;
}

#[tokio::test]
async fn all_components_are_swapped_at_the_same_time() {
    let mut dice = dice();
    let (scene, collection) = scene(parts(&mut dice, [100, 100], 8)).await;
    let question = [collection.any_question(&mut dice, 4, 10)];
    let nodes = scene.nodes();
    nobody_notices(&scene, &mut dice, &question, async {
        for to_second in [true, false] {
            let swaps = nodes.iter().map(|node| swap(node, "querynode", to_second));
            let coordinators = async {
                tokio::join!(
                    swap(&scene.rootcoord, "rootcoord", to_second),
                    swap(&scene.querycoord, "querycoord", to_second)
                )
            };
            tokio::join!(futures_util::future::join_all(swaps), coordinators);
        }
    })
    .await;
}

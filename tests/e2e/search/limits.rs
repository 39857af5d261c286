//! Limits of a node: its searches, and its callers' time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::rootcoord::v1::MetricType;
use serde_json::json;
use tests::vectors::Vectors;
use tonic::Code;

use super::reference::Question;
use super::scene::{NAME, Scene, Settings};

/// Many comparisons: some seconds of a core.
async fn slow_searches(scene: &Scene) -> Question {
    // What is right is not of interest here, and would take the test long.
    let vectors = Vectors::random(1, 60_000, 128);
    let collection = scene.create(NAME, MetricType::L2, vec![vectors]).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    collection.unjudged(Vectors::random(2, 1_000, 128), 50)
}

fn one_at_a_time() -> Settings {
    Settings {
        // Longer than two of them take on a machine that does much else.
        querycoord: json!({ "search_timeout": "60s" }),
        querynode: json!({ "parallel_searches": 1, "waiting_searches": 1 }),
        ..Settings::nodes(1)
    }
}

#[tokio::test]
async fn more_searches_than_a_node_takes_are_refused() {
    let scene = Scene::with(one_at_a_time()).await;
    let slow = slow_searches(&scene).await;
    let answers = join_all((0..5).map(|_| scene.search(&slow))).await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{refused:?}");
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("searches"), "{status:?}");
    }
    assert!(answers.iter().flatten().all(|answer| !answer.partial));
    // It was not broken by it.
    scene.search(&slow).await.expect("an answer");
}

#[tokio::test]
async fn a_search_ends_on_the_node_when_its_callers_time_is_over() {
    let scene = Scene::with(one_at_a_time()).await;
    let slow = slow_searches(&scene).await;
    let begin = Instant::now();
    scene.search(&slow).await.expect("an answer");
    let whole = begin.elapsed();
    // Much less time than it needs, again and again: the only turn is free each time.
    let deadline = whole / 8;
    let begin = Instant::now();
    for _ in 0..4 {
        let status = scene.querycoord.querycoord().await.search(slow.request(deadline)).await;
        let status = status.expect_err("it takes much longer");
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable), "{status:?}");
    }
    let quick = slow.collection.unjudged(Vectors::random(3, 1, 128), 1);
    scene.search(&quick).await.expect("an answer");
    let took = begin.elapsed();
    assert!(
        took < whole.max(Duration::from_millis(500)),
        "five searches took {took:?}, one that is not ended {whole:?}"
    );
}

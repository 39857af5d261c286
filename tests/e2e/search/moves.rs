//! Segments that are moved: without a gap, and whatever becomes of the coordinator that moves them.

use std::sync::Arc;
use std::time::Duration;

use proto::rootcoord::v1::MetricType;
use serde_json::json;
use tests::cluster::TTL_SECONDS;
use tests::{Host, LIMIT, eventually, holds};

use super::held::held_by;
use super::reference::{Collection, parts};
use super::scene::{NAME, Scene, Settings, dice};
use super::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(3);

/// So many that moving a third of them, one after the other, takes a while.
const SEGMENTS: usize = 36;

/// A coordinator that comes again has to read what it wants and to ask all nodes.
const AGAIN: Duration = Duration::from_secs(TTL_SECONDS + 10);

/// Nodes with many segments of one size, of which few are moved at once.
async fn many_segments(nodes: usize, replicas: u32) -> (Scene, Arc<Collection>, fastrand::Rng) {
    let mut dice = dice();
    let settings = Settings { querycoord: json!({ "max_moves": 1 }), ..Settings::nodes(nodes) };
    let scene = Scene::with(settings).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [40; SEGMENTS], 6)).await;
    scene.load(NAME, replicas).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, replicas as usize)]).await;
    (scene, collection, dice)
}

/// Waits until a node holds some of what it will.
async fn has_begun_to_fill(node: &Host) {
    node.healthy().await;
    eventually(LIMIT, async || {
        let held = held_by(node).await?;
        holds(!held.is_empty(), format!("{held:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_node_that_comes_takes_its_share_without_a_gap() {
    let (scene, collection, mut dice) = many_segments(2, 1).await;
    let questions = [collection.any_question(&mut dice, 3, 10)];
    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };
    let coming = async {
        let node = scene.spawn_node(|config| config);
        has_begun_to_fill(&node).await;
        scene.whole(LIMIT, &[(&collection, 1)]).await;
        // By rows, and all segments have the same: a third each.
        let share = SEGMENTS / 3;
        eventually(LIMIT, async || {
            let held = scene.held().await?;
            let even = held.values().all(|segments| segments.len().abs_diff(share) <= 1);
            holds(held.len() == 3 && even, format!("{held:?}"))
        })
        .await;
        scene.whole(LIMIT, &[(&collection, 1)]).await;
    };
    let (tally, ()) = searches.during(&mut dice, coming).await;
    tally.print("a node came");
    tally.assert_all_whole();
}

#[tokio::test]
async fn the_log_says_how_nodes_stand_and_what_is_loaded_where_and_why() {
    let (scene, collection, _) = many_segments(2, 1).await;
    let node = scene.spawn_node(|config| config);
    has_begun_to_fill(&node).await;
    scene.whole(LIMIT, &[(&collection, 1)]).await;
    let id = node.server_id("querynode").await.to_string();
    let logged = async |message: &str, key: &str, value: &str| {
        let querycoord = &scene.querycoord;
        querycoord.logged(|line| line.message() == message && line.text(key).as_deref() == Some(value)).await
    };
    logged("how a querynode stands", "standing", "Callable").await;
    let moved = logged("a segment is moved, to where fewer rows are", "node", &id).await;
    assert!(moved.field("segment").is_some() && moved.field("from").is_some());
    node.kill9();
    logged("a querynode is gone", "node", &id).await;
    logged("a segment is loaded on one node more", "why", "no querynode that can be called holds it").await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_amid_moves_goes_on_from_there() {
    let (scene, collection, mut dice) = many_segments(2, 1).await;
    let question = collection.any_question(&mut dice, 3, 10);
    let node = scene.spawn_node(|config| config);
    has_begun_to_fill(&node).await;
    scene.querycoord.kill9();
    let moved = held_by(&node).await.expect("it answers").len();
    assert!(moved < SEGMENTS / 3 - 1, "it has moved all {moved} before it was killed");
    scene.querycoord.restart().await.healthy().await;
    // What was loaded is where it was: searches need no move.
    scene.answers(AGAIN, &question).await;
    scene.whole(AGAIN, &[(&collection, 1)]).await;
    let share = SEGMENTS / 3;
    eventually(AGAIN, async || {
        let held = scene.held().await?;
        holds(held.values().all(|segments| segments.len().abs_diff(share) <= 1), format!("{held:?}"))
    })
    .await;
    scene.whole(AGAIN, &[(&collection, 1)]).await;
    scene.searches(&question).await;
}

#[tokio::test]
async fn a_standby_takes_over_amid_moves() {
    let (scene, collection, mut dice) = many_segments(3, 2).await;
    let standby = scene.standby().await;
    let questions = [collection.any_question(&mut dice, 3, 10)];
    let coordinators = vec![&scene.querycoord, &standby];
    let searches = Searches { coordinators, questions: &questions, clients: 2, deadline: DEADLINE };
    let takeover = async {
        let node = scene.spawn_node(|config| config);
        has_begun_to_fill(&node).await;
        scene.querycoord.kill9();
        standby.in_state("querycoord", "Healthy").await;
        scene.whole_at(&standby, AGAIN, &[(&collection, 2)]).await;
    };
    let (tally, ()) = searches.during(&mut dice, takeover).await;
    tally.print("a standby took over");
    // Nobody answers until the session of the killed one has run out; but no answer is wrong, and none lacks a segment.
    tally.assert_right();
    assert!(tally.partial.is_empty(), "{:#?}", tally.partial.first());
    let answer = standby.querycoord().await.search(questions[0].request(DEADLINE)).await.expect("an answer");
    questions[0].assert_whole(answer.get_ref());
}

#[tokio::test]
async fn a_coordinator_that_is_killed_amid_a_load_leaves_nothing_half_loaded() {
    let mut dice = dice();
    let settings = Settings { querycoord: json!({ "max_moves": 1 }), ..Settings::nodes(2) };
    let scene = Scene::with(settings).await;
    let first = scene.create("first", MetricType::L2, parts(&mut dice, [30, 40], 6)).await;
    scene.load("first", 2).await.expect("a loaded collection");
    let second = scene.create("second", MetricType::L2, parts(&mut dice, [40; SEGMENTS], 6)).await;
    let question = second.any_question(&mut dice, 2, 10);
    let before = held_by(&scene.node(0)).await.expect("it answers");
    let kill = async {
        eventually(LIMIT, async || {
            let held = held_by(&scene.node(0)).await?;
            holds(held.len() > before.len(), format!("{held:?}"))
        })
        .await;
        scene.querycoord.kill9();
    };
    let (loaded, ()) = tokio::join!(scene.load("second", 1), kill);
    scene.querycoord.restart().await.healthy().await;
    match loaded {
        // It was done before the kill: then it is kept.
        Ok(_) => scene.answers(AGAIN, &question).await,
        // Nobody was promised anything: nothing of it is kept, or it is loaded as a whole.
        Err(_) => {
            eventually(AGAIN, async || {
                let shown = scene.shown().await?;
                let of_second: usize = match shown.iter().find(|each| each.num_rows == second.rows() as u64) {
                    Some(each) if each.num_whole_segments == each.num_segments => SEGMENTS,
                    Some(each) => return Err(format!("{each:?}")),
                    None => 0,
                };
                let held = scene.held().await?;
                let found = held.values().map(|held| held.len()).sum::<usize>();
                holds(found == first.segments.len() * 2 + of_second, format!("{shown:?} {held:?}"))
            })
            .await;
        }
    }
    scene.load("second", 1).await.expect("a load can be repeated");
    scene.whole(AGAIN, &[(&first, 2), (&second, 1)]).await;
    scene.searches(&question).await;
}

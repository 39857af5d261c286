//! Nodes that are killed again and again, with two replicas of everything.

use std::time::Duration;

use proto::rootcoord::v1::MetricType;
use tests::LIMIT;
use tests::cluster::TTL_SECONDS;

use super::reference::parts;
use super::scene::{NAME, Scene, dice};
use super::searches::Searches;

const DEADLINE: Duration = Duration::from_secs(3);
/// A node is killed so often, for so long.
const EVERY: Duration = Duration::from_secs(2);
const KILLS: usize = 10;

#[tokio::test]
async fn with_two_replicas_kills_every_two_seconds_make_no_answer_wrong_or_late() {
    let mut dice = dice();
    let scene = Scene::start(3).await;
    let sizes: Vec<_> = (0..9).map(|_| dice.usize(20..200)).collect();
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, sizes, 12)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let questions = [collection.any_question(&mut dice, 1, 10), collection.any_question(&mut dice, 8, 100)];

    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };
    let mut choice = dice.fork();
    let kills = async {
        let mut ticks = tokio::time::interval(EVERY);
        for _ in 0..KILLS {
            ticks.tick().await;
            // It comes back at another address, with nothing in its memory.
            scene.node(choice.usize(..3)).restart().await;
        }
        ticks.tick().await;
    };
    let (tally, ()) = searches.during(&mut dice, kills).await;
    tally.print("2 replicas, kill -9 every 2 s");
    tally.assert_right();
    // The last start is two seconds ago.
    let limit = Duration::from_secs(TTL_SECONDS + 5) - EVERY;
    scene.whole(limit, &[(&collection, 2)]).await;
    for question in &questions {
        scene.searches(question).await;
    }
}

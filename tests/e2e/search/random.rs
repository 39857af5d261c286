//! Answers are those of a brute force, for each metric, batch and k, while nodes come and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fastrand::Rng;
use proto::rootcoord::v1::MetricType;
use tests::cluster::TTL_SECONDS;
use tests::{LIMIT, short_or_full};

use super::held::Held;
use super::reference::{Collection, Question, parts};
use super::scene::{Scene, dice};
use super::searches::{Loss, Searches};

const DEADLINE: Duration = Duration::from_secs(4);

/// After a kill all is whole within this time: the session has to end first.
const WHOLE_LIMIT: Duration = Duration::from_secs(TTL_SECONDS + 5);

/// Never fewer nodes than the replicas that are kept.
const LEAST_NODES: usize = 2;
const MOST_NODES: usize = 4;

/// What may be done to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Come,
    Stop,
    StopAndReturn,
    Kill,
    KillAndReturn,
}

impl Act {
    fn any(dice: &mut Rng, nodes: usize) -> Self {
        loop {
            let acts = [Self::Come, Self::Stop, Self::StopAndReturn, Self::Kill, Self::KillAndReturn];
            let act = acts[dice.usize(..acts.len())];
            let fits = match act {
                Self::Come => nodes < MOST_NODES,
                // One is away meanwhile, and the others have to be enough.
                _ => nodes > LEAST_NODES,
            };
            if fits {
                return act;
            }
        }
    }
}

/// The segments of which this node is the only holder.
fn only_at(held: &Held, node: i64) -> BTreeSet<i64> {
    let elsewhere = |segment: &i64| held.iter().any(|(other, held)| *other != node && held.contains(segment));
    held[&node].iter().filter(|segment| !elsewhere(segment)).copied().collect()
}

/// Does one thing to the nodes, waits until all is whole again, and says what was lost meanwhile.
#[expect(clippy::print_stdout, reason = "what was done before a failure")]
async fn one_act(scene: &Scene, dice: &mut Rng, wanted: &[(&Collection, usize)]) -> Option<Loss> {
    let running: Vec<_> = scene.nodes().into_iter().filter(|node| node.is_running()).collect();
    let act = Act::any(dice, running.len());
    let node = &running[dice.usize(..running.len())];
    let id = node.server_id("querynode").await;
    let lost = only_at(&scene.held().await.expect("the nodes answer"), id);
    let (begin, is_kill) = (Instant::now(), matches!(act, Act::Kill | Act::KillAndReturn));
    match act {
        Act::Come => drop(scene.spawn_node(|config| config)),
        Act::Stop | Act::StopAndReturn => assert!(node.stop().await.success()),
        Act::Kill | Act::KillAndReturn => node.kill9(),
    }
    if matches!(act, Act::StopAndReturn | Act::KillAndReturn) {
        node.restart().await;
    }
    for node in scene.nodes().iter().filter(|node| node.is_running()) {
        node.healthy().await;
    }
    scene.whole(WHOLE_LIMIT, wanted).await;
    println!("{act:?} of node {id}, whole after {:?}", begin.elapsed());
    is_kill.then(|| Loss { time: begin..Instant::now(), segments: lost })
}

/// Questions of several batches and k in each of these collections.
fn questions(dice: &mut Rng, collections: &[std::sync::Arc<Collection>]) -> Vec<Question> {
    let asked = [(1, 1), (1, 16_384), (2, 10), (7, 100), (33, 3)];
    let each = collections.iter().flat_map(|collection| asked.map(|(batch, topk)| (collection, batch, topk)));
    each.map(|(collection, batch, topk)| collection.any_question(dice, batch, topk)).collect()
}

#[tokio::test]
async fn answers_are_those_of_a_brute_force_while_nodes_come_and_go() {
    let mut dice = dice();
    let scene = Scene::start(3).await;
    let mut collections = Vec::new();
    for (name, metric, replicas) in
        [("one", MetricType::L2, 1), ("two", MetricType::Ip, 2), ("three", MetricType::Cosine, 2)]
    {
        let (dimension, rows) = (dice.usize(1..40), [1, 2, dice.usize(3..100), dice.usize(100..300), 300]);
        let parts = parts(&mut dice, rows, dimension);
        collections.push(scene.create(name, metric, parts).await);
        scene.load(name, replicas).await.expect("a loaded collection");
    }
    let wanted: Vec<_> = collections.iter().map(AsRef::as_ref).zip([1, 2, 2]).collect();
    scene.whole(LIMIT, &wanted).await;
    let questions = questions(&mut dice, &collections);
    for question in &questions {
        scene.searches(question).await;
    }

    let searches =
        Searches { coordinators: vec![&scene.querycoord], questions: &questions, clients: 3, deadline: DEADLINE };
    let mut acts_dice = dice.fork();
    let acts = async {
        let (begin, mut losses) = (Instant::now(), Vec::new());
        while begin.elapsed() < short_or_full(Duration::from_secs(6), Duration::from_secs(90)) {
            losses.extend(one_act(&scene, &mut acts_dice, &wanted).await);
        }
        losses
    };
    let (tally, losses) = searches.during(&mut dice, acts).await;
    tally.print("while nodes came and went");
    tally.assert_whole_but_for(&losses);
    for question in &questions {
        scene.searches(question).await;
    }
}

//! Random segments, replicas and faults: the answer is whole, or lacks just what no holder answers for.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};

use super::nodes::{Nodes, Way, nearest, serving};
use crate::search::tries::MOST_TIMES;

/// Long enough for four holders that hang one after the other, and for one that may yet be told what it lacks.
const LIMIT: Duration = Duration::from_secs(10);

fn way(random: &mut fastrand::Rng) -> Way {
    match random.u8(..8) {
        0 => Way::Fails(Status::unavailable("the last dial failed")),
        1 => Way::Hangs,
        2 => Way::Forgets,
        3 => Way::Fails(Status::internal("the work has ended without a result")),
        _ => Way::Answers(Duration::from_millis(random.u64(..50))),
    }
}

async fn scene(random: &mut fastrand::Rng) {
    let nodes: Vec<i64> = (1..=random.i64(1..7)).collect();
    let holders: Vec<Vec<i64>> = (0..random.usize(1..20))
        .map(|_| {
            let replicas = random.usize(0..4).min(nodes.len());
            random.choose_multiple(nodes.iter().copied(), replicas)
        })
        .collect();
    // Some are so large that they are not searched together with others.
    let rows: Vec<u64> = holders.iter().map(|_| random.u64(1..30)).collect();
    let segments: Vec<_> =
        holders.iter().zip(&rows).zip(100..).map(|((nodes, rows), id)| (id, *rows, nodes.as_slice())).collect();
    let fake = Nodes::serving(&segments);
    let mut good = BTreeMap::new();
    for node in &nodes {
        let way = way(random);
        let lost = (100..120).filter(|_| random.u8(..12) == 0).collect();
        good.insert(*node, matches!(way, Way::Answers(_)));
        fake.state().ways.insert(*node, way);
        fake.state().lost.insert(*node, lost);
    }
    let answers = |id: i64, node: &i64| good[node] && !fake.state().lost[node].contains(&id);
    let lacking = |(id, _, nodes): &&(i64, u64, &[i64])| !nodes.iter().any(|node| answers(*id, node));
    let expected: Vec<i64> = segments.iter().filter(lacking).map(|(id, _, _)| *id).collect();
    let topk = random.u32(1..40);

    let answer = fake.search(topk, LIMIT).await;

    if expected.len() == segments.len() {
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    } else {
        let answer = answer.unwrap();
        let missing: Vec<_> = answer.missing.iter().map(|missing| missing.segment_id).collect();
        assert_eq!((missing, answer.partial), (expected.clone(), !expected.is_empty()));
        let searched = serving(&segments);
        let searched = searched.segments.iter().filter(|served| !expected.contains(&served.segment.id));
        assert_eq!(answer.results, nearest(searched, topk as usize));
    }
    let mut times = BTreeMap::<_, u32>::new();
    for (node, segments) in fake.asked() {
        for id in segments {
            assert!(holders[(id - 100) as usize].contains(&node), "{node} was asked for {id}");
            *times.entry((node, id)).or_default() += 1;
        }
    }
    assert!(times.values().all(|times| *times <= MOST_TIMES), "{times:?}");
    assert_eq!(fake.state().running, 0, "no call is left behind");
    assert!(nodes.iter().all(|node| fake.loads.lock().unwrap().running(*node) == 0), "no work is left behind");
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
async fn an_answer_is_whole_or_lacks_just_what_no_holder_answers_for() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        scene(&mut random).await;
    }
}

//! How searches are spread over the nodes that hold the same.

use std::collections::BTreeMap;

use super::SECOND;
use super::nodes::Nodes;
use crate::serving::Serving;

#[tokio::test(start_paused = true)]
async fn small_searches_take_one_node_each_in_turn() {
    let nodes = Nodes::serving(&[(10, 20, &[1, 2, 3]), (11, 20, &[1, 2, 3]), (12, 20, &[1, 2, 3])]);
    for _ in 0..9 {
        nodes.found_all().await;
    }
    let mut asked = nodes.asked();
    assert_eq!(asked.len(), 9);
    asked.sort();
    let all = vec![10, 11, 12];
    assert_eq!(asked, [1, 1, 1, 2, 2, 2, 3, 3, 3].map(|node| (node, all.clone())));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_to_be_asked_is_asked_for_all_that_is_little() {
    let nodes = Nodes::serving(&[(10, 20, &[1, 2]), (11, 20, &[1]), (12, 20, &[2, 1])]);
    for _ in 0..3 {
        nodes.found_all().await;
    }
    assert_eq!(nodes.asked(), vec![(1, vec![11, 10, 12]); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_busy_is_asked_less() {
    let nodes = Nodes::serving(&[(10, 20, &[1, 2])]);
    nodes.loads.lock().unwrap().begin(1, 1000);
    for _ in 0..5 {
        nodes.found_all().await;
    }
    assert!(nodes.asked().iter().all(|(node, _)| *node == 2), "{:?}", nodes.asked());
}

/// Segments large enough that each is worth a call of its own; nothing is searched here but how they are spread.
fn shares(segments: &[(i64, u64, &[i64])]) -> BTreeMap<i64, u64> {
    let serving = super::serving(segments);
    let now = tokio::time::Instant::now();
    let mut tries = crate::search::tries::Tries::new(serving, 1, now + SECOND);
    let asks = tries.next(now, &mut crate::search::loads::Loads::default());
    asks.into_iter().map(|ask| (ask.node, ask.rows)).collect()
}

#[tokio::test(start_paused = true)]
async fn large_segments_are_spread_by_rows() {
    const LARGE: u64 = 10_000_000;
    let all: &[i64] = &[1, 2, 3];
    let even = shares(&[(1, LARGE, all), (2, LARGE, all), (3, LARGE, all), (4, LARGE, &[1])]);
    assert_eq!(even.values().sum::<u64>(), 4 * LARGE);
    assert_eq!(even.values().max(), Some(&(2 * LARGE)));
    assert_eq!(even.len(), 3);
    // What has no choice is placed first.
    assert_eq!(shares(&[(1, LARGE, &[1, 2]), (2, LARGE, &[1])]), [(1, LARGE), (2, LARGE)].into());
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_called_is_asked_last() {
    let nodes = Nodes::serving(&[]);
    let mut served = super::serving(&[(10, 20, &[1, 2, 3])]);
    let of: &mut Serving = std::sync::Arc::get_mut(&mut served).unwrap();
    of.segments[0].callable = 1;
    nodes.state().serving = Some(served);
    nodes.loads.lock().unwrap().begin(1, 1_000_000);
    let nodes = nodes.with(1, super::dead()).with(2, super::dead());
    nodes.found_all().await;
    assert_eq!(nodes.asked().iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn of_many_segments_each_node_is_asked_once_and_quickly() {
    let nodes_of = |id: i64| [id % 50, (id + 7) % 50];
    let holders: Vec<_> = (0..1000).map(nodes_of).collect();
    let segments: Vec<_> = holders.iter().zip(0..).map(|(nodes, id)| (id, 5, nodes.as_slice())).collect();
    let nodes = Nodes::serving(&segments);
    let begun = std::time::Instant::now();
    nodes.found_all().await;
    let took = begun.elapsed();
    assert!(took.as_secs() < 2, "{took:?}");
    let asked: Vec<_> = nodes.asked().into_iter().map(|(node, _)| node).collect();
    let different: std::collections::BTreeSet<_> = asked.iter().collect();
    assert!(asked.len() == different.len() && asked.len() <= 50, "{asked:?}");
}

//! Searches over nodes in memory, in time that is paused.

mod nodes;
mod random;
mod spread;

use std::sync::Arc;
use std::time::Duration;

use plugin_api::refusal::key;
use plugin_api::{Reason, Refusal};
use tokio::time::Instant;
use tonic::{Code, Status};

use self::nodes::{Nodes, Way, nearest, serving};
use super::tries::MOST_TIMES;

const SECOND: Duration = Duration::from_secs(1);

fn dead() -> Way {
    Way::Fails(Status::unavailable("the last dial failed"))
}

fn exhausted() -> Way {
    Way::Fails(Status::resource_exhausted("64 searches wait already"))
}

fn link_lost() -> Status {
    Refusal::new(Reason::LinkLost, "the link broke").with(key::TARGET, "querynode-1").into_status()
}

/// Two segments that nodes 1 and 2 hold both.
fn pair() -> Nodes {
    Nodes::serving(&[(10, 20, &[1, 2]), (11, 20, &[1, 2])])
}

#[tokio::test(start_paused = true)]
async fn any_failure_of_a_node_sends_its_segments_to_another_at_once() {
    for status in [
        Status::unavailable("the last dial failed"),
        Status::deadline_exceeded("too late"),
        Status::internal("the work has ended without a result"),
        Status::unknown("?"),
        Status::cancelled("the host is stopping"),
        Status::resource_exhausted("64 searches wait already"),
        link_lost(),
    ] {
        let nodes = pair().with(1, Way::Fails(status.clone()));
        // By the second search at the latest node 1 was the first to be asked.
        for _ in 0..2 {
            assert_eq!(nodes.found_all().await, Duration::ZERO, "{status}");
        }
        let failed: Vec<_> = nodes.asked().into_iter().filter(|(node, _)| *node == 1).collect();
        assert_eq!(failed, [(1, vec![10, 11])], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_holder_the_answer_lacks_the_segments_of_the_dead_node() {
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2]), (12, 20, &[]), (13, 20, &[1, 3])]);
    let nodes = nodes.with(1, dead()).with(3, Way::Fails(Status::internal("a bug")));
    let answer = nodes.search(10, SECOND).await.unwrap();
    assert!(answer.partial);
    let told: Vec<_> = answer.missing.iter().map(|each| (each.segment_id, each.server_ids.clone())).collect();
    assert_eq!(told, [(10, vec![1]), (12, vec![]), (13, vec![1, 3])]);
    assert_eq!(answer.missing[0].reason, "querynode-1: Unavailable: the last dial failed");
    assert_eq!(answer.missing[1].reason, "no querynode holds it");
    for part in ["querynode-1: Unavailable: the last dial failed", "querynode-3: Internal: a bug"] {
        assert!(answer.missing[2].reason.contains(part), "{}", answer.missing[2].reason);
    }
    let served = serving(&[(11, 20, &[2])]);
    assert_eq!(answer.results, nearest(served.segments.iter(), 10));
}

#[tokio::test(start_paused = true)]
async fn where_no_segment_can_be_searched_the_reasons_are_the_answer() {
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2])]).with(1, dead()).with(2, dead());
    let error = nodes.search(10, SECOND).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let text = "no segment of collection 'c' could be searched: querynode-1: Unavailable: the last dial failed; \
                querynode-2: Unavailable: the last dial failed";
    assert_eq!(error.message(), text);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_has_a_quarter_of_the_time_where_another_holds_the_same() {
    let nodes = pair().with(1, Way::Hangs);
    let times = [nodes.found_all().await, nodes.found_all().await];
    assert!(times.contains(&SECOND), "{times:?}");
    assert_eq!(nodes.state().running, 0, "the call that hangs is dropped");
    // From then on it is avoided, for a second at first.
    for _ in 0..3 {
        assert_eq!(nodes.found_all().await, Duration::ZERO);
    }
    tokio::time::advance(SECOND).await;
    let times = [nodes.found_all().await, nodes.found_all().await];
    assert!(times.contains(&SECOND), "it is tried again: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_were_asked_the_first_answer_counts() {
    // Node 1 answers after its share, but before the other does.
    let answers = |milliseconds| Way::Answers(Duration::from_millis(milliseconds));
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[1, 2]), (12, 20, &[1, 3])]);
    let nodes = nodes.with(1, answers(1500)).with(2, answers(300)).with(3, Way::Hangs);
    assert_eq!(nodes.found_all().await, Duration::from_millis(1500));
    assert_eq!(nodes.state().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_others_have_answered_for_is_dropped_while_the_search_goes_on() {
    let nodes = Nodes::serving(&[(10, 20, &[1, 2]), (11, 20, &[3])]);
    let nodes = nodes.with(1, Way::Hangs).with(2, Way::Hangs).with(3, Way::Answers(3 * SECOND));
    let begun = Instant::now();
    let first = async {
        tokio::time::sleep(SECOND / 2).await;
        let hanging = nodes.asked()[0].0;
        // The other of the two.
        nodes.state().ways.insert(3 - hanging, Way::Answers(Duration::ZERO));
        hanging
    };
    let (took, hanging) = tokio::join!(nodes.found_all(), first);
    assert_eq!(took, 3 * SECOND);
    assert_eq!(nodes.state().ended[&hanging] - begun, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_alone_is_waited_for_until_the_deadline() {
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2])]).with(1, Way::Hangs);
    let begun = Instant::now();
    let answer = nodes.search(10, SECOND).await.unwrap();
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(answer.missing.len(), 1);
    assert_eq!(answer.missing[0].reason, "querynode-1: no answer within 1000 ms");
    assert_eq!(nodes.state().running, 0);
    // One that is only slow is in time.
    nodes.state().ways.insert(1, Way::Answers(Duration::from_millis(3900)));
    assert_eq!(nodes.found_all().await, Duration::from_millis(3900));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_a_hit_is_none() {
    let nodes = pair().with(1, Way::Forgets);
    nodes.found_all().await;
    nodes.found_all().await;
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2])]).with(1, Way::Forgets);
    let answer = nodes.search(10, SECOND).await.unwrap();
    let text = "querynode-1: Internal: it found 9 vectors for query 1, where there are 10";
    assert_eq!(answer.missing.iter().map(|missing| missing.reason.as_str()).collect::<Vec<_>>(), [text]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_moved_is_searched_where_it_is_by_now() {
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[1])]);
    nodes.state().lost.insert(1, [10].into());
    nodes.state().corrected = Some(serving(&[(10, 20, &[2]), (11, 20, &[1])]));
    assert_eq!(nodes.found_all().await, Duration::ZERO);
    assert_eq!(nodes.state().not_held, [(1, vec![10])]);
    // The segment that stayed is asked for again on its node.
    assert_eq!(nodes.asked(), [(1, vec![10, 11]), (1, vec![11]), (2, vec![10])]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_lacks_is_waited_for_a_little_and_never_asked_without_end() {
    let nodes = Arc::new(Nodes::serving(&[(10, 20, &[1]), (11, 20, &[1])]));
    nodes.state().lost.insert(1, [10].into());
    let begun = Instant::now();
    let answer = nodes.search(10, 4 * SECOND).await.unwrap();
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    assert_eq!(answer.missing[0].reason, "querynode-1: NotFound: segment 10 is not loaded on this node");
    assert_eq!(answer.missing.len(), 1);
    assert_eq!(nodes.asked(), [(1, vec![10, 11]), (1, vec![11])]);
    // It is loaded again while the search waits.
    let loading = Arc::clone(&nodes);
    let load = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut state = loading.state();
        state.lost.clear();
        state.serving = Some(serving(&[(10, 20, &[1]), (11, 20, &[1])]));
    });
    let waited = nodes.found_all().await;
    assert!((300..640).contains(&waited.as_millis()), "{waited:?}");
    load.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_served_of_again_and_again_is_asked_three_times() {
    // What the search waits for all the while: one node after the other.
    let others: &[i64] = &[2, 3, 4, 5, 6, 7];
    let nodes = Arc::new(Nodes::serving(&[(10, 20, &[1]), (11, 20, others)]));
    nodes.state().lost.insert(1, [10].into());
    for node in others {
        nodes.state().ways.insert(*node, Way::FailsAfter(SECOND / 10, Status::internal("a bug")));
    }
    let served = Arc::clone(&nodes);
    let changes = tokio::spawn(async move {
        loop {
            served.state().serving = Some(serving(&[(10, 20, &[1]), (11, 20, others)]));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(nodes.search(10, 4 * SECOND).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(nodes.asked().iter().filter(|(node, _)| *node == 1).count(), MOST_TIMES as usize);
    assert_eq!(nodes.asked().len(), MOST_TIMES as usize + others.len());
    changes.abort();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_back_in_a_moment_costs_no_segment() {
    let nodes = Nodes::serving(&[(10, 20, &[1])]).with(1, Way::FailsOnce(link_lost()));
    assert_eq!(nodes.found_all().await, Duration::from_millis(10));
    let nodes = nodes.with(1, Way::Fails(link_lost()));
    assert_eq!(nodes.search(10, SECOND).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(nodes.asked().len(), 2 + MOST_TIMES as usize);
}

#[tokio::test(start_paused = true)]
async fn where_all_holders_have_too_many_searches_so_has_the_whole() {
    let nodes = Nodes::serving(&[(10, 20, &[1, 2]), (11, 20, &[3])]);
    let nodes = nodes.with(1, exhausted()).with(2, dead()).with(3, Way::Hangs);
    let begun = Instant::now();
    let error = nodes.search(10, SECOND).await.unwrap_err();
    assert_eq!((error.code(), begun.elapsed()), (Code::ResourceExhausted, Duration::ZERO));
    let text =
        "collection 'c' cannot be searched now, try later: querynode-1: ResourceExhausted: 64 searches wait already";
    assert!(error.message().starts_with(text), "{error}");
    assert_eq!(nodes.state().running, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_of_the_search_itself_is_the_answer() {
    let nodes = pair();
    let refused = || Way::Fails(Status::invalid_argument("query 0 has 1 components, the collection's dimension is 2"));
    let nodes = nodes.with(1, refused()).with(2, refused());
    let error = nodes.search(10, SECOND).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("query 0 has 1 components"), "{error}");
    assert_eq!(nodes.asked().len(), 1, "nobody else is asked");
}

#[tokio::test(start_paused = true)]
async fn a_search_that_is_dropped_drops_its_calls() {
    let nodes = Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2])]).with(1, Way::Hangs).with(2, Way::Hangs);
    let search = tokio::time::timeout(SECOND, nodes.search(10, 4 * SECOND));
    assert!(search.await.is_err());
    assert_eq!(nodes.asked().len(), 2);
    assert_eq!(nodes.state().running, 0);
    assert!([1, 2].iter().all(|node| nodes.loads.lock().unwrap().running(*node) == 0));
}

#[tokio::test(start_paused = true)]
async fn a_collection_without_segments_has_empty_results() {
    let nodes = Nodes::serving(&[]);
    assert_eq!(nodes.found_all().await, Duration::ZERO);
    assert_eq!(nodes.search(10, SECOND).await.unwrap().results.len(), nodes::QUERIES);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_is_released_meanwhile_is_not_loaded() {
    let nodes = Arc::new(Nodes::serving(&[(10, 20, &[1]), (11, 20, &[2])]).with(1, Way::Hangs));
    let releasing = Arc::clone(&nodes);
    let release = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut state = releasing.state();
        state.serving = None;
    });
    let error = nodes.search(10, SECOND).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(error.message(), "collection 'c' has been released meanwhile");
    release.await.unwrap();
}

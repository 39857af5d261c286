//! Rules that the simulation's histories seldom decide, one by one.

mod swaps;

use super::*;

const SETTINGS: Settings = Settings {
    max_moves: 4,
    max_moves_per_node: 2,
    backoff_min: Duration::from_secs(1),
    backoff_max: Duration::from_secs(8),
};

fn collection() -> CollectionRecord {
    CollectionRecord { id: 5, name: "c".to_owned(), dimension: 1, metric: "L2".to_owned(), created: 0 }
}

fn segment(id: i64) -> SegmentRecord {
    SegmentRecord { id, collection: 5, path: format!("{id}"), rows: 1, first_id: 0 }
}

fn node(id: i64, standing: Standing) -> Seen {
    Seen { id, address: String::new(), standing }
}

fn nodes(standings: impl IntoIterator<Item = (i64, Standing)>) -> Input {
    Input::Table(standings.into_iter().map(|(id, standing)| node(id, standing)).collect())
}

/// Collection 5 is loaded on one node each, its segment 10 on node 1; these nodes there are, and what those hold that can say.
fn kept(standings: &[(i64, Standing, &[i64])]) -> (Core, Vec<String>) {
    let encode = |record| Bytes::from(serde_json::to_vec(&record).unwrap());
    let of_collection = Record::Collection { collection: collection(), replica_number: 1, epoch: 1 };
    let of_segment = Record::Segment { segment: segment(10), since: 1, nodes: vec![1] };
    let entries = [(Key::Collection(5), encode(of_collection)), (Key::Segment(5, 10), encode(of_segment))];
    let mut core = Core::new(SETTINGS, entries).0;
    let asked = core.step(Time::ZERO, nodes(standings.iter().map(|(id, standing, _)| (*id, *standing))));
    let mut done = Vec::new();
    for action in asked {
        let Action::Ask { call, node } = action else { panic!("{action:?}") };
        let holds = standings.iter().find(|(id, ..)| *id == node).unwrap().2;
        done.extend(core.step(Time::ZERO, Input::Told(call, Ok(holds.to_vec()))));
    }
    (core, done.iter().map(brief).collect())
}

fn brief(action: &Action) -> String {
    match action {
        Action::Write(_) => "write".to_owned(),
        Action::Read(_) => "read".to_owned(),
        Action::Ask { node, .. } => format!("ask {node}"),
        Action::Load { node, segment, .. } => format!("load {} on {node}", segment.id),
        Action::Release { node, segments, .. } => format!("release {segments:?} on {node}"),
        Action::Dismiss { node, .. } => format!("dismiss {node}"),
        Action::Confirm { collection, .. } => format!("confirm {collection}"),
        Action::Answer(_, done) => format!("answer {}", if done.is_ok() { "ok" } else { "error" }),
    }
}

fn step(core: &mut Core, seconds: u64, input: Input) -> Vec<String> {
    core.step(Time::from_secs(seconds), input).iter().map(brief).collect()
}

/// The last request of ours.
fn last(core: &Core) -> CallId {
    CallId(core.next_call)
}

#[test]
fn a_holder_is_released_only_where_a_search_can_be_sent_to_another() {
    use Standing::{Callable, Unreachable};
    assert_eq!(kept(&[(1, Callable, &[10]), (2, Callable, &[10])]).1, ["release [10] on 2"]);
    let (mut core, done) = kept(&[(1, Unreachable, &[]), (2, Callable, &[10])]);
    assert_eq!(done, [""; 0]);
    assert!(step(&mut core, 0, Input::Node(node(1, Callable))).contains(&"release [10] on 2".to_owned()));
}

#[test]
fn a_holder_is_not_released_while_the_metadata_may_come_to_name_it() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, Standing::GivenUp))), ["load 10 on 2"]);
    let loading = last(&core);
    assert_eq!(step(&mut core, 0, Input::Loaded(loading, Ok(()))), ["write"]);
    // It is to be on node 1 again, as the metadata says, for all that is known.
    let back = [(1, Standing::Callable), (2, Standing::GivenUp), (2, Standing::Callable)];
    let done: Vec<_> = back.iter().flat_map(|(id, at)| step(&mut core, 0, Input::Node(node(*id, *at)))).collect();
    assert_eq!(done, ["ask 1", "ask 2"]);
    assert_eq!(step(&mut core, 0, Input::Written(Ok(true))), ["write"]);
    assert_eq!(step(&mut core, 0, Input::Written(Ok(true))), ["release [10] on 2"]);
}

#[test]
fn a_broken_link_moves_nothing_and_a_node_that_is_given_up_is_replaced() {
    let cases = [
        (Input::Node(node(1, Standing::Unreachable)), vec![]),
        (Input::Node(node(1, Standing::GivenUp)), vec!["load 10 on 2"]),
        (Input::Node(node(1, Standing::Stopping)), vec!["load 10 on 2"]),
        (Input::Gone(1), vec!["load 10 on 2"]),
    ];
    for (input, expected) in cases {
        let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
        assert_eq!(step(&mut core, 0, input.clone()), expected, "{input:?}");
    }
}

#[test]
fn a_stopping_node_is_dismissed_once_the_metadata_has_all_elsewhere_and_again_where_it_refuses() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, Standing::Stopping))), ["load 10 on 2"]);
    let loading = last(&core);
    assert_eq!(step(&mut core, 0, Input::Loaded(loading, Ok(()))), ["write"]);
    assert_eq!(step(&mut core, 0, Input::Written(Ok(true))), ["dismiss 1"]);
    // It refuses as long as it does not know that it is stopping: tried again, each time after twice as long.
    for (refused, again) in [(2, 3), (5, 7), (9, 13)] {
        let dismissal = last(&core);
        let refusal = Input::Dismissed(dismissal, Err(Status::failed_precondition("it is not stopping")));
        assert_eq!(step(&mut core, refused, refusal), [""; 0]);
        assert_eq!(core.timer(), Some(Time::from_secs(again)));
        assert_eq!(step(&mut core, again, Input::Timer), ["dismiss 1"]);
    }
    let dismissal = last(&core);
    assert_eq!(step(&mut core, 14, Input::Dismissed(dismissal, Ok(()))), [""; 0]);
    assert_eq!(step(&mut core, 60, Input::Timer), [""; 0]);
}

#[test]
fn while_the_metadata_cannot_be_written_nothing_is_moved() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Fenced(true)), [""; 0]);
    assert_eq!(step(&mut core, 0, Input::Gone(1)), [""; 0]);
    assert_eq!(step(&mut core, 0, Input::Fenced(false)), ["load 10 on 2"]);
}

#[test]
fn a_node_that_failed_a_load_is_left_alone_for_twice_as_long_each_time() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Gone(1)), ["load 10 on 2"]);
    let mut now = 0;
    for pause in [1, 2, 4, 8, 8] {
        let loading = core.calls.keys().next_back().copied().unwrap();
        let failed = Input::Loaded(loading, Err(Status::not_found("no such file")));
        assert_eq!(step(&mut core, now, failed), [""; 0]);
        assert_eq!(core.timer(), Some(Time::from_secs(now + pause)));
        now += pause;
        assert_eq!(step(&mut core, now, Input::Timer), ["load 10 on 2"]);
    }
}

#[test]
fn loads_are_bounded_on_each_node_and_in_all() {
    for (many, expected) in [(1, 2), (2, 4), (3, 4)] {
        let mut core = Core::new(SETTINGS, []).0;
        for action in core.step(Time::ZERO, nodes((1..=many).map(|id| (id, Standing::Callable)))) {
            let Action::Ask { call, .. } = action else { panic!("{action:?}") };
            step(&mut core, 0, Input::Told(call, Ok(vec![])));
        }
        let (token, segments) = (Token(1), (10..20).map(segment).collect());
        let load = Input::Load { token, collection: collection(), segments, replica_number: 1 };
        let loads = step(&mut core, 0, load).iter().filter(|action| action.starts_with("load")).count();
        assert_eq!(loads, expected, "{many} nodes");
    }
}

#[test]
fn a_release_is_answered_when_the_nodes_have_released() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10])]);
    let release = Input::Release { token: Token(1), id: 5, name: "c".to_owned() };
    assert_eq!(step(&mut core, 0, release), ["write"]);
    assert_eq!(step(&mut core, 0, Input::Written(Ok(true))), ["write", "release [10] on 1"]);
    let releasing = last(&core);
    assert_eq!(step(&mut core, 0, Input::Released(releasing, Ok(()))), ["answer ok"]);
}

#[test]
fn what_another_has_written_is_read_and_not_taken_for_ours() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10])]);
    let release = Input::Release { token: Token(1), id: 5, name: "c".to_owned() };
    assert_eq!(step(&mut core, 0, release), ["write"]);
    assert_eq!(step(&mut core, 0, Input::Written(Ok(false))), ["read"]);
    assert_eq!(step(&mut core, 0, Input::Read(Ok(vec![None]))), ["write", "release [10] on 1"]);
}

/// A write of which nobody knew what became, and that need not be made again.
#[test]
fn nodes_are_made_even_again_once_the_metadata_is_known_to_be_as_it_is_to_be() {
    let mut core = kept(&[(1, Standing::Callable, &[10])]).0;
    let release = Input::Release { token: Token(1), id: 5, name: "c".to_owned() };
    assert_eq!(step(&mut core, 0, release), ["write"]);
    let unknown = Input::Written(Err(Status::unavailable("LINK_LOST")));
    assert_eq!(step(&mut core, 0, unknown), ["answer error"]);
    assert_eq!(step(&mut core, 1, Input::Timer), ["read"]);
    let there = core.mirror.get(&Key::Collection(5)).cloned();
    step(&mut core, 1, Input::Read(Ok(vec![there])));
    assert_eq!(core.timer(), Some(Time::from_secs(1)));
    assert_eq!(core.write_trouble.count, 0);
}

/// Segment 11 was written by a load whose collection's record was not.
#[test]
fn what_a_load_that_was_not_completed_has_left_is_removed() {
    let encode = |record| Bytes::from(serde_json::to_vec(&record).unwrap());
    let of_collection = Record::Collection { collection: collection(), replica_number: 1, epoch: 1 };
    let of_segment = |id, since| encode(Record::Segment { segment: segment(id), since, nodes: vec![1] });
    let left = of_segment(11, 2);
    let entries = [
        (Key::Collection(5), encode(of_collection)),
        (Key::Segment(5, 10), of_segment(10, 1)),
        (Key::Segment(5, 11), left.clone()),
    ];
    let mut core = Core::new(SETTINGS, entries).0;
    let searched: Vec<_> = core.serving(5).unwrap().segments.iter().map(|served| served.segment.id).collect();
    assert_eq!(searched, [10]);
    let asked = core.step(Time::ZERO, nodes([(1, Standing::Callable)]));
    let removed = |action: &Action| match action {
        Action::Write(changes) => Some(changes.clone()),
        _ => None,
    };
    let change = Change { key: Key::Segment(5, 11), before: Some(left), after: None };
    assert_eq!(asked.iter().find_map(removed), Some(vec![change]));
    let asking = last(&core);
    assert_eq!(step(&mut core, 0, Input::Told(asking, Ok(vec![10, 11]))), ["release [11] on 1"]);
}

#[test]
fn a_node_whose_link_comes_back_is_asked_at_once() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10])]);
    assert_eq!(step(&mut core, 0, Input::NotHeld(1, vec![10])), ["ask 1"]);
    let asking = last(&core);
    let lost = Input::Told(asking, Err(Status::unavailable("LINK_LOST")));
    assert_eq!(step(&mut core, 0, lost), [""; 0]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, Standing::Unreachable))), [""; 0]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, Standing::Callable))), ["ask 1"]);
}

#[test]
fn what_a_load_may_be_aimed_at_is_not_released_before_it_is_aimed() {
    use Standing::{Callable, Unreachable};
    let (mut core, _) = kept(&[(1, Callable, &[10]), (2, Callable, &[])]);
    // Node 1 holds more than is wanted there, and cannot be told to release it.
    step(&mut core, 0, Input::Node(node(1, Unreachable)));
    core.holds(1, 11, true);
    step(&mut core, 0, Input::Node(node(3, Callable)));
    let asking = last(&core);
    let load =
        Input::Load { token: Token(1), collection: collection(), segments: vec![segment(11)], replica_number: 1 };
    assert_eq!(step(&mut core, 0, load), ["confirm 5"]);
    // It waits for what node 3 says.
    assert_eq!(step(&mut core, 0, Input::Node(node(1, Callable))), ["ask 1"]);
    let told = step(&mut core, 0, Input::Told(asking, Ok(vec![])));
    assert_eq!(told, ["load 10 on 2", "write"], "nothing is loaded that is there, and nodes are made even");
    assert_eq!(core.segments[&11].aim, [1].into());
}

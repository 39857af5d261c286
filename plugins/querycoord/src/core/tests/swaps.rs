//! What one generation of the rules leaves to the next.

use super::*;

/// The next one, by the metadata as this one knows it, before anything has happened.
fn next(core: &Core, seconds: u64) -> Core {
    let now = Time::from_secs(seconds);
    let knowledge = serde_json::to_vec(&core.knowledge(now)).unwrap();
    let mut next = Core::new(SETTINGS, core.mirror.clone()).0;
    next.recall(now, serde_json::from_slice(&knowledge).unwrap());
    next
}

fn served(core: &Core) -> Vec<(i64, Vec<i64>, usize)> {
    let serving = core.serving(5).unwrap();
    serving.segments.into_iter().map(|served| (served.segment.id, served.nodes, served.callable)).collect()
}

#[test]
fn what_nodes_hold_and_how_they_stand_is_known_before_anybody_tells() {
    use Standing::{Callable, Unreachable};
    // The metadata knows of node 1 alone.
    let (mut core, _) = kept(&[(1, Unreachable, &[]), (2, Callable, &[10])]);
    assert_eq!(served(&next(&core, 0)), [(10, vec![2, 1], 1)]);
    step(&mut core, 0, Input::Gone(1));
    assert_eq!(served(&next(&core, 0)), [(10, vec![2], 1)]);
    // Node 1 has told that it does not hold it.
    let (core, _) = kept(&[(1, Callable, &[]), (2, Callable, &[])]);
    assert_eq!(served(&next(&core, 0)), [(10, vec![], 0)]);
}

#[test]
fn nothing_is_done_before_a_table_and_then_only_what_was_under_way() {
    use Standing::{Callable, GivenUp};
    let (mut core, _) = kept(&[(1, Callable, &[10]), (2, Callable, &[]), (3, Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, GivenUp))), ["load 10 on 2"]);
    // Where there are fewer rows by now, nothing is begun for that.
    let mut new = next(&core, 0);
    assert_eq!(step(&mut new, 0, Input::Timer), [""; 0]);
    let table = || nodes([(1, GivenUp), (2, Callable), (3, Callable)]);
    assert_eq!(step(&mut new, 0, table()), ["ask 2", "ask 3", "load 10 on 2"]);
    // It was loaded, and the answer was lost.
    let mut new = next(&core, 0);
    let asked = new.step(Time::ZERO, table());
    let loaded = asked.iter().find_map(|action| match action {
        Action::Load { call, .. } => Some(*call),
        _ => None,
    });
    assert_eq!(step(&mut new, 0, Input::Loaded(loaded.unwrap(), Ok(()))), ["write"]);
}

#[test]
fn where_a_segment_is_to_be_is_not_decided_anew() {
    use Standing::{Callable, GivenUp};
    let (mut core, _) = kept(&[(1, Callable, &[10]), (2, Callable, &[])]);
    assert_eq!(step(&mut core, 0, Input::Node(node(1, GivenUp))), ["load 10 on 2"]);
    let loading = last(&core);
    assert_eq!(step(&mut core, 0, Input::Loaded(loading, Ok(()))), ["write"]);
    step(&mut core, 0, Input::Node(node(1, Callable)));
    // By the metadata it would be on node 1 again.
    let mut new = next(&core, 0);
    step(&mut new, 0, nodes([(1, Callable), (2, Callable)]));
    assert_eq!(new.segments[&10].aim, [2].into());
}

#[test]
fn what_failed_is_left_alone_for_as_long_as_it_was() {
    // A fault of the node, and one of the file.
    for error in [Status::resource_exhausted("no memory"), Status::not_found("no such file")] {
        let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
        assert_eq!(step(&mut core, 0, Input::Gone(1)), ["load 10 on 2"]);
        let fail = |core: &mut Core, now| {
            let loading = core.calls.keys().next_back().copied().unwrap();
            step(core, now, Input::Loaded(loading, Err(error.clone())));
        };
        for (now, again) in [(0, 1), (1, 3)] {
            fail(&mut core, now);
            assert_eq!(step(&mut core, again, Input::Timer).last().unwrap(), "load 10 on 2");
        }
        fail(&mut core, 3);
        // Four seconds from then on, of which two are over.
        let mut new = next(&core, 5);
        let loads = |done: Vec<String>| done.contains(&"load 10 on 2".to_owned());
        assert!(!loads(step(&mut new, 5, nodes([(2, Standing::Callable)]))), "{error}");
        assert!(!loads(step(&mut new, 6, Input::Timer)), "{error}");
        assert!(loads(step(&mut new, 7, Input::Timer)), "{error}");
        assert_eq!(new.overview(Time::from_secs(7)).nodes[0].failed_loads, 3);
    }
}

#[test]
fn who_waits_longer_than_is_configured_here_waits_as_long_as_that() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    core.nodes.get_mut(&2).unwrap().loads.until = Time::from_secs(1000);
    assert_eq!(next(&core, 0).timer(), Some(SETTINGS.backoff_max));
}

#[test]
fn a_load_that_nobody_waits_for_goes_on_and_loads_nothing_twice() {
    use Standing::Callable;
    let (mut core, _) = kept(&[(1, Callable, &[10]), (2, Callable, &[])]);
    let (token, segments) = (Token(1), [10, 11, 12].map(segment).to_vec());
    let begun = step(&mut core, 0, Input::Load { token, collection: collection(), segments, replica_number: 1 });
    assert_eq!(begun, ["confirm 5", "load 12 on 1", "load 11 on 2"]);
    let of_11 = last(&core);
    step(&mut core, 0, Input::Loaded(of_11, Ok(())));
    let mut new = next(&core, 0);
    assert!(new.is_wanted(5));
    // Node 3 has come meanwhile, and has not told yet what it holds.
    let table = nodes([(1, Callable), (2, Callable), (3, Callable)]);
    assert_eq!(step(&mut new, 0, table), ["confirm 5", "ask 1", "ask 2", "ask 3", "read", "load 12 on 1"]);
    let loading = new.calls.keys().next_back().copied().unwrap();
    assert_eq!(step(&mut new, 0, Input::Loaded(loading, Ok(()))), [""; 0]);
}

#[test]
fn of_what_the_metadata_does_not_have_nothing_is_recalled() {
    let (core, _) = kept(&[(1, Standing::Callable, &[10])]);
    let mut new = Core::new(SETTINGS, []).0;
    new.recall(Time::ZERO, core.knowledge(Time::ZERO));
    assert!(new.segments.is_empty() && !new.is_wanted(5));
    // What it holds is wanted by nobody.
    let asked = step(&mut new, 0, nodes([(1, Standing::Callable)]));
    assert_eq!(asked, ["ask 1", "release [10] on 1"]);
}

#[test]
fn while_it_is_paused_nothing_is_begun() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    core.pause();
    for input in [Input::Gone(1), Input::NotHeld(2, vec![10]), Input::Node(node(3, Standing::Callable)), Input::Timer] {
        assert_eq!(step(&mut core, 0, input.clone()), [""; 0], "{input:?}");
    }
    let load = Input::Load { token: Token(1), collection: collection(), segments: vec![], replica_number: 0 };
    assert_eq!(step(&mut core, 0, load), [""; 0]);
    let again = core.again(Time::ZERO);
    assert_eq!(again.knowledge(Time::ZERO), core.knowledge(Time::ZERO));
}

#[test]
fn what_may_be_written_a_moment_later_is_read_before_it_is_relied_on() {
    let (mut core, _) = kept(&[(1, Standing::Callable, &[10]), (2, Standing::Callable, &[])]);
    step(&mut core, 0, Input::Gone(1));
    let loading = last(&core);
    assert_eq!(step(&mut core, 0, Input::Loaded(loading, Ok(()))), ["write"]);
    let mut new = next(&core, 0);
    assert_eq!(step(&mut new, 0, nodes([(2, Standing::Callable)])), ["ask 2", "read"]);
}

use plugin_api::descriptor::{Kind, LeasePolicy};
use plugin_api::peers::Registration;

use super::{Action, Rules, Seen, Tenure};

const FENCING: Rules = Rules { kind: Kind::Coordinator, policy: LeasePolicy::Fence, standby: true };
const SERVING: Rules = Rules { policy: LeasePolicy::Serve, ..FENCING };
const ALONE: Rules = Rules { standby: false, ..FENCING };
const NODE: Rules = Rules { kind: Kind::Node, policy: LeasePolicy::Serve, standby: true };
const FENCED_NODE: Rules = Rules { policy: LeasePolicy::Fence, ..NODE };

/// What is seen, in a word: a create revision, with its lease where that is not the usual one, `?`, `other`, `deleted` or
/// `revoked`.
fn seen(word: &str) -> Seen {
    match word {
        "?" => Seen::Uncertain,
        "deleted" => Seen::Deleted,
        "revoked" => Seen::Revoked,
        registered if registered.starts_with(|first: char| first.is_ascii_digit()) => {
            let (revision, lease) = registered.split_once('/').unwrap_or((registered, "1"));
            let number = |digits: &str| digits.parse().expect("a number");
            let registration = Registration { create_revision: number(revision), lease_id: number(lease) };
            Seen::Active { registration }
        }
        holder => Seen::Other { holder: holder.to_owned() },
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Activate { resume, registration } => format!("{resume:?}@{}", registration.create_revision),
        Action::Deactivate(reason) => format!("-{reason:?}"),
        Action::GoOn { registration } => format!("go-on@{}", registration.create_revision),
        Action::StandBy { holder } => format!("stand-by:{holder}"),
        Action::Replaced { holder } => format!("end:{holder}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// All that is to be done, each thing that is seen lasting until there is nothing to do.
fn told(rules: Rules, again: bool, story: &str) -> String {
    let mut tenure = Tenure::new(rules, again);
    let mut done = Vec::new();
    for each in story.split(' ') {
        // A thing to do that is always there would never end.
        for turn in 0.. {
            assert!(turn < 10, "{story}: no end at '{each}': {done:?}");
            let action = tenure.next(&seen(each));
            if action == Action::Wait {
                break;
            }
            done.push(word(&action));
            if matches!(action, Action::Replaced { .. }) {
                return done.join(" ");
            }
        }
    }
    done.join(" ")
}

#[test]
fn each_story_has_its_tellings() {
    let table = [
        // The first activation.
        (FENCING, "? 5", "Fresh@5"),
        (NODE, "? 5", "Fresh@5"),
        // A fence and its end.
        (FENCING, "5 ? 5", "Fresh@5 fence -Fenced Kept@5 lift"),
        (FENCING, "5 ? ? 5 ? 5", "Fresh@5 fence -Fenced Kept@5 lift fence -Fenced Kept@5 lift"),
        (FENCING, "5 ? 9", "Fresh@5 fence -Fenced TakenOver@9 lift"),
        (FENCED_NODE, "5 ? 9", "Fresh@5 fence -Fenced Kept@9 lift"),
        // Policy serve: a node is told nothing, a coordinator only where another may have been active.
        (NODE, "5 ? 5 ? 9", "Fresh@5 go-on@9"),
        (FENCED_NODE, "5 9", "Fresh@5 go-on@9"),
        (SERVING, "5 ? 5", "Fresh@5"),
        (SERVING, "5 ? 9", "Fresh@5 -Replaced TakenOver@9"),
        // A gap that nobody saw.
        (FENCING, "5 9", "Fresh@5 fence -Replaced TakenOver@9 lift"),
        (SERVING, "5 9", "Fresh@5 -Replaced TakenOver@9"),
        // An etcd that lost its data has come to the same revision.
        (FENCING, "5 ? 5/2", "Fresh@5 fence -Fenced TakenOver@5 lift"),
        (SERVING, "5 ? 5/2", "Fresh@5 -Replaced TakenOver@5"),
        // Standby and takeover.
        (FENCING, "? a 7", "stand-by:a TakenOver@7 takeover"),
        (FENCING, "a b ? b 7", "stand-by:a stand-by:b TakenOver@7 takeover"),
        (FENCING, "5 a 7", "Fresh@5 stand-by:a -Replaced TakenOver@7 takeover"),
        (SERVING, "5 a 7", "Fresh@5 stand-by:a -Replaced TakenOver@7 takeover"),
        (FENCING, "5 ? a 7", "Fresh@5 fence -Fenced stand-by:a TakenOver@7 takeover"),
        (SERVING, "5 ? a 7", "Fresh@5 stand-by:a -Replaced TakenOver@7 takeover"),
        (FENCING, "a 7 ? 7", "stand-by:a TakenOver@7 takeover fence -Fenced Kept@7 lift"),
        // Without a standby the key is waited for, and its loss is the end.
        (ALONE, "a ? a 7", "TakenOver@7"),
        (ALONE, "5 a", "Fresh@5 end:a"),
        (ALONE, "5 ? a", "Fresh@5 fence -Fenced end:a"),
        // Of a node's own key, too.
        (NODE, "a 5", "TakenOver@5"),
        (NODE, "5 a", "Fresh@5 end:a"),
        // The ends.
        (FENCING, "5 deleted deleted", "Fresh@5 deleted"),
        (FENCING, "5 revoked", "Fresh@5"),
        (FENCING, "a revoked", "stand-by:a"),
    ];
    for (rules, story, expected) in table {
        assert_eq!(told(rules, false, story), expected, "{rules:?}: {story}");
    }
}

#[test]
fn a_component_that_is_made_again_takes_over() {
    assert_eq!(told(FENCING, true, "5"), "TakenOver@5");
    assert_eq!(told(NODE, true, "5"), "TakenOver@5");
}

#[test]
fn a_session_that_comes_back_before_the_component_is_told_lifts_the_fence_only() {
    let mut tenure = Tenure::new(FENCING, false);
    tenure.next(&seen("5"));
    assert_eq!(tenure.next(&seen("?")), Action::Fence);
    assert_eq!(tenure.next(&seen("5")), Action::Lift);
    assert_eq!(tenure.next(&seen("5")), Action::Wait);
}

/// Whatever is seen, in whatever order, and however few of it: no two `activate` without a `deactivate` between, nobody works
/// on under a registration that is not the one seen last, and the end is the same.
#[test]
fn every_story_alternates_and_converges() {
    let words = ["5", "9", "?", "a", "b"];
    for rules in [FENCING, SERVING, ALONE, NODE, FENCED_NODE] {
        for number in 0..words.len().pow(6) {
            let mut tenure = Tenure::new(rules, false);
            let (mut rest, mut active, mut under, mut up) = (number, false, 0, false);
            let mut ended = false;
            // One thing is done for each thing that is seen; the last lasts.
            let story: Vec<&str> = (0..6).map(|_| (words[rest % words.len()], rest /= words.len()).0).collect();
            for each in story.iter().chain([&"9"; 8]) {
                match tenure.next(&seen(each)) {
                    Action::Activate { registration, .. } => {
                        assert!(!active, "{rules:?}: {story:?}: activated twice");
                        (active, under) = (true, registration.create_revision);
                    }
                    Action::Deactivate(_) => {
                        assert!(active, "{rules:?}: {story:?}: deactivated twice");
                        active = false;
                    }
                    Action::GoOn { registration } => under = registration.create_revision,
                    Action::Fence | Action::StandBy { .. } => up = true,
                    Action::Lift | Action::TakeOver => up = false,
                    Action::Replaced { .. } => {
                        ended = true;
                        break;
                    }
                    Action::Wait | Action::Deleted => {}
                }
                assert_eq!(tenure.is_activated(), active);
            }
            assert!(ended || (active && under == 9 && !up), "{rules:?}: {story:?}: active {active} under {under}");
        }
    }
}

/// What an active generation's successor is told, when these are seen one after the other.
fn after_a_swap(rules: Rules, exchange: impl FnOnce(&mut Tenure, Registration), story: &[&str]) -> String {
    let mut tenure = Tenure::new(rules, false);
    tenure.next(&seen("7"));
    let under = tenure.swap_out().expect("it is active");
    assert_eq!(tenure.swap_out(), None, "nobody has the work any more");
    exchange(&mut tenure, under);
    story.iter().map(|each| word(&tenure.next(&seen(each)))).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_generation_that_was_given_the_work_has_it_under_the_same_registration() {
    let given = |tenure: &mut Tenure, under| tenure.swap_in(under);
    assert_eq!(after_a_swap(FENCING, given, &["7", "?", "?"]), "wait fence -Fenced");
    assert_eq!(after_a_swap(NODE, given, &["7", "?", "8"]), "wait wait go-on@8");
}

#[test]
fn what_is_put_off_is_told_when_the_session_is_held_again_by_what_the_generation_knows() {
    for (knows, same) in [(true, "wait Kept@7"), (false, "wait TakenOver@7")] {
        let put_off = |tenure: &mut Tenure, _: Registration| tenure.put_off(knows);
        assert_eq!(after_a_swap(FENCING, put_off, &["?", "7"]), same);
        assert_eq!(after_a_swap(FENCING, put_off, &["?", "8"]), "wait TakenOver@8");
        assert_eq!(after_a_swap(FENCING, put_off, &["other", "other"]), "stand-by:other wait");
    }
}

#[test]
fn a_generation_that_knows_nothing_takes_over_whenever_it_is_its_turn() {
    for (before, expected) in [(&["7", "?", "?"][..], "TakenOver@7"), (&["other"][..], "TakenOver@7")] {
        let mut tenure = Tenure::new(FENCING, false);
        before.iter().for_each(|each| drop(tenure.next(&seen(each))));
        assert_eq!(tenure.swap_out(), None);
        tenure.forget();
        assert_eq!(word(&tenure.next(&seen("7"))), expected);
    }
    let mut untouched = Tenure::new(FENCING, false);
    untouched.forget();
    assert_eq!(word(&untouched.next(&seen("7"))), "TakenOver@7", "it was never told anything");
}

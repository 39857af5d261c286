//! A new generation that fails, panics or hangs in a phase.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Method};
use tests::{LIMIT, eventually, holds};

use super::{Case, are_refused_in, is_refused_in};
use crate::swap::rig::{AT_ONCE, Rig};

#[tokio::test]
async fn what_goes_wrong_in_prepare_is_refused() {
    let cases: [Case<'_>; 5] = [
        (Method::New, Fault::Fail, &["constructor", "New fails as configured"]),
        (Method::New, Fault::Panic, &["constructor", "New panics as configured"]),
        (Method::New, Fault::Hang, &["constructor", "2s"]),
        (Method::Descriptor, Fault::Panic, &["Descriptor panics as configured"]),
        (Method::Descriptor, Fault::Hang, &["2s"]),
    ];
    are_refused_in(&Rig::start().await, Phase::Prepare, &cases).await;
}

/// Where this method of the new one fails, panics or hangs.
async fn is_refused_in_every_way(method: Method, phase: Phase) {
    let name = format!("{method:?}");
    let (called, fails, panics) = (name.to_lowercase(), format!("{name} fails as"), format!("{name} panics as"));
    let cases: [Case<'_>; 4] = [
        (method, Fault::Fail, &[&called, &fails]),
        (method, Fault::Panic, &[&called, &panics]),
        (method, Fault::Hang, &[&called, "2s"]),
        // It keeps its thread for ever.
        (method, Fault::Block, &[&called, "2s"]),
    ];
    are_refused_in(&Rig::start().await, phase, &cases).await;
}

#[tokio::test]
async fn what_goes_wrong_in_restore_is_refused() {
    is_refused_in_every_way(Method::Restore, Phase::HandOver).await;
}

#[tokio::test]
async fn what_goes_wrong_in_start_is_refused() {
    is_refused_in_every_way(Method::Start, Phase::Warm).await;
}

#[tokio::test]
async fn what_goes_wrong_in_activate_is_refused() {
    is_refused_in_every_way(Method::Activate, Phase::Switch).await;
}

#[tokio::test]
async fn what_only_takes_its_time_is_swapped_and_nobody_notices() {
    let rig = Rig::start().await;
    let slow = [
        Method::New,
        Method::Descriptor,
        Method::Snapshot,
        Method::Restore,
        Method::Start,
        Method::Activate,
        Method::OnPeer,
    ];
    let swapped = async {
        for method in slow.into_iter().chain([Method::Deactivate, Method::Stop]) {
            rig.turn("*", [(method, Fault::Slow)], Default::default());
            rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
        }
    };
    let (tally, ()) = rig.load().await.during(swapped).await;
    tally.assert_none_failed();
}

#[tokio::test]
async fn a_former_one_that_does_not_end_well_holds_no_swap_up() {
    for method in [Method::Deactivate, Method::Stop] {
        for how in [Fault::Panic, Fault::Hang, Fault::Block] {
            let rig = Rig::start().await;
            rig.first_goes_wrong(method, how);
            let (tally, swapped) = rig.load().await.during(rig.swap(&["--probation", "50ms"])).await;
            tally.assert_none_failed();
            swapped.assert(Outcome::Committed);
            assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
            assert_eq!(rig.alpha.component("alpha").await["restarts"], 0);
        }
    }
}

#[tokio::test]
async fn the_former_one_has_each_task_and_stream_once_after_a_refusal() {
    let rig = Rig::start().await;
    let works = async || {
        let generations = rig.alpha.generations("alpha").await;
        let first = generations.into_iter().next().expect("it serves");
        (first.tasks, first.streams)
    };
    let before = works().await;
    assert!(!before.0.is_empty() && before.1 > 0, "{before:?}");
    for method in [Method::Restore, Method::Start, Method::Activate] {
        rig.second_goes_wrong(method, Fault::Fail);
        rig.swap(&AT_ONCE).await.assert(Outcome::Refused);
        eventually(LIMIT, async || holds(works().await == before, works().await)).await;
    }
}

#[tokio::test]
async fn a_new_one_that_ends_badly_as_well_is_refused_all_the_same() {
    let rig = Rig::start().await;
    for how in [Fault::Panic, Fault::Hang] {
        let faults = [(Method::Activate, Fault::Fail), (Method::Deactivate, how), (Method::Stop, how)];
        rig.turn("^2", faults, Default::default());
        is_refused_in(&rig, Phase::Switch, &["Activate fails as configured"]).await;
    }
}

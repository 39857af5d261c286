//! Probation: a new generation that fails is rolled back, with its state where it gives one.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Lies, Method};
use probe_plugin::v1::{MetaRequest, PanicRequest, SpawnRequest, TaskKind, Write, meta_request, write};
use tests::swap::Swapping;
use tests::{LIMIT, eventually, holds, within};

use crate::swap::rig::{AT_ONCE, Rig};

const LONG: [&str; 2] = ["--probation", "1m"];

/// Swapped, and on probation.
async fn on_probation(rig: &Rig) -> Swapping {
    let swapping = rig.begin_swap(&LONG).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
    swapping
}

async fn the_first_is_back(rig: &Rig) {
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
    let view = rig.alpha.component("alpha").await;
    assert_eq!(
        (&view["generation"], &view["restarts"], &view["state_code"]),
        (&1.into(), &0.into(), &"Healthy".into())
    );
}

#[tokio::test]
async fn a_new_one_that_fails_is_rolled_back_with_its_state_and_nobody_notices() {
    let rig = Rig::start().await;
    let story = async {
        let swapping = on_probation(&rig).await;
        rig.second_goes_wrong(Method::Background, Fault::Panic);
        let swapped = swapping.ended().await;
        swapped.assert_failed(Outcome::RolledBack, Phase::Probation, &["Background panics as configured"]);
    };
    let (tally, ()) = rig.load().await.during(story).await;
    tally.assert_none_failed();
    the_first_is_back(&rig).await;
    // The failed one ends while the other one serves.
    eventually(LIMIT, async || holds(rig.lives().contains(&"2 Stop".to_owned()), rig.lives())).await;
    let told = rig.lives();
    let back = told.iter().skip_while(|line| *line != "2 Activate Restored").skip(1).collect::<Vec<_>>();
    assert_eq!(back, ["2 Deactivate SwappedOut", "2 Snapshot", "1 Restore 2", "1 Activate Restored", "2 Stop"]);
    rig.heal();
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
}

#[tokio::test]
async fn what_the_new_one_has_given_out_is_known_after_a_roll_back() {
    let rig = Rig::start().await;
    let before = rig.counts().await;
    let swapping = on_probation(&rig).await;
    assert_eq!(rig.counts().await, before + 1);
    rig.second_goes_wrong(Method::Background, Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    assert_eq!(rig.counts().await, before + 2);
}

#[tokio::test]
async fn a_roll_back_without_a_state_skips_what_may_have_been_given_out() {
    for (method, how) in
        [(Method::Snapshot, Fault::Fail), (Method::Snapshot, Fault::Panic), (Method::Snapshot, Fault::Hang)]
    {
        let rig = Rig::start().await;
        rig.counts().await;
        let swapping = on_probation(&rig).await;
        let last = rig.counts().await;
        rig.turn("^2", [(Method::Background, Fault::Panic), (method, how)], Default::default());
        swapping.ended().await.assert(Outcome::RolledBack);
        the_first_is_back(&rig).await;
        assert!(rig.counts().await > last + 1, "the rest of the range is skipped");
        assert!(rig.lives().contains(&"1 Activate RolledBack".to_owned()), "{:?}", rig.lives());
    }
}

#[tokio::test]
async fn what_outlasts_a_roll_back_writes_nothing_that_the_former_one_does_not_know_of() {
    let rig = Rig::with(|config| config.set("swap.gate_timeout", "500ms")).await;
    let gated = Some(vec![format!("/{}/Meta", probe_plugin::service_name("alpha"))]);
    let lies = || Lies { gated: gated.clone(), ..Lies::default() };
    rig.turn("^2", [(Method::Meta, Fault::Wait)], lies());
    let swapping = on_probation(&rig).await;
    let (probe, late) = (rig.probe().await, meta_request::What::Write(put("late")));
    let writing = tokio::spawn(async move { probe.clone().meta(MetaRequest { what: Some(late) }).await });
    eventually(LIMIT, async || holds(rig.alpha.generations("alpha").await[1].calls == 1, "it runs")).await;
    rig.turn("^2", [(Method::Meta, Fault::Wait), (Method::Background, Fault::Panic)], lies());
    let swapped = swapping.ended().await;
    let back = swapped.assert(Outcome::RolledBack).view().phases.last().cloned().expect("phases");
    assert!(back.detail.contains("1 calls of gated methods still run on it"), "{back:?}");
    rig.heal();
    let written = within(LIMIT, writing).await.expect("no panic").expect("an answer").into_inner();
    assert_eq!((written.succeeded, written.reason.as_str()), (false, "FENCED"), "{written:?}");
    let read = MetaRequest { what: Some(meta_request::What::Get("late".to_owned())) };
    let found = rig.probe().await.meta(read).await.expect("an answer").into_inner();
    assert!(found.entries.is_empty(), "{found:?}");
    the_first_is_back(&rig).await;
}

fn put(key: &str) -> Write {
    Write { key: key.to_owned(), what: Some(write::What::Put(b"value".to_vec())) }
}

#[tokio::test]
async fn a_former_one_that_does_not_take_its_state_back_reads_the_metadata() {
    let rig = Rig::start().await;
    let swapping = on_probation(&rig).await;
    rig.counts().await;
    rig.first_goes_wrong(Method::Restore, Fault::Fail);
    let panicking = SpawnRequest { name: "t".into(), kind: TaskKind::Panicking.into() };
    rig.probe().await.spawn(panicking).await.expect("an answer");
    let swapped = swapping.ended().await;
    let back = swapped.assert(Outcome::RolledBack).view().phases.last().cloned().expect("phases");
    assert!(back.detail.contains("Restore fails as configured"), "{back:?}");
    rig.counts().await;
    assert!(rig.lives().contains(&"1 Activate RolledBack".to_owned()), "{:?}", rig.lives());
}

#[tokio::test]
async fn where_neither_can_serve_the_component_is_started_again() {
    let rig = Rig::start().await;
    let swapping = on_probation(&rig).await;
    rig.counts().await;
    rig.turn("*", [(Method::Background, Fault::Panic), (Method::Activate, Fault::Fail)], Default::default());
    let swapped = swapping.ended().await;
    swapped.assert(Outcome::Failed);
    rig.heal();
    rig.is_called().await;
    rig.counts().await;
    let view = rig.alpha.component("alpha").await;
    assert!(view["restarts"].as_u64() >= Some(1), "{view}");
}

#[tokio::test]
async fn a_panic_in_on_peer_rolls_back_as_well() {
    let rig = Rig::start().await;
    let swapping = on_probation(&rig).await;
    rig.second_goes_wrong(Method::OnPeer, Fault::Panic);
    rig.beta.restart().await.healthy().await;
    let swapped = swapping.ended().await;
    swapped.assert_failed(Outcome::RolledBack, Phase::Probation, &["OnPeer panics as configured"]);
    rig.is_called().await;
    the_first_is_back(&rig).await;
}

#[tokio::test]
async fn a_panic_in_a_call_is_no_failure_of_the_component() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap(&["--probation", "500ms"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    rig.probe().await.panic(PanicRequest::default()).await.expect_err("it panics");
    swapping.ended().await.assert(Outcome::Committed);
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
}

#[tokio::test]
async fn a_swap_that_stays_is_told_in_the_session_and_in_the_history() {
    let rig = Rig::start().await;
    rig.swap(&["--probation", "50ms"]).await.assert(Outcome::Committed);
    eventually(LIMIT, async || {
        let sessions = rig.cluster.sessions("alpha").await;
        holds(sessions.values().all(|record| record.version == "2.0.0"), sessions)
    })
    .await;
    rig.second_goes_wrong(Method::New, Fault::Fail);
    rig.swap(&[]).await.assert(Outcome::Refused);
    let view = rig.alpha.component("alpha").await;
    let outcomes: Vec<_> =
        view["swaps"].as_array().expect("a list").iter().map(|swap| swap["outcome"].clone()).collect();
    assert_eq!(outcomes, ["committed", "refused"]);
    assert_eq!((view["version"].as_str(), view["swap"]["number"].as_u64()), (Some("2.0.0"), Some(2)), "{view}");
    assert_eq!(view["swaps"][0]["order"]["probation"], "50ms");
}

#[tokio::test]
async fn a_failure_after_the_commit_starts_the_new_code_again() {
    let rig = Rig::start().await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    rig.counts().await;
    let panicking = SpawnRequest { name: "t".into(), kind: TaskKind::Panicking.into() };
    // The component's failure may cut the call.
    drop(rig.probe().await.spawn(panicking).await);
    eventually(LIMIT, async || {
        let view = rig.alpha.component("alpha").await;
        holds(view["restarts"] == 1 && view["state_code"] == "Healthy", view)
    })
    .await;
    rig.counts().await;
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
}

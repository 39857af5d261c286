//! A stop during a swap: before the switch it is aborted, after it it is committed.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Lies, Method};
use tests::{HostConfig, LIMIT, eventually, holds, within};

use crate::swap::rig::{Rig, lives};

/// What each of the two generations was told at last.
fn ends(told: &[String]) -> (Vec<&str>, Vec<&str>) {
    let of = |generation: &str| {
        let own = told.iter().filter_map(|line| line.strip_prefix(generation));
        let own = own.filter(|line| line.starts_with("Activate") || line.starts_with("Deactivate") || *line == "Stop");
        own.collect::<Vec<_>>()
    };
    (of("1 "), of("2 "))
}

#[tokio::test]
async fn a_stop_before_the_switch_aborts_the_swap() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap_held_in(Phase::Warm, &[]).await;
    assert!(rig.alpha.stop().await.success());
    swapping.ended().await.assert_failed(Outcome::Refused, Phase::Warm, &["the host stops"]);
    let told = lives(&rig.alpha);
    let (first, second) = ends(&told);
    assert_eq!(second, ["Stop"], "{told:?}");
    assert_eq!((first.first(), first.last()), (Some(&"Activate Fresh"), Some(&"Stop")), "{told:?}");
    let (on, off) = (
        first.iter().filter(|line| line.starts_with("Activate")),
        first.iter().filter(|line| line.starts_with("Deactivate")),
    );
    assert_eq!(on.count(), off.count(), "they alternate: {told:?}");
}

#[tokio::test]
async fn a_stop_on_probation_commits_the_swap() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    assert!(rig.alpha.stop().await.success());
    swapping.ended().await.assert(Outcome::Committed);
    let told = lives(&rig.alpha);
    let expected =
        (vec!["Activate Fresh", "Deactivate SwappedOut", "Stop"], vec!["Activate Restored", "Deactivate Stop", "Stop"]);
    assert_eq!(ends(&told), expected, "{told:?}");
}

#[tokio::test]
async fn peers_are_told_of_a_stop_though_a_swap_is_slow_to_be_undone() {
    let slow = ["activate", "deactivate"].map(|method| format!("component.alpha.{method}_timeout"));
    let limits = |config: HostConfig| slow.iter().fold(config, |config, limit| config.set(limit, "20s"));
    let rig = Rig::with(|config| limits(config).set("shutdown.limit", "60s")).await;
    rig.turn("^2", [(Method::Activate, Fault::Wait), (Method::Deactivate, Fault::Wait)], Lies::default());
    let swapping = rig.begin_swap(&[]).await;
    rig.alpha.swap_in("alpha", Phase::Switch).await;
    rig.alpha.terminate();
    eventually(LIMIT, || async {
        let sessions = rig.cluster.sessions("alpha").await;
        holds(sessions.len() == 1 && sessions.values().all(|record| record.stopping), sessions)
    })
    .await;
    rig.heal();
    assert!(rig.alpha.ended().await.success());
    swapping.ended().await.assert_failed(Outcome::Refused, Phase::Switch, &["the host stops"]);
    let told = lives(&rig.alpha);
    let first: Vec<_> = told.iter().filter_map(|line| line.strip_prefix("1 ")).collect();
    assert!(first.ends_with(&["Activate Kept", "OnStopping", "Deactivate Stop", "Stop"]), "{told:?}");
}

#[tokio::test]
async fn a_stop_waits_for_no_swap_that_has_not_begun() {
    let rig = Rig::start().await;
    rig.second_goes_wrong(Method::New, Fault::Hang);
    let swapping = rig.begin_swap(&[]).await;
    rig.alpha.swap_in("alpha", Phase::Prepare).await;
    assert!(within(tests::LIMIT, rig.alpha.stop()).await.success());
    assert_ne!(swapping.ended().await.code, 0);
}

#[tokio::test]
async fn a_restart_on_probation_is_the_new_ones() {
    let rig = Rig::start().await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    rig.counts().await;
    let restarted = rig.alpha.command(&["restart", "alpha"]).await;
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    swapping.ended().await.assert(Outcome::Committed);
    rig.is_called().await;
    rig.counts().await;
    assert_eq!(rig.answers().await.1, "2.0.0", "it goes on with the code that it has");
}

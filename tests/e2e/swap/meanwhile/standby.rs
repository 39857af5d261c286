//! Swaps where a component stands by: it is started and not activated, and takes over as any standby does.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Method};
use tests::{Cluster, Host};

use crate::swap::rig::{AT_ONCE, Rig, lives, second_edition};

/// Sessions that another takes over soon.
async fn two_seconds() -> Rig {
    Rig::in_cluster(Cluster::start().await, "2s", |config| config).await
}

/// The active one goes, and this one is called.
async fn takes_over(rig: &mut Rig, standby: Host) {
    rig.alpha.kill9();
    standby.healthy().await;
    rig.alpha = standby;
    rig.is_called().await;
}

#[tokio::test]
async fn a_standby_is_swapped_and_takes_over_with_the_new_code() {
    let mut rig = two_seconds().await;
    let standby = rig.standby().await;
    rig.counts().await;
    standby.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    assert_eq!(lives(&standby), ["1 Start", "1 Snapshot", "2 Restore 1", "2 Start", "1 Stop"]);
    assert_eq!(standby.component("alpha").await["state_code"], "StandBy");
    takes_over(&mut rig, standby).await;
    rig.counts().await;
    assert_eq!(rig.lives()[5..], ["2 Activate TakenOver"]);
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
}

#[tokio::test]
async fn a_takeover_during_a_swap_comes_to_one_of_the_two_and_once() {
    let mut rig = two_seconds().await;
    // Nothing else is to end it.
    let standby = rig.standby_with(|config| config.set("component.alpha.start_timeout", "2m")).await;
    rig.counts().await;
    rig.second_waits_in(Phase::Warm);
    let swapping = standby.begin_swap("alpha", &second_edition(), &AT_ONCE).await;
    standby.swap_in("alpha", Phase::Warm).await;
    takes_over(&mut rig, standby).await;
    swapping.ended().await.assert_failed(Outcome::Refused, Phase::Warm, &["session changed"]);
    rig.counts().await;
    let told = rig.lives();
    let activated: Vec<_> = told.iter().filter(|line| line.contains("Activate")).collect();
    assert_eq!(activated, ["1 Activate TakenOver"], "{told:?}");
}

#[tokio::test]
async fn a_standby_on_probation_takes_over_and_can_be_rolled_back() {
    let mut rig = two_seconds().await;
    let standby = rig.standby().await;
    rig.counts().await;
    let swapping = standby.begin_swap("alpha", &second_edition(), &["--probation", "10m"]).await;
    standby.swap_in("alpha", Phase::Probation).await;
    takes_over(&mut rig, standby).await;
    rig.counts().await;
    rig.second_goes_wrong(Method::Background, Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    rig.counts().await;
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
}

#[tokio::test]
async fn the_active_one_is_swapped_while_another_stands_by() {
    let mut rig = two_seconds().await;
    let standby = rig.standby().await;
    let (tally, swapped) = rig.load().await.during(rig.swap(&AT_ONCE)).await;
    tally.assert_none_failed();
    swapped.assert(Outcome::Committed);
    assert_eq!(lives(&standby), ["1 Start"], "it has not noticed");
    takes_over(&mut rig, standby).await;
    rig.counts().await;
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
}

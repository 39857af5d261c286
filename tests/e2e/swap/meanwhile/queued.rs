//! Several swaps of one component take turns; those of different components do not wait for one another.

use componenthost::swap::{Outcome, Phase};
use tests::Cluster;

use crate::swap::rig::{AT_ONCE, Rig, first_edition, limits, second_edition};

#[tokio::test]
async fn swaps_of_one_component_take_turns() {
    let rig = Rig::start().await;
    let first = rig.begin_swap_held_in(Phase::Warm, &AT_ONCE).await;
    let second = rig.alpha.begin_swap("alpha", &first_edition(), &AT_ONCE).await;
    let waiting = rig.alpha.swap_in("alpha", Phase::Wait).await;
    assert_eq!((waiting.number, waiting.to), (2, None));
    assert!(!first.is_over() && !second.is_over());
    rig.heal();
    let (tally, (first, second)) = rig.load().await.during(async { (first.ended().await, second.ended().await) }).await;
    tally.assert_none_failed();
    assert_eq!((first.assert(Outcome::Committed).view().from, first.view().to), (1, Some(2)));
    assert_eq!((second.assert(Outcome::Committed).view().from, second.view().to), (2, Some(3)));
    assert_eq!(rig.answers().await, (3, "0.1.0".to_owned()));
}

#[tokio::test]
async fn a_swap_on_probation_ends_before_the_next_one_begins() {
    let rig = Rig::start().await;
    let first = rig.begin_swap(&["--probation", "1s"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    let second = rig.alpha.swap("alpha", &first_edition(), &AT_ONCE).await;
    assert!(first.is_over(), "it has had its time");
    first.ended().await.assert(Outcome::Committed);
    second.assert(Outcome::Committed);
    assert_eq!(rig.answers().await, (3, "0.1.0".to_owned()));
}

#[tokio::test]
async fn swaps_of_two_components_do_not_wait_for_one_another() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let knobs = folder.path().join("knobs");
    std::fs::write(&knobs, r#"{"only": "^2", "faults": {"start": {"how": "wait"}}}"#).expect("it is writable");
    let config =
        limits(cluster.config()).probe("alpha", serde_json::json!({ "kind": "coordinator", "knobs_file": knobs }));
    let host = cluster.host(config.probe("beta", tests::probe::coordinator())).await;
    host.healthy().await;
    let slow = host.begin_swap("alpha", &second_edition(), &AT_ONCE).await;
    host.swap_in("alpha", Phase::Warm).await;
    host.swap("beta", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    assert!(!slow.is_over());
    std::fs::remove_file(&knobs).expect("it is there");
    slow.ended().await.assert(Outcome::Committed);
}

//! The hand-over of the state: a snapshot that cannot be had, one that cannot be read, and calls that run meanwhile.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Lies, Method, StateLie};
use probe_plugin::v1::ReleaseRequest;
use serde_json::json;
use tests::probe::{held, hold};
use tests::{Cluster, LIMIT, within};

use super::is_refused_in;
use crate::swap::rig::{AT_ONCE, Rig, second_edition};

#[tokio::test]
async fn a_former_one_that_gives_no_snapshot_goes_on() {
    let rig = Rig::start().await;
    let cases = async {
        for (how, words) in [
            (Fault::Fail, ["snapshot", "Snapshot fails as configured"]),
            (Fault::Panic, ["snapshot", "Snapshot panics as configured"]),
            (Fault::Hang, ["snapshot", "2s"]),
        ] {
            rig.first_goes_wrong(Method::Snapshot, how);
            is_refused_in(&rig, Phase::HandOver, &words).await;
            rig.heal();
        }
    };
    let (tally, ()) = rig.load().await.during(cases).await;
    tally.assert_none_failed();
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_refused_with_its_version() {
    let rig = Rig::start().await;
    for (lie, words) in
        [(StateLie::Garbage, "a state of the format 1, of 8 bytes"), (StateLie::Later, "from the format 99 on")]
    {
        let number = rig.counts().await;
        rig.turn("<2", [], Lies { state: Some(lie), ..Lies::default() });
        is_refused_in(&rig, Phase::HandOver, &["restore", words]).await;
        assert_eq!(rig.counts().await, number + 1, "the former one has its state");
    }
    rig.heal();
    // The other way round: the first edition is the older one, and is given what it cannot read.
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    rig.turn("^2", [], Lies { state: Some(StateLie::Later), ..Lies::default() });
    let back = rig.alpha.swap("alpha", &crate::swap::rig::first_edition(), &AT_ONCE).await;
    back.assert_failed(Outcome::Refused, Phase::HandOver, &["restore", "from the format 99 on", "this edition has 1"]);
}

#[tokio::test]
async fn a_state_that_is_forgotten_costs_no_number_twice() {
    let rig = Rig::start().await;
    rig.turn("^2", [], Lies { state: Some(StateLie::Forgets), ..Lies::default() });
    let before = rig.counts().await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    assert!(rig.counts().await > before + 1, "the rest of the range is skipped");
}

#[tokio::test]
async fn a_component_without_a_state_is_swapped_only_where_that_is_asked_for() {
    let rig = Rig::start().await;
    rig.first_goes_wrong(Method::Snapshot, Fault::Unwritten);
    is_refused_in(&rig, Phase::HandOver, &["--state fresh"]).await;
    let before = rig.counts().await;
    rig.swap(&[&AT_ONCE[..], &["--state", "try"]].concat()).await.assert(Outcome::Committed);
    assert!(rig.counts().await > before);
    let fresh = rig.alpha.swap("alpha", &second_edition(), &[&AT_ONCE[..], &["--state", "fresh"]].concat()).await;
    fresh.assert(Outcome::Committed);
    rig.counts().await;
    let told = rig.lives();
    let begun: Vec<_> = told.iter().filter(|line| line.contains("Activate") || line.contains("Restore")).collect();
    assert_eq!(begun, ["1 Activate Fresh", "1 Activate Kept", "3 Activate TakenOver", "4 Activate TakenOver"]);
}

/// A host whose `alpha` holds calls of `Hold` during a swap.
async fn that_gates_hold(cluster: &Cluster) -> tests::Host {
    let gated = [format!("/{}/Hold", probe_plugin::service_name("alpha"))];
    let config = crate::swap::rig::limits(cluster.config()).set("swap.gate_timeout", "500ms");
    let host = cluster.host(config.probe("alpha", json!({ "kind": "coordinator", "gated": gated }))).await;
    host.healthy().await;
    host
}

#[tokio::test]
async fn a_gated_call_that_does_not_end_refuses_the_swap_and_goes_on() {
    let cluster = Cluster::start().await;
    let host = that_gates_hold(&cluster).await;
    let probe = host.probe("alpha").await;
    let mut caller = probe.clone();
    let running = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;
    let swapped = host.swap("alpha", &second_edition(), &AT_ONCE).await;
    swapped.assert_failed(Outcome::Refused, Phase::Gate, &["1 calls", "500ms", "swap.gate_timeout"]);
    probe.clone().release(ReleaseRequest { key: "k".into() }).await.expect("an answer");
    assert!(within(LIMIT, running).await.expect("no panic").expect("an answer").into_inner().released);
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
}

#[tokio::test]
async fn a_gated_call_that_is_held_too_long_ends_the_swap_and_is_answered() {
    let rig = Rig::with(|config| config.set("swap.hold_limit", "1s").set("swap.hand_over_timeout", "20s")).await;
    rig.second_goes_wrong(Method::Restore, Fault::Hang);
    let swapping = rig.begin_swap(&AT_ONCE).await;
    rig.alpha.swap_in("alpha", Phase::HandOver).await;
    // It is held, and comes to the former generation.
    rig.counts().await;
    let swapped = swapping.ended().await;
    swapped.assert_failed(Outcome::Refused, Phase::HandOver, &["1s", "swap.hold_limit"]);
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
}

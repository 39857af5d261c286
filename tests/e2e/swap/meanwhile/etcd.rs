//! A swap while etcd is away: it needs none, unless the session is uncertain by then.

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Method};
use probe_plugin::v1::EchoRequest;
use tests::{Cluster, HostConfig, LIMIT, eventually, holds};

use crate::swap::rig::{AT_ONCE, Rig};

/// A cluster with an etcd of its own.
async fn own_etcd() -> Rig {
    Rig::in_cluster(Cluster::with_own_etcd().await, "2s", |config| config).await
}

async fn fenced(rig: &Rig, is_fenced: bool) {
    eventually(LIMIT, async || {
        let view = rig.alpha.component("alpha").await;
        holds(view["fenced"] == is_fenced, view)
    })
    .await;
}

async fn answers(rig: &Rig) {
    eventually(LIMIT, async || rig.probe().await.echo(EchoRequest::default()).await).await;
}

#[tokio::test]
async fn a_swap_needs_no_etcd() {
    let rig = Rig::in_cluster(Cluster::with_own_etcd().await, "1m", |config| config).await;
    let before = rig.counts().await;
    rig.cluster.etcd().stop().await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
    assert_eq!(rig.counts().await, before + 1, "its range is handed over");
    rig.cluster.etcd().cont();
    // What it could not be told then it is told later.
    eventually(LIMIT, async || {
        let sessions = rig.cluster.sessions("alpha").await;
        holds(sessions.values().all(|record| record.version == "2.0.0"), sessions)
    })
    .await;
}

#[tokio::test]
async fn a_fence_before_the_switch_refuses_the_swap_and_the_former_one_goes_on_after_it() {
    // Nothing else is to end the swap.
    let limits = ["swap.hand_over_timeout", "swap.hold_limit"];
    let long = |config| limits.iter().fold(config, |config: HostConfig, limit| config.set(limit, "2m"));
    let rig = Rig::in_cluster(Cluster::with_own_etcd().await, "2s", long).await;
    let before = rig.counts().await;
    let swapping = rig.begin_swap_held_in(Phase::HandOver, &AT_ONCE).await;
    rig.cluster.etcd().kill();
    swapping.ended().await.assert_failed(Outcome::Refused, Phase::HandOver, &["session changed"]);
    rig.heal();
    rig.cluster.etcd().restart().await;
    answers(&rig).await;
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
    assert_eq!(rig.counts().await, before + 1, "its state is kept");
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
}

#[tokio::test]
async fn a_component_that_is_fenced_can_be_swapped_and_the_new_one_goes_on_after_the_fence() {
    let rig = own_etcd().await;
    let before = rig.counts().await;
    rig.cluster.etcd().kill();
    fenced(&rig, true).await;
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
    rig.cluster.etcd().restart().await;
    answers(&rig).await;
    assert_eq!(rig.answers().await, (2, "2.0.0".to_owned()));
    assert_eq!(rig.counts().await, before + 1);
    let told = rig.lives();
    let expected = ["1 Deactivate Fenced", "1 Snapshot", "2 Restore 1", "2 Start", "1 Stop", "2 Activate Kept"];
    assert_eq!(told[2..], expected, "neither is active while it is fenced");
}

#[tokio::test]
async fn a_fence_on_probation_is_the_new_ones_and_it_can_be_rolled_back_after_it() {
    let rig = own_etcd().await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    let before = rig.counts().await;
    rig.cluster.etcd().kill();
    fenced(&rig, true).await;
    rig.cluster.etcd().restart().await;
    answers(&rig).await;
    assert_eq!(rig.counts().await, before + 1);
    let told = rig.lives();
    assert_eq!(told[told.len() - 2..], ["2 Deactivate Fenced", "2 Activate Kept"]);
    rig.second_goes_wrong(Method::Background, Fault::Panic);
    swapping.ended().await.assert(Outcome::RolledBack);
    assert_eq!((rig.answers().await.0, rig.counts().await), (1, before + 2));
}

//! A new generation that is not what it should be: another role, kind, policy or service.

use componenthost::swap::{Outcome, Phase};
use plugin_api::{Kind, LeasePolicy, Role};
use probe_plugin::knobs::Lies;

use super::is_refused_in;
use crate::swap::rig::{AT_ONCE, Rig, answer_of};

fn role(name: &str) -> Option<Role> {
    Some(Role::new(name).expect("a role"))
}

async fn is_refused_for(lies: Lies, phase: Phase, words: &[&str]) {
    let rig = Rig::start().await;
    rig.turn("^2", [], lies);
    let (tally, ()) = rig.load().await.during(is_refused_in(&rig, phase, words)).await;
    tally.assert_none_failed();
}

#[tokio::test]
async fn another_role_is_refused() {
    let lies = Lies { role: role("delta"), ..Lies::default() };
    is_refused_for(lies, Phase::Prepare, &["plays the role delta", "expected alpha"]).await;
}

#[tokio::test]
async fn another_kind_is_refused() {
    let lies = Lies { kind: Some(Kind::Node), ..Lies::default() };
    is_refused_for(lies, Phase::Prepare, &["a node", "a coordinator", "restart the host"]).await;
}

#[tokio::test]
async fn another_lease_policy_is_refused() {
    let lies = Lies { lease_policy: Some(LeasePolicy::Serve), ..Lies::default() };
    is_refused_for(lies, Phase::Prepare, &["serve", "fence", "component.alpha.lease_policy"]).await;
}

#[tokio::test]
async fn another_components_services_are_refused() {
    let beside = |config: tests::HostConfig| config.probe("delta", tests::probe::node());
    let rig = Rig::with(beside).await;
    rig.turn("^2", [], Lies { serves_as: role("delta"), ..Lies::default() });
    is_refused_in(&rig, Phase::Warm, &["componenthost.delta.v1.Probe"]).await;
    assert_eq!(answer_of(&rig.alpha, "delta").await.role, "delta");
}

#[tokio::test]
async fn one_that_does_not_serve_what_is_served_now_is_refused() {
    let lies = Lies { serves_as: role("delta"), ..Lies::default() };
    is_refused_for(lies, Phase::Warm, &["componenthost.alpha.v1.Probe", "restart the host"]).await;
}

#[tokio::test]
async fn what_is_gated_may_be_another() {
    let rig = Rig::start().await;
    rig.turn("^2", [], Lies { gated: Some(vec!["*".to_owned()]), ..Lies::default() });
    let swapped = async {
        for file in [crate::swap::rig::second_edition(), crate::swap::rig::first_edition()] {
            rig.alpha.swap("alpha", &file, &AT_ONCE).await.assert(Outcome::Committed);
        }
    };
    let (tally, ()) = rig.load().await.during(swapped).await;
    tally.assert_none_failed();
}

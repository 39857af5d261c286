//! A component that does not serve: a swap starts another code, and a restart ends a quarantine.

use componenthost::swap::Outcome;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Cluster, Host, HostConfig};

use crate::swap::rig::{AT_ONCE, answer_of, second_edition};

/// A host whose first edition does not start, as long as the file of knobs is there.
async fn that_does_not_start(config: impl FnOnce(HostConfig) -> HostConfig) -> (Cluster, Host, TempDir) {
    let cluster = Cluster::start().await;
    let folder = TempDir::with_prefix("componenthost-test-swap-").expect("a temporary directory can be made");
    let knobs = folder.path().join("knobs");
    std::fs::write(&knobs, r#"{"only": "<2", "faults": {"start": {"how": "fail"}}}"#).expect("it is writable");
    let alpha = json!({ "kind": "coordinator", "knobs_file": knobs });
    let host = cluster.host(config(cluster.config().probe("alpha", alpha))).await;
    (cluster, host, folder)
}

async fn abnormal(host: &Host, quarantined: bool) -> Value {
    tests::eventually(tests::LIMIT, async || {
        let view = host.component("alpha").await;
        let as_expected = view["state_code"] == "Abnormal" && view["quarantined"] == quarantined;
        if as_expected { Ok(view) } else { Err(view) }
    })
    .await
}

async fn serves_second(host: &Host) {
    assert_eq!(answer_of(host.healthy().await, "alpha").await.version, "2.0.0");
}

#[tokio::test]
async fn a_swap_ends_a_quarantine() {
    let (cluster, host, _folder) = that_does_not_start(|config| config.set("supervision.quarantine_after", 1)).await;
    abnormal(&host, true).await;
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    serves_second(&host).await;
    assert_eq!(cluster.sessions("alpha").await.len(), 1);
}

#[tokio::test]
async fn a_swap_does_not_wait_for_the_next_try_of_a_component_that_failed() {
    let (_cluster, host, _folder) = that_does_not_start(|config| {
        config.set("supervision.backoff_min", "10m").set("supervision.backoff_max", "10m")
    })
    .await;
    abnormal(&host, false).await;
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    serves_second(&host).await;
}

#[tokio::test]
async fn a_swap_to_what_does_not_start_either_is_told() {
    let (_cluster, host, folder) = that_does_not_start(|config| config.set("supervision.quarantine_after", 1)).await;
    abnormal(&host, true).await;
    std::fs::write(folder.path().join("knobs"), r#"{"faults": {"start": {"how": "fail"}}}"#).expect("it is writable");
    let swapped = host.swap("alpha", &second_edition(), &AT_ONCE).await;
    assert!(swapped.code != 0 && swapped.view().reason.contains("Start fails as configured"), "{swapped:#?}");
    abnormal(&host, true).await;
    // What it tries again with is not what has never started.
    std::fs::remove_file(folder.path().join("knobs")).expect("it is there");
    assert_eq!(host.command(&["restart", "alpha"]).await.code, Some(0));
    assert_eq!(answer_of(host.healthy().await, "alpha").await.version, "0.1.0");
}

#[tokio::test]
async fn a_restart_ends_a_quarantine() {
    let (_cluster, host, folder) = that_does_not_start(|config| config.set("supervision.quarantine_after", 1)).await;
    abnormal(&host, true).await;
    let failed = host.command(&["restart", "alpha"]).await;
    assert!(failed.code == Some(1) && format!("{failed:?}").contains("Start fails as configured"), "{failed:?}");
    std::fs::remove_file(folder.path().join("knobs")).expect("it is there");
    let restarted = host.command(&["restart", "alpha"]).await;
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    assert_eq!(answer_of(host.healthy().await, "alpha").await.version, "0.1.0");
}

#[tokio::test]
async fn a_restart_of_what_is_well_begins_a_new_life() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", tests::probe::coordinator()).await;
    host.healthy().await;
    let restarted = host.command(&["restart", "alpha"]).await;
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    let told = crate::swap::rig::lives(&host);
    assert_eq!(told, ["1 Start", "1 Activate Fresh", "1 Deactivate Stop", "1 Stop", "1 Start", "1 Activate TakenOver"]);
}

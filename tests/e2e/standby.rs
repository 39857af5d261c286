//! Active and standby: who is called, who takes over, when and how often.

use std::time::{Duration, Instant};

use componenthost::wire::v1::host_client::HostClient;
use componenthost::wire::v1::{ComponentInfo, GetComponentStatesRequest};
use plugin_api::refusal::{Refusal, key};
use plugin_api::state::StateCode;
use probe_plugin::v1::{CallKind, EchoRequest, Empty, MetaRequest, SpawnRequest, TaskKind, Write, meta_request, write};
use serde_json::{Value, json};
use tests::client::reason;
use tests::cluster::TTL_SECONDS;
use tests::probe::{call, calling, coordinator, faulty, held, hold, reaches};
use tests::{Cluster, Host, LIMIT, eventually, holds, within};

/// An active host and its standby.
async fn pair(cluster: &Cluster, config: Value) -> (Host, Host) {
    let active = cluster.probe("alpha", config.clone()).await;
    active.healthy().await;
    let standby = cluster.probe("alpha", config).await;
    standby.in_state("alpha", "StandBy").await;
    (active, standby)
}

/// How its component stands, as Milvus' tools ask.
async fn info(host: &Host) -> ComponentInfo {
    let request = GetComponentStatesRequest::default();
    let states = HostClient::new(host.channel().await).get_component_states(request).await.expect("an answer");
    states.into_inner().subcomponent_states.remove(0)
}

/// Methods and details of its probe's life, in a line; from its log, as a standby is not called.
fn life(host: &Host) -> String {
    let told = host.log().into_iter().filter(|line| line.message() == "life");
    let told = told.filter_map(|line| Some((line.text("method")?, line.text("detail")?)));
    let told = told.filter(|(method, _)| method != "Start");
    told.map(|(method, detail)| format!("{method} {detail}")).collect::<Vec<_>>().join(", ")
}

async fn server_id(host: &Host) -> i64 {
    host.component("alpha").await["server_id"].as_i64().expect("it has one")
}

/// Waits until it serves, and says how long it took from then on.
#[expect(clippy::print_stdout, reason = "what was measured is shown")]
async fn takes_over(standby: &Host, since: Instant, what: &str) -> Duration {
    standby.in_state("alpha", "Healthy").await;
    let took = since.elapsed();
    println!("takeover after {what}: Healthy after {took:?}");
    took
}

fn caller() -> Value {
    json!({ "kind": "node", "dependencies": calling(&["alpha"])["dependencies"] })
}

#[tokio::test]
async fn a_standby_is_in_good_health_and_turns_calls_away() {
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", coordinator()).await;
    let (active, standby) = pair(&cluster, calling(&["beta"])).await;
    assert_eq!(standby.get("/healthz").await.status, 200);
    let (info, address) = (info(&standby).await, active.address().await);
    assert_eq!(info.state_code, StateCode::StandBy.number());
    assert!(info.extra_info.iter().any(|pair| pair.key == "active" && pair.value.contains(&address)), "{info:?}");

    let status = standby.probe("alpha").await.echo(EchoRequest::default()).await.expect_err("it is not active");
    let refusal = Refusal::from_status(&status).expect("a refusal");
    let (id, executed) = (server_id(&standby).await, refusal.executed);
    assert_eq!((reason(&status), executed), ("STANDBY", plugin_api::Executed::No));
    assert_eq!(refusal.details.get(key::REFUSED_BY), Some(&format!("alpha-{id}")));
    assert!(refusal.message.contains(&address), "{}", refusal.message);
    assert_eq!(life(&standby), "", "it was not activated");

    // Its own links are proved beforehand, and it is registered under a key of its own.
    standby.ready().await;
    beta.assert_running();
    let keys: Vec<_> = cluster.sessions("alpha").await.into_keys().collect();
    assert!(keys.len() == 2 && keys[1].ends_with(&format!("/alpha-{id}")), "{keys:?}");
}

#[tokio::test]
async fn a_standby_takes_over_from_the_dead_once_and_callers_follow() {
    let cluster = Cluster::start().await;
    let (active, standby) = pair(&cluster, coordinator()).await;
    let calls = cluster.probe("gamma", caller()).await;
    let probe = calls.healthy().await.probe("gamma").await;
    reaches(&probe, &call("alpha", CallKind::Unary)).await;

    let killed = Instant::now();
    active.kill9();
    let took = takes_over(&standby, killed, "kill -9").await;
    assert!(took < Duration::from_secs(TTL_SECONDS + 5), "after {took:?}");
    reaches(&probe, &call("alpha", CallKind::Unary)).await;
    let seen = probe.clone().call(call("alpha", CallKind::Unary)).await.expect("the probe answers").into_inner();
    assert_eq!(seen.server_id, server_id(&standby).await);
    assert_eq!(life(&standby), "Activate TakenOver", "once, and without a start of its own");
    for (host, role) in [(&calls, "gamma"), (&standby, "alpha")] {
        assert_eq!(host.component(role).await["restarts"], 0, "{role} goes on as it is");
    }
}

#[tokio::test]
async fn a_graceful_stop_hands_over_at_once() {
    let cluster = Cluster::start().await;
    let (active, standby) = pair(&cluster, coordinator()).await;
    let told = Instant::now();
    active.terminate();
    let took = takes_over(&standby, told, "SIGTERM").await;
    assert!(took < Duration::from_secs(1), "after {took:?}");
    assert!(active.ended().await.success());
    assert_eq!(life(&standby), "Activate TakenOver");
}

#[tokio::test]
async fn a_stop_does_not_keep_a_standby_waiting_for_running_calls() {
    let cluster = Cluster::start().await;
    let (active, standby) = pair(&cluster, coordinator()).await;
    let probe = active.probe("alpha").await;
    let mut holder = probe.clone();
    let limited = probe_plugin::v1::HoldRequest { limit_ms: 3000, ..hold("k") };
    let running = tokio::spawn(async move { holder.hold(limited).await });
    held(&probe, 1).await;
    let told = Instant::now();
    active.terminate();
    let took = takes_over(&standby, told, "SIGTERM with a call that runs").await;
    assert!(!running.is_finished(), "the call runs on: {took:?}");
    within(LIMIT, running).await.expect("no panic").expect("it ends well");
    active.ended().await;
    assert_eq!(life(&active), "Activate Fresh, OnStopping (), Deactivate Stop, Stop ()", "deactivated once");
}

#[tokio::test]
async fn a_standby_that_stops_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("session.ttl", "60s").probe("alpha", coordinator());
    let active = cluster.host(config.clone()).await;
    active.healthy().await;
    let standby = cluster.host(config).await;
    standby.in_state("alpha", "StandBy").await;
    assert!(standby.stop().await.success());
    assert_eq!(cluster.sessions("alpha").await.len(), 1, "its lease would live for long");
    assert_eq!(life(&standby), "Stop ()", "it was never active");
    active.assert_running();
}

#[tokio::test]
async fn a_frozen_active_one_is_replaced_and_stands_by_when_it_wakes() {
    let cluster = Cluster::start().await;
    // Under the policy serve it would answer on.
    let mut config = coordinator();
    config["lease_policy"] = json!("serve");
    let (active, standby) = pair(&cluster, config).await;
    let mut probe = active.probe("alpha").await;
    let frozen = Instant::now();
    active.sigstop().await;
    takes_over(&standby, frozen, "SIGSTOP").await;
    let write = Write { key: "k".to_owned(), what: Some(write::What::Put(b"v".to_vec())) };
    let writing =
        tokio::spawn(async move { probe.meta(MetaRequest { what: Some(meta_request::What::Write(write)) }).await });
    active.cont();
    let refused = match within(LIMIT, writing).await.expect("no panic") {
        Ok(answer) => answer.into_inner().reason,
        Err(status) => reason(&status).to_owned(),
    };
    assert!(["FENCED", "STANDBY"].contains(&refused.as_str()), "{refused}");
    active.in_state("alpha", "StandBy").await;
    active.logged(|line| line.text("detail").as_deref() == Some("Replaced")).await;
    assert_eq!(life(&active), "Activate Fresh, Deactivate Replaced");
    assert_eq!(
        (life(&standby).as_str(), standby.component("alpha").await["state_code"].as_str()),
        ("Activate TakenOver", Some("Healthy"))
    );

    // And back again.
    standby.kill9();
    active.in_state("alpha", "Healthy").await;
    assert_eq!(life(&active), "Activate Fresh, Deactivate Replaced, Activate TakenOver");
}

#[tokio::test]
async fn who_is_not_to_stand_by_is_held_when_it_is_replaced() {
    let cluster = Cluster::start().await;
    let config = cluster.config().probe("alpha", coordinator());
    let active = cluster.host(config.clone().set("component.alpha.standby", false)).await;
    active.healthy().await;
    let standby = cluster.host(config).await;
    standby.in_state("alpha", "StandBy").await;
    active.sigstop().await;
    standby.in_state("alpha", "Healthy").await;
    active.cont();
    let view = active.in_state("alpha", "Abnormal").await;
    let cause = view["cause"].as_str().expect("a cause");
    assert!(
        view["quarantined"] == true && cause.contains("replaced") && cause.contains(&standby.address().await),
        "{view}"
    );
    assert_eq!(active.get("/healthz").await.status, 503);
    standby.healthy().await;
}

#[tokio::test]
async fn a_component_that_does_not_come_back_gives_its_key_to_a_standby() {
    let cluster = Cluster::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let broken = directory.path().join("broken");
    let config = cluster.config().set("supervision.quarantine_after", 1000);
    let first = cluster.host(config.clone().probe("alpha", faulty("start", "fail", &broken))).await;
    first.healthy().await;
    let standby = cluster.host(config.probe("alpha", coordinator())).await;
    standby.in_state("alpha", "StandBy").await;

    std::fs::write(&broken, "").expect("a file");
    let panicking = SpawnRequest { name: "t".into(), kind: TaskKind::Panicking.into() };
    first.probe("alpha").await.spawn(panicking).await.expect("an answer");
    first.in_state("alpha", "Abnormal").await;
    let took = takes_over(&standby, Instant::now(), "a failure that lasts").await;
    assert!(took < Duration::from_secs(TTL_SECONDS + 5), "after {took:?}");
    std::fs::remove_file(&broken).expect("it is there");
    first.in_state("alpha", "StandBy").await;
    standby.healthy().await;
}

#[tokio::test]
async fn a_standby_is_told_of_its_peers_when_it_takes_over() {
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", coordinator()).await;
    let (active, standby) = pair(&cluster, calling(&["beta"])).await;
    active.stop().await;
    let probe = standby.healthy().await.probe("alpha").await;
    let beta = beta.component("beta").await["server_id"].as_i64();
    eventually(LIMIT, async || {
        let told = probe.clone().events(Empty {}).await.map_err(|status| status.to_string())?.into_inner().on_peer;
        let table = told.first().filter(|event| event.change == "table").and_then(|event| event.peers.first());
        holds(table.map(|peer| peer.server_id) == beta && beta.is_some(), format!("{told:?}"))
    })
    .await;
}

//! The fence: what a component and its callers see while nobody knows whether its session lives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use componenthost::wire::v1::GetIdentityRequest;
use componenthost::wire::v1::host_client::HostClient;
use plugin_api::refusal::{Refusal, key};
use probe_plugin::v1::{CallKind, EchoRequest, Empty, FenceRequest, MetaRequest, Write, meta_request, write};
use serde_json::{Value, json};
use tests::client::{Probe, reason};
use tests::cluster::TTL_SECONDS;
use tests::probe::{call, calling, coordinator, reaches};
use tests::{Cluster, Host, LIMIT, eventually, holds, within};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Waits until the probe's calls are refused, and gives the refusal.
async fn refused(probe: &Probe) -> Status {
    eventually(LIMIT, async || match probe.clone().echo(EchoRequest::default()).await {
        Ok(_) => Err("answered"),
        Err(status) => Ok(status),
    })
    .await
}

/// Waits until the probe answers.
async fn answers(probe: &Probe) {
    eventually(LIMIT, async || probe.clone().echo(EchoRequest::default()).await).await;
}

/// Methods and details of its life so far, in a line.
async fn life(probe: &Probe) -> String {
    let life = probe.clone().life(Empty {}).await.expect("the probe answers").into_inner();
    let told = life.calls.iter().filter(|call| call.method != "Start");
    told.map(|call| format!("{} {}", call.method, call.detail)).collect::<Vec<_>>().join(", ")
}

/// Writes metadata: empty where that went well, else the refusal's reason.
async fn written(probe: &Probe) -> String {
    let write = Write { key: "k".to_owned(), what: Some(write::What::Put(b"v".to_vec())) };
    let request = MetaRequest { what: Some(meta_request::What::Write(write)) };
    let answer = probe.clone().meta(request).await.expect("the probe answers").into_inner();
    if answer.succeeded { String::new() } else { answer.reason }
}

async fn fence(probe: &Probe, until: Option<bool>) -> bool {
    probe.clone().fence(FenceRequest { until }).await.expect("the call ends well").into_inner().fenced
}

/// A cluster with an etcd of its own, a host with one probe, and the probe.
async fn alone(config: Value) -> (Cluster, Host, Probe) {
    let cluster = Cluster::with_own_etcd().await;
    let host = cluster.probe("alpha", config).await;
    let probe = host.healthy().await.probe("alpha").await;
    (cluster, host, probe)
}

#[tokio::test]
async fn lease_loss_fences_the_component_and_its_return_lifts_the_fence() {
    let (cluster, host, probe) = alone(coordinator()).await;
    assert_eq!((fence(&probe, None).await, written(&probe).await), (false, String::new()));
    // Runs through the fence, asks the token, and ends well.
    let running = probe.clone();
    let running = tokio::spawn(async move { fence(&running, Some(true)).await });
    cluster.etcd().kill();
    let status = refused(&probe).await;
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "FENCED"));
    assert!(within(LIMIT, running).await.expect("it ends well"), "the handler was told");
    let view = eventually(LIMIT, async || {
        let view = host.component("alpha").await;
        if view["fenced"] == true { Ok(view) } else { Err(view) }
    })
    .await;
    assert_eq!(view["state_code"], "Healthy");

    cluster.etcd().restart().await;
    answers(&probe).await;
    assert_eq!(life(&probe).await, "Activate Fresh, Deactivate Fenced, Activate Kept");
    assert_eq!((fence(&probe, None).await, written(&probe).await), (false, String::new()));
    host.ready().await;
}

#[tokio::test]
async fn everybody_who_asks_is_told_of_the_fence() {
    let (cluster, host, probe) = alone(coordinator()).await;
    let service = probe_plugin::service_name("alpha");
    let serving = async || {
        let request = HealthCheckRequest { service: service.clone() };
        let answer = HealthClient::new(host.channel().await).check(request).await.expect("an answer");
        answer.into_inner().status().as_str_name()
    };
    assert_eq!(serving().await, "SERVING");
    cluster.etcd().kill();
    let refusal = Refusal::from_status(&refused(&probe).await).expect("a refusal");
    eventually(LIMIT, async || holds(serving().await == "NOT_SERVING", "it serves")).await;

    let id = host.component("alpha").await["server_id"].to_string();
    let own = format!("alpha-{id}");
    let expected: HashMap<&str, &str> = [
        (key::ROLE, "alpha"),
        (key::SERVER_ID, &id),
        (key::TARGET, &own),
        (key::REFUSED_BY, &own),
        (key::STATE_CODE, "Healthy"),
    ]
    .into();
    for (key, value) in expected {
        assert_eq!(refusal.details.get(key).map(String::as_str), Some(value), "{key} of {refusal:?}");
    }
    assert_eq!(host.get("/healthz").await.status, 200);
    let ready = host.get("/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("alpha: fenced"), "{ready:?}");
    let identity = HostClient::new(host.channel().await).get_identity(GetIdentityRequest::default()).await;
    let roles = identity.expect("an answer").into_inner().roles;
    assert!(roles.len() == 1 && roles[0].fenced && roles[0].state_code == 1, "{roles:?}");
}

#[tokio::test]
async fn under_the_policy_serve_calls_go_on_and_writes_are_fenced() {
    let cluster = Cluster::with_own_etcd().await;
    // The configuration goes before the component's own word.
    let config = cluster.config().probe("alpha", json!({ "kind": "coordinator", "lease_policy": "fence" }));
    let host = cluster.host(config.set("component.alpha.lease_policy", "serve")).await;
    let probe = host.healthy().await.probe("alpha").await;
    cluster.etcd().kill();
    assert!(fence(&probe, Some(true)).await);
    assert_eq!(written(&probe).await, "FENCED");
    answers(&probe).await;
    assert_eq!(host.component("alpha").await["fenced"], false);
    cluster.etcd().restart().await;
    assert!(!fence(&probe, Some(false)).await);
    assert_eq!((written(&probe).await, life(&probe).await), (String::new(), "Activate Fresh".to_owned()));
}

#[tokio::test]
async fn a_node_with_the_policy_fence_keeps_its_state_under_a_new_registration() {
    let (cluster, _host, probe) = alone(json!({ "kind": "node", "lease_policy": "fence" })).await;
    // Its lease goes, and it is registered anew.
    let lease = cluster.sessions("alpha").await.into_values().next().expect("it is registered").lease_id;
    cluster.etcd().kill();
    assert_eq!(reason(&refused(&probe).await), "FENCED");
    cluster.etcd().hide().await;
    cluster.etcd().revoke(lease).await;
    cluster.etcd().show().await;
    answers(&probe).await;
    assert_eq!(life(&probe).await, "Activate Fresh, Deactivate Fenced, Activate Kept");
    assert_eq!(written(&probe).await, "");
}

#[tokio::test]
async fn a_node_goes_on_and_writes_under_a_new_registration() {
    let (cluster, _host, probe) = alone(json!({ "kind": "node" })).await;
    let registered = async || cluster.sessions("alpha").await.into_values().next().map(|record| record.lease_id);
    let before = registered().await.expect("it is registered");
    cluster.etcd().revoke(before).await;
    eventually(LIMIT, async || holds(registered().await.is_some_and(|lease| lease != before), "not yet")).await;
    eventually(LIMIT, async || {
        let refused = written(&probe).await;
        holds(refused.is_empty(), refused)
    })
    .await;
    assert_eq!(life(&probe).await, "Activate Fresh");
}

#[tokio::test]
async fn a_host_that_stood_still_refuses_the_first_call() {
    let (cluster, host, probe) = alone(coordinator()).await;
    cluster.etcd().stop().await;
    host.sigstop().await;
    let since = Instant::now();
    let mut caller = probe.clone();
    // It waits in the socket when the host goes on.
    let first = tokio::spawn(async move { caller.echo(EchoRequest::default()).await });
    let over = Duration::from_secs(TTL_SECONDS);
    eventually(LIMIT, async || holds(since.elapsed() > over, "the lease is certain")).await;
    host.cont();
    let status = within(LIMIT, first).await.expect("no panic").expect_err("its lease may be gone");
    cluster.etcd().cont();
    assert_eq!(reason(&status), "FENCED");
}

#[tokio::test]
async fn a_callers_link_to_a_fenced_peer_stays() {
    let cluster = Cluster::with_own_etcd().await;
    let beta = cluster.probe("beta", coordinator()).await;
    let alpha =
        cluster.probe("alpha", json!({ "kind": "node", "dependencies": calling(&["beta"])["dependencies"] })).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    cluster.etcd().kill();
    let refused = eventually(LIMIT, async || {
        let seen = probe.clone().call(call("beta", CallKind::Unary)).await.expect("the probe answers").into_inner();
        if seen.code == 0 { Err("answered") } else { Ok(seen) }
    })
    .await;
    assert_eq!(refused.reason, "FENCED", "{refused:?}");
    // Whoever depends on it says so.
    let ready = alpha.get("/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("FENCED"), "{ready:?}");
    cluster.etcd().restart().await;
    answers(&beta.probe("beta").await).await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    let events = probe.clone().events(Empty {}).await.expect("the probe answers").into_inner().watched;
    let changes: Vec<_> = events.iter().map(|event| event.change.as_str()).collect();
    let told: Vec<_> = changes.iter().filter(|change| ["online", "offline"].contains(change)).copied().collect();
    assert_eq!(told, ["online", "offline", "online"], "{changes:?}");
    let offline = events.iter().find(|event| event.change == "offline").expect("it is there");
    assert_eq!(offline.reason, "FENCED");
    let view = alpha.connections().await;
    assert_eq!(view["dependencies"][0]["peers"][0]["attempts"], 1, "the link stayed: {view}");
}

#[tokio::test]
async fn a_fenced_component_stops_well() {
    let (cluster, host, probe) = alone(coordinator()).await;
    cluster.etcd().kill();
    refused(&probe).await;
    host.logged(|line| line.text("detail").as_deref() == Some("Fenced")).await;
    host.stop().await;
    let told = host.log().into_iter().filter(|line| line.message() == "life").filter_map(|line| line.text("method"));
    assert_eq!(told.collect::<Vec<_>>(), ["Start", "Activate", "Deactivate", "Stop"], "deactivated once");
}

#[tokio::test]
async fn a_deleted_key_stops_the_host_where_that_is_wanted() {
    let cluster = Cluster::start().await;
    let config = cluster.config().probe("alpha", coordinator()).set("session.on_deleted", "stop");
    let host = cluster.host(config).await;
    host.healthy().await;
    let key = cluster.sessions("alpha").await.into_keys().next().expect("it is registered");
    cluster.delete(&key).await;
    assert!(host.ended().await.success(), "as if it had been told by a signal");
    let why = host.log().into_iter().find_map(|line| line.text("why")).expect("it says why");
    assert!(why.contains(&key) && why.contains("session.on_deleted"), "{why}");
    let told_in_vain = host.log().iter().any(|line| line.message().contains("could not be told"));
    assert!(!told_in_vain, "without a key there is nobody who could be told of the stop");
    // It may have been fenced first; it is deactivated once all the same.
    let told = host.log().into_iter().filter(|line| line.message() == "life").filter_map(|line| line.text("method"));
    let told: Vec<_> = told.filter(|method| method != "OnStopping").collect();
    assert_eq!(told, ["Start", "Activate", "Deactivate", "Stop"]);
}

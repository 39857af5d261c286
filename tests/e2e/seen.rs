//! What people see of a host's connections, against what was done to it.

mod metrics;
mod table;

use probe_plugin::v1::CallKind;
use serde_json::{Value, json};
use tests::admin::Events;
use tests::eventually::{eventually, holds};
use tests::host::LIMIT;
use tests::probe::{call, calling_nodes, node, reaches};
use tests::{Cluster, Host};

/// What a host shows of a peer of the role beta.
async fn beta(alpha: &Host, id: &Value) -> Value {
    let view = alpha.connections().await;
    let dependency = view["dependencies"].as_array().into_iter().flatten().find(|of| of["role"] == "beta").cloned();
    let peers = dependency.unwrap_or_default()["peers"].clone();
    peers.as_array().into_iter().flatten().find(|peer| peer["server_id"] == *id).cloned().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[tokio::test]
async fn a_peer_is_shown_with_its_registration_its_traffic_and_its_round_trips() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("connections.keepalive_interval", "100ms").probe("alpha", calling_nodes("beta"));
    let (alpha, other) = tokio::join!(cluster.host(config), cluster.probe("beta", node()));
    let probe = alpha.healthy().await.probe("alpha").await;
    let id = other.healthy().await.component("beta").await["server_id"].clone();
    reaches(&probe, &call("beta", CallKind::Unary)).await;

    let shown = eventually(LIMIT, async || {
        let shown = beta(&alpha, &id).await;
        holds(shown["last_round_trip_us"].is_u64(), &shown).map(|()| shown.clone()).map_err(|_| shown.clone())
    })
    .await;
    let session = other.component("beta").await["session"].clone();
    assert_eq!(shown["registration"]["lease"], session["lease"]);
    assert_eq!(shown["registration"]["create_revision"], session["registration"]["create_revision"]);
    assert_eq!((&shown["link"], &shown["session"]), (&json!("ready"), &json!("live")));
    assert_eq!(shown["next_try_ms"], Value::Null);
    let since = humantime::parse_rfc3339(shown["since"].as_str().expect("a time")).expect("RFC 3339");
    let ago = since.elapsed().expect("it is in the past");
    assert!(ago.as_millis() >= u128::from(number(&shown["since_ms"])) && ago < LIMIT, "{shown}");

    // 100 kB each way, and little more.
    let size = 100_000;
    let before = beta(&alpha, &id).await;
    let mut caller = probe.clone();
    let request = probe_plugin::v1::CallRequest { size, ..call("beta", CallKind::Unary) };
    assert_eq!(caller.call(request).await.expect("an answer").into_inner().code, 0);
    eventually(LIMIT, async || {
        let after = beta(&alpha, &id).await;
        let more = |field: &str| number(&after[field]) - number(&before[field]);
        let (came, went) = (more("bytes_in"), more("bytes_out"));
        let about = |bytes| (u64::from(size)..u64::from(size) * 2).contains(&bytes);
        holds(about(came) && about(went), (came, went))
    })
    .await;
    // As long as the keepalive goes on, there are ever new ones.
    eventually(LIMIT, async || {
        let age = number(&beta(&alpha, &id).await["last_round_trip_age_ms"]);
        holds(age < 100, age)
    })
    .await;
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling_nodes("beta")).await;
    let id = alpha.healthy().await.component("alpha").await["server_id"].clone();
    let socket = alpha.directory().join("run").join(format!("{id}.sock"));
    let mut over_tcp = Events::read(&alpha.admin_address().await, None).await;
    let mut over_socket = Events::read_socket(&socket).await;

    let other = cluster.probe("beta", node()).await;
    let beta = other.healthy().await.component("beta").await["server_id"].clone();
    for events in [&mut over_tcp, &mut over_socket] {
        let table = events.next().await.expect("a table");
        assert_eq!((table.kind.as_str(), &table.data["components"][0]["role"]), ("table", &json!("alpha")));
        events.find("peer", |data| data["event"] == "online" && data["server_id"] == beta).await;
    }
    other.kill9();
    let gone = over_tcp.find("peer", |data| data["event"] == "offline" && data["server_id"] == beta).await;
    assert_eq!(gone.data["role"], "beta");

    // Its own session, and its own state.
    let session = alpha.component("alpha").await["session"].clone();
    cluster.delete(session["key"].as_str().expect("a key")).await;
    let again = over_tcp.find("session", |data| data["event"] == "reregistered").await;
    let revision = &again.data["registration"]["create_revision"];
    assert!(number(revision) > number(&session["registration"]["create_revision"]), "{again:?}");
    alpha.terminate();
    let stopping = over_socket.find("component", |data| data["state_code"] == "Stopping").await;
    assert_eq!(stopping.data["role"], "alpha");
    while over_socket.next().await.is_some() {}
    assert!(alpha.ended().await.success());
}

//! What a component is told of its peers when it is slow, or does not return.

use std::path::PathBuf;

use probe_plugin::v1::{CallKind, Empty, Event, EventsResponse};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::client::Probe;
use tests::probe::{call, calling, coordinator, reaches};
use tests::{Cluster, LIMIT, eventually, holds};

/// `on_peer` goes wrong as long as the file is there.
struct Fault {
    folder: TempDir,
}

impl Fault {
    fn begin() -> Self {
        let fault = Self { folder: tempfile::tempdir().expect("a temporary directory can be made") };
        std::fs::write(fault.file(), "").expect("the folder is writable");
        fault
    }

    fn end(&self) {
        std::fs::remove_file(self.file()).expect("the file is there");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("while")
    }

    /// A probe that calls beta, and whose `on_peer` goes wrong in this way.
    fn config(&self, how: &str) -> Value {
        let mut config = calling(&["beta"]);
        config["faults"] = json!({ "on_peer": { "how": how, "while": self.file() } });
        config
    }
}

/// Waits until what the probe was told is as wanted.
async fn told(probe: &Probe, wanted: impl Fn(&EventsResponse) -> bool) -> EventsResponse {
    eventually(LIMIT, async || {
        let events = probe.clone().events(Empty {}).await.map_err(|status| status.to_string())?.into_inner();
        if wanted(&events) { Ok(events) } else { Err(format!("{events:?}")) }
    })
    .await
}

fn changes(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.change.as_str()).collect()
}

/// Does the last event say that one peer can be called, and which?
fn is_up(events: &[Event], server_id: Option<i64>) -> bool {
    events.last().is_some_and(|event| match &event.peers[..] {
        [peer] => event.change != "offline" && peer.link == "ready" && Some(peer.server_id) == server_id,
        _ => false,
    })
}

/// Is the session's end the last that was told?
fn has_gone(events: &[Event]) -> bool {
    events.last().is_some_and(|event| event.reason == "SESSION_GONE")
}

#[tokio::test]
async fn a_slow_component_is_told_the_table_in_place_of_what_came_meanwhile() {
    let cluster = Cluster::start().await;
    let slow = Fault::begin();
    let alpha = cluster.probe("alpha", slow.config("wait")).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    told(&probe, |events| changes(&events.on_peer) == ["table"]).await;

    let beta = cluster.probe("beta", coordinator()).await;
    // Neither its calls wait for it, nor those who listen by themselves.
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    told(&probe, |events| changes(&events.watched).contains(&"online")).await;
    assert!(beta.stop().await.success());
    told(&probe, |events| has_gone(&events.watched)).await;
    let next = cluster.probe("beta", coordinator()).await;
    let server_id = next.healthy().await.component("beta").await["server_id"].as_i64();
    let events = told(&probe, |events| is_up(&events.watched, server_id)).await;
    assert_eq!(changes(&events.on_peer), ["table"], "one event at a time");

    slow.end();
    let events = told(&probe, |events| is_up(&events.on_peer, server_id)).await;
    assert_eq!(changes(&events.on_peer), ["table", "table"], "{:?}", events.watched);
    assert!(next.stop().await.success());
    let events = told(&probe, |events| has_gone(&events.on_peer)).await;
    let since = changes(&events.on_peer[2..]);
    // Its link may end before its session.
    assert!(since[0] == "stopping" && !since.contains(&"table"), "each by itself again: {since:?}");
}

#[tokio::test]
async fn an_on_peer_that_hangs_is_dropped_and_the_table_comes_again() {
    let cluster = Cluster::start().await;
    let hangs = Fault::begin();
    let config = cluster.config().probe("alpha", hangs.config("hang")).set("component.alpha.on_peer_timeout", "300ms");
    let alpha = cluster.host(config).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    let beta = cluster.probe("beta", coordinator()).await;
    let server_id = beta.healthy().await.component("beta").await["server_id"].as_i64();
    let events = told(&probe, |events| is_up(&events.on_peer, server_id)).await;
    assert!(changes(&events.on_peer).iter().all(|change| *change == "table"), "{:?}", changes(&events.on_peer));
    alpha.logged(|line| line.message().starts_with("on_peer took too long")).await;

    hangs.end();
    assert!(beta.stop().await.success());
    told(&probe, |events| {
        events.on_peer.last().is_some_and(|event| event.change == "offline" || event.peers.is_empty())
    })
    .await;
    let view = alpha.component("alpha").await;
    assert_eq!((view["restarts"].as_u64(), view["state_code"].as_str()), (Some(0), Some("Healthy")), "{view}");
    eventually(LIMIT, async || holds(alpha.get("/healthz").await.status == 200, "it works on")).await;
}

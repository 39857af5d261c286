//! What a component asks of its host through its context: metadata, peers, tasks.

use futures_util::StreamExt;
use plugin_api::Role;
use probe_plugin::v1::{
    AbortRequest, CallKind, Compare, Empty, MetaRequest, MetaResponse, MetaWatchRequest, PeersRequest, SpawnRequest,
    TaskKind, Transaction, Write, compare, meta_request, write,
};
use serde_json::json;
use tests::client::Probe;
use tests::probe::{call, calling, calling_nodes, coordinator, node, reaches};
use tests::{Cluster, LIMIT, eventually, holds, within};
use tonic::Code;

async fn ask(probe: &Probe, what: meta_request::What) -> MetaResponse {
    probe.clone().meta(MetaRequest { what: Some(what) }).await.expect("the probe answers").into_inner()
}

fn put(key: &str, value: &str) -> Write {
    Write { key: key.to_owned(), what: Some(write::What::Put(value.as_bytes().to_vec())) }
}

fn delete(key: &str) -> Write {
    Write { key: key.to_owned(), what: Some(write::What::Delete(Empty {})) }
}

fn transact(compare: compare::What, write: Write) -> meta_request::What {
    let compares = vec![Compare { key: write.key.clone(), what: Some(compare) }];
    meta_request::What::Transact(Transaction { compares, writes: vec![write] })
}

#[tokio::test]
async fn metadata_is_written_compared_and_read() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let probe = host.healthy().await.probe("alpha").await;

    let written = ask(&probe, meta_request::What::Write(put("a/1", "one"))).await;
    assert!(written.succeeded, "{written:?}");
    let read = ask(&probe, meta_request::What::Get("a/1".into())).await;
    assert_eq!((read.entries[0].value.as_slice(), read.entries[0].mod_revision), (b"one".as_slice(), written.revision));

    let absent = compare::What::Absent(Empty {});
    assert!(!ask(&probe, transact(absent.clone(), put("a/1", "again"))).await.succeeded, "it is there");
    assert!(ask(&probe, transact(absent, put("a/2", "two"))).await.succeeded);
    let unchanged = compare::What::Unchanged(written.revision);
    assert!(ask(&probe, transact(unchanged.clone(), put("a/1", "new"))).await.succeeded);
    assert!(!ask(&probe, transact(unchanged, put("a/1", "newer"))).await.succeeded, "it has changed");
    assert!(ask(&probe, transact(compare::What::Value(b"new".to_vec()), delete("a/1"))).await.succeeded);

    let left = ask(&probe, meta_request::What::Range("a/".into())).await;
    assert_eq!(left.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["a/2"]);
    let key = cluster.keys().metadata(&Role::new("alpha").expect("a role")) + "a/2";
    let stored = cluster.etcd().client().await.get(key, None).await.expect("etcd answers a get");
    assert_eq!(
        stored.kvs().first().map(|pair| pair.value().to_vec()),
        Some(b"two".to_vec()),
        "under the role's prefix"
    );
}

#[tokio::test]
async fn metadata_is_followed() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let probe = host.healthy().await.probe("alpha").await;
    ask(&probe, meta_request::What::Write(put("a", "there before"))).await;
    let watch = MetaWatchRequest { prefix: String::new() };
    let mut events = probe.clone().meta_watch(watch).await.expect("a watch").into_inner();
    for (write, change) in [(None, "table"), (Some(put("b", "new")), "put"), (Some(delete("a")), "delete")] {
        if let Some(write) = write {
            ask(&probe, meta_request::What::Write(write)).await;
        }
        let event = within(LIMIT, events.next()).await.expect("the watch goes on").expect("an event");
        assert_eq!(event.change, change, "{event:?}");
    }
}

#[tokio::test]
async fn a_component_is_told_of_its_peers_in_both_ways() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    let beta = cluster.probe("beta", coordinator()).await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    let beta_id = beta.healthy().await.component("beta").await["server_id"].as_i64();
    assert!(beta.stop().await.success());

    let told = eventually(LIMIT, async || {
        let events = probe.clone().events(Empty {}).await.map_err(|status| status.to_string())?.into_inner();
        let last =
            |events: &[probe_plugin::v1::Event]| events.last().is_some_and(|event| event.reason == "SESSION_GONE");
        let complete = last(&events.on_peer) && last(&events.watched);
        if complete { Ok(events) } else { Err(format!("{events:?}")) }
    })
    .await;
    for events in [told.on_peer, told.watched] {
        let changes: Vec<_> = events.iter().map(|event| event.change.as_str()).collect();
        assert_eq!(changes.first(), Some(&"table"), "the table comes first: {changes:?}");
        let order = ["online", "stopping", "offline"].map(|change| changes.iter().position(|each| *each == change));
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "in order: {changes:?}");
        let last = events.last().expect("an event");
        assert_eq!((last.change.as_str(), last.peers.first().map(|peer| peer.server_id)), ("offline", beta_id));
    }
}

#[tokio::test]
async fn clients_are_those_that_can_be_called() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling_nodes("beta")).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    let peers = async |role: &str| {
        let request = PeersRequest { role: role.to_owned() };
        probe.clone().peers(request).await.expect("the probe answers").into_inner()
    };
    assert!(peers("beta").await.peers.is_empty());
    assert_eq!(Code::from(peers("gamma").await.code), Code::FailedPrecondition, "gamma was not declared");

    let nodes = [cluster.probe("beta", node()).await, cluster.probe("beta", node()).await];
    eventually(LIMIT, async || {
        let now = peers("beta").await.peers;
        holds(now.len() == 2 && now.iter().all(|peer| peer.link == "ready" && peer.session == "live"), now)
    })
    .await;
    nodes[0].kill9();
    eventually(LIMIT, async || {
        let now = peers("beta").await.peers;
        holds(now.len() == 1, now)
    })
    .await;
}

#[tokio::test]
async fn tasks_end_by_themselves_when_aborted_and_with_their_component() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let probe = host.healthy().await.probe("alpha").await;
    for (name, kind) in [("returns", TaskKind::Return), ("aborted", TaskKind::Tick), ("ticks", TaskKind::Tick)] {
        let request = SpawnRequest { name: name.to_owned(), kind: kind.into() };
        probe.clone().spawn(request).await.expect("the probe answers");
    }
    probe.clone().abort(AbortRequest { name: "aborted".to_owned() }).await.expect("the probe answers");
    eventually(LIMIT, async || {
        let tasks = probe.clone().tasks(Empty {}).await.map_err(|status| status.to_string())?.into_inner().tasks;
        let as_asked = json!({ "returns": "returned", "aborted": "dropped", "ticks": "running" });
        holds(json!(tasks) == as_asked, tasks).map_err(|tasks| format!("{tasks:?}"))
    })
    .await;

    assert!(host.stop().await.success());
    let dropped = host
        .log()
        .into_iter()
        .find(|line| line.message() == "task ended" && line.text("task").as_deref() == Some("ticks"));
    assert_eq!(dropped.and_then(|line| line.text("state")).as_deref(), Some("dropped"));
}

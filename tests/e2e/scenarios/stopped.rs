//! Hosts that are stopped in good order: they end within their limit, and their callers do not notice.

use std::time::{Duration, Instant};

use componenthost::cluster::Record;
use plugin_api::identity::Role;
use probe_plugin::v1::CallKind;
use serde_json::json;
use tests::clock::monotonic;
use tests::probe::{coordinator, held, node};
use tests::{Cluster, LIMIT, within};

use super::caller::{Caller, depends_on, unary, unary_within};
use super::calls::Calls;
use super::row::Row;
use super::trap::{FullBacklog, Trap};

/// What the hosts here may take.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// A machine that does much else may end a process late.
const MARGIN: Duration = Duration::from_secs(2);

/// Whatever its peers and its own component do: a method of its life that hangs or keeps its thread is chosen by chance.
#[tokio::test]
async fn a_stop_ends_within_its_limit_whatever_its_component_and_its_peers_do() {
    let mut row = Row::begin("13a", "#46678 #24272 stop with all that hangs");
    let cluster = Cluster::start().await;
    let (full, silent) = (FullBacklog::anywhere().await, Trap::anywhere());
    for (role, address) in [("full", full.address()), ("silent", silent.address())] {
        let record =
            Record { server_id: 1_000_000, address: address.to_string(), exclusive: true, ..Record::default() };
        let role = Role::new(role).expect("a role");
        cluster.etcd().put_session(&cluster.keys(), &role, &record, Duration::from_secs(60)).await;
    }
    let beta = cluster.host(cluster.config().set("session.ttl", "60s").probe("beta", coordinator())).await;
    let roles = depends_on(&[("beta", "coordinator"), ("full", "coordinator"), ("silent", "coordinator")]);
    for fault in [None, Some(["hang", "block", "panic"])] {
        let mut probe = roles.clone();
        if let Some(ways) = fault {
            let method = ["on_stopping", "deactivate", "stop"][row.chance().usize(..3)];
            probe["faults"] = json!({ method: { "how": ways[row.chance().usize(..3)] } });
        }
        let config = cluster.config().set("shutdown.grace", "500ms").set("shutdown.drain", "500ms");
        let config = config.set("component.alpha.deactivate_timeout", "500ms").set("shutdown.limit", "3s");
        let config = config.set("component.alpha.stop_timeout", "500ms").probe("alpha", probe.clone());
        let caller = Caller::start_with(&cluster, config).await;
        beta.healthy().await;
        caller.goes_through(unary("beta")).await;
        // A call of its own that runs, to a peer that says nothing.
        let mut asked = caller.probe.clone();
        let running = tokio::spawn(async move { asked.call(tests::probe::call("beta", CallKind::Hold)).await });
        held(&beta.probe("beta").await, 1).await;
        beta.sigstop().await;
        let begin = Instant::now();
        caller.host.stop().await;
        let took = begin.elapsed();
        assert!(took <= STOP_LIMIT + MARGIN, "{:?}: ended after {took:?}", probe["faults"]);
        // Its caller is told, one way or the other.
        drop(within(LIMIT, running).await.expect("no panic"));
        beta.cont();
        held(&beta.probe("beta").await, 0).await;
        // Nobody is left to be looked at.
        caller.truth.finish();
    }
    row.end();
}

#[tokio::test]
async fn in_a_rolling_restart_of_nodes_no_call_fails() {
    let mut row = Row::begin("13b", "#46678 #24272 rolling restart of nodes");
    let cluster = Cluster::start().await;
    let caller = Caller::start(&cluster, depends_on(&[("beta", "node")])).await;
    let config = || cluster.config().set("shutdown.grace", "300ms").probe("beta", node());
    let nodes = [(); 3].map(|()| cluster.spawn(config()));
    let mut ids = Vec::new();
    for host in &nodes {
        ids.push(host.healthy().await.server_id("beta").await);
    }
    caller.linked_to("beta", ids.clone()).await;
    let deadline = Duration::from_secs(2);
    let loops = [(); 3].map(|()| Calls::begin(&caller.probe, unary_within("beta", deadline)));
    row.faults_begin();
    while !row.is_over(Duration::from_secs(2), Duration::from_secs(30)) {
        for (host, id) in nodes.iter().zip(&mut ids) {
            row.pause(0..100).await;
            assert!(host.stop().await.success(), "it stops in good order");
            caller.truth.ended("beta", *id);
            let begin = monotonic();
            *id = host.restart().await.server_id("beta").await;
            let appeared = caller.appears(begin, *id).await.at;
            let through = caller.goes_through(super::caller::unary_to("beta", *id)).await;
            row.ready_after(through.saturating_sub(appeared));
        }
    }
    for calls in loops {
        let tally = calls.end().await;
        row.calls(&tally);
        tally.assert_none_failed();
    }
    caller.truth.finish();
    row.end();
}

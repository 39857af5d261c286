//! Peers that are black holes: one whose listener never accepts and has a full queue, one that accepts and stays silent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use componenthost::cluster::Record;
use plugin_api::identity::Role;
use tests::Cluster;

use super::caller::{Caller, depends_on, unary};
use super::calls::Calls;
use super::isolation::{OTHERS, Undisturbed, others};
use super::row::{CUT_WITHIN, Row};
use super::trap::{FullBacklog, Trap};

/// Longer than the test.
const TTL: Duration = Duration::from_secs(60);

async fn register(cluster: &Cluster, role: &str, address: SocketAddr) {
    let record = Record { server_id: 1_000_000, address: address.to_string(), exclusive: true, ..Record::default() };
    let role = Role::new(role).expect("a role");
    cluster.etcd().put_session(&cluster.keys(), &role, &record, TTL).await;
}

#[tokio::test]
async fn black_holes_slow_no_call_no_start_and_no_stop() {
    let mut row = Row::begin("03b", "#6110 two of seven roles are black holes");
    let cluster = Cluster::start().await;
    let (full, silent) = (FullBacklog::anywhere().await, Trap::anywhere());
    let five = others(&cluster).await;
    let mut roles: Vec<_> = OTHERS.iter().map(|role| (*role, "coordinator")).collect();
    roles.extend([("full", "coordinator"), ("silent", "coordinator")]);
    // The black holes must not hold the one place that there is.
    let config = cluster.config().set("connections.max_parallel_dials", 1);
    let config = config.set("shutdown.grace", "500ms").set("shutdown.drain", "500ms").set("shutdown.limit", "4s");
    let config = config.set("component.alpha.deactivate_timeout", "500ms").set("component.alpha.stop_timeout", "500ms");
    let config = config.probe("alpha", depends_on(&roles));
    let caller = Caller::start_with(&cluster, config.clone()).await;
    five.healthy().await;
    let undisturbed = Undisturbed::begin(&mut row, &caller, &five).await;

    register(&cluster, "full", full.address()).await;
    register(&cluster, "silent", silent.address()).await;
    let dead = ["full", "silent"].map(|role| Calls::begin(&caller.probe, unary(role)));
    for calls in &dead {
        calls.made(100).await;
    }
    assert!(!silent.visits().is_empty(), "it is dialled");
    for calls in dead {
        let tally = calls.end().await;
        assert_eq!(tally.failed.len(), tally.made());
        assert!(tally.slowest() <= CUT_WITHIN, "refused after {:?}", tally.slowest());
        row.calls(&tally);
    }
    undisturbed.end(&mut row, &caller).await;
    caller.truth.finish();

    let begin = Instant::now();
    assert!(caller.host.stop().await.success(), "nothing was left behind");
    assert!(begin.elapsed() < Duration::from_secs(3), "its stop took {:?}", begin.elapsed());
    let again = cluster.host(config).await;
    again.healthy().await;
    let component = again.component("alpha").await;
    let slow = component["steps"].as_array().expect("steps").iter().find(|step| step["took_ms"].as_u64() > Some(1000));
    assert!(slow.is_none(), "{component:#}");
    row.end();
}

//! What comes back after kill -9, and how a host ends when it is told to.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use probe_plugin::v1::{BlockRequest, CallKind, EchoRequest};
use proto::rootcoord::v1::root_coord_client::RootCoordClient;
use proto::rootcoord::v1::{AllocIdRequest, AllocTimestampRequest};
use tests::client::reason;
use tests::cluster::{TTL_SECONDS, free_address};
use tests::probe::{call, calling, coordinator, held, hold, reaches};
use tests::{Cluster, Host, HostConfig, LIMIT, eventually, holds, within};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// What RootCoord has given out, asked for without a pause.
#[derive(Default)]
struct GivenOut {
    ids: Vec<i64>,
    timestamps: Vec<u64>,
}

impl GivenOut {
    /// Asks until RootCoord does not answer, and counts the answers.
    async fn ask(&mut self, channel: Channel, answers: &AtomicUsize) {
        let mut rootcoord = RootCoordClient::new(channel);
        loop {
            let Ok(range) = rootcoord.alloc_id(AllocIdRequest { count: 3 }).await else { return };
            let first = range.get_ref().id;
            self.ids.extend(first..first + i64::from(range.get_ref().count));
            let Ok(range) = rootcoord.alloc_timestamp(AllocTimestampRequest { count: 2 }).await else { return };
            let first = range.get_ref().timestamp;
            self.timestamps.extend(first..first + u64::from(range.get_ref().count));
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn no_id_and_no_timestamp_twice_over_twenty_kills() {
    let cluster = Cluster::start().await;
    let rootcoord = cluster.component("rootcoord").await;
    let mut given_out = GivenOut::default();
    for round in 1..=20 {
        let channel = rootcoord.healthy().await.channel().await;
        let answers = AtomicUsize::new(0);
        // The kill comes in the midst of calls, each time after more of them.
        let kill = async {
            eventually(LIMIT, || async {
                let answered = answers.load(Ordering::Relaxed);
                holds(answered >= 5 * round, answered)
            })
            .await;
            rootcoord.kill9();
        };
        tokio::join!(given_out.ask(channel, &answers), kill);
        rootcoord.restart().await;
    }
    let unique: HashSet<_> = given_out.ids.iter().collect();
    assert_eq!(unique.len(), given_out.ids.len(), "no id twice");
    assert!(given_out.timestamps.is_sorted_by(|earlier, later| earlier < later), "timestamps never go back");
}

#[tokio::test]
async fn no_id_and_no_timestamp_twice_where_a_standby_takes_over() {
    let cluster = Cluster::start().await;
    let mut active = cluster.component("rootcoord").await;
    active.healthy().await;
    let mut standby = cluster.component("rootcoord").await;
    let mut given_out = GivenOut::default();
    for graceful in [false, true, false] {
        standby.in_state("rootcoord", "StandBy").await;
        let answers = AtomicUsize::new(0);
        let end = async {
            eventually(LIMIT, async || holds(answers.load(Ordering::Relaxed) >= 20, "too few answers")).await;
            if graceful { active.terminate() } else { active.kill9() }
        };
        tokio::join!(given_out.ask(active.channel().await, &answers), end);
        standby.healthy().await;
        active.ended().await;
        active.restart().await;
        std::mem::swap(&mut active, &mut standby);
    }
    let (answers, channel) = (AtomicUsize::new(0), active.channel().await);
    let enough = eventually(LIMIT, async || holds(answers.load(Ordering::Relaxed) >= 20, "too few answers"));
    tokio::select! {
        () = given_out.ask(channel, &answers) => panic!("the last of them does not answer"),
        () = enough => {}
    }
    let unique: HashSet<_> = given_out.ids.iter().collect();
    assert_eq!(unique.len(), given_out.ids.len(), "no id twice");
    assert!(given_out.timestamps.is_sorted_by(|earlier, later| earlier < later), "timestamps never go back");
}

#[tokio::test]
async fn a_stop_lets_running_calls_end() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut caller = probe.clone();
    let request = probe_plugin::v1::HoldRequest { limit_ms: 1500, ..hold("k") };
    let running = tokio::spawn(async move { caller.hold(request).await });
    held(&probe, 1).await;

    assert!(host.stop().await.success(), "a stop is a success");
    within(LIMIT, running).await.expect("no panic").expect("the call ended well");
    assert!(cluster.sessions("alpha").await.is_empty(), "the lease is revoked");
    let life: Vec<_> =
        host.log().iter().filter(|line| line.message() == "life").filter_map(|line| line.text("method")).collect();
    assert_eq!(life, ["Start", "Activate", "OnStopping", "Deactivate", "Stop"]);
}

#[tokio::test]
async fn a_stopping_host_tells_its_peers_and_serves_on_while_its_work_moves() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("shutdown.limit", "90s").set("shutdown.grace", "60s");
    let host = cluster.host(config.probe("alpha", serde_json::json!({ "kind": "node", "moving_ms": 60_000 }))).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    host.terminate();
    eventually(LIMIT, || async {
        let sessions = cluster.sessions("alpha").await;
        holds(sessions.len() == 1 && sessions.values().all(|record| record.stopping), sessions)
    })
    .await;
    host.logged(|line| line.message() == "life" && line.text("method").as_deref() == Some("OnStopping")).await;
    probe.echo(EchoRequest::default()).await.expect("it serves on");
    host.kill9();
}

#[tokio::test]
async fn a_stop_ends_within_its_limit_whatever_hangs() {
    let cluster = Cluster::start().await;
    let mut hanging = coordinator();
    let hang = serde_json::json!({ "how": "hang" });
    hanging["faults"] = serde_json::json!({ "on_stopping": hang, "deactivate": hang, "stop": hang });
    let host = cluster.host(short_stop(&cluster).probe("alpha", hanging)).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut caller = probe.clone();
    let running = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;

    let begin = Instant::now();
    host.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(6), "ended after {:?}", begin.elapsed());
    within(LIMIT, running).await.expect("no panic").expect_err("the call was cut");
}

/// Waits for the end of a host whose stop may take four seconds.
async fn ends_at_its_limit(host: &Host) {
    let begin = Instant::now();
    let status = host.ended().await;
    assert!(begin.elapsed() < Duration::from_secs(6), "ended after {:?}", begin.elapsed());
    assert!(!status.success(), "not everything has ended");
}

#[tokio::test]
async fn a_stop_that_comes_to_its_limit_while_calls_drain_gives_the_session_up() {
    let cluster = Cluster::start().await;
    // The lease outlives the test: a session that is gone was given up. The limit is over before the drain's.
    let config = cluster.config().set("session.ttl", "60s").set("shutdown.grace", "0s");
    let config = config.set("shutdown.drain", "3400ms").set("shutdown.limit", "4s");
    let config = config.set("component.alpha.deactivate_timeout", "200ms").set("component.alpha.stop_timeout", "200ms");
    let host = cluster.host(config.probe("alpha", coordinator())).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut caller = probe.clone();
    let _running = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;
    host.terminate();
    ends_at_its_limit(&host).await;
    assert_eq!(cluster.sessions("alpha").await.len(), 0);
}

fn short_stop(cluster: &Cluster) -> HostConfig {
    let config = cluster.config().set("shutdown.grace", "500ms").set("shutdown.drain", "500ms");
    let config = config.set("component.alpha.deactivate_timeout", "500ms").set("component.alpha.stop_timeout", "500ms");
    config.set("shutdown.limit", "4s")
}

#[tokio::test]
async fn a_stop_goes_on_where_a_component_keeps_the_thread() {
    let cluster = Cluster::start().await;
    let mut blocking = coordinator();
    blocking["faults"] = serde_json::json!({ "stop": { "how": "block" } });
    let host = cluster.host(short_stop(&cluster).set("session.ttl", "60s").probe("alpha", blocking)).await;
    host.healthy().await;
    let begin = Instant::now();
    assert!(host.stop().await.success(), "the method's own limit has ended it");
    assert!(begin.elapsed() < Duration::from_secs(4), "ended after {:?}", begin.elapsed());
    assert!(cluster.sessions("alpha").await.is_empty(), "its session is given up all the same");
}

/// A component that keeps its thread in this method does not keep another's session.
async fn others_end_while_one_keeps_its_thread_in(method: &str) {
    let cluster = Cluster::start().await;
    let mut blocking = coordinator();
    blocking["faults"] = serde_json::json!({ method: { "how": "block" } });
    // The lease outlives the test: a session that is gone was given up.
    let config = cluster.config().set("session.ttl", "60s").set("shutdown.grace", "500ms");
    let host = cluster.host(config.probe("alpha", blocking).probe("beta", coordinator())).await;
    host.in_state("beta", "Healthy").await;
    host.terminate();
    eventually(LIMIT, || async {
        let sessions = cluster.sessions("beta").await;
        holds(sessions.is_empty(), sessions)
    })
    .await;
}

#[tokio::test]
async fn others_end_while_a_component_keeps_its_thread_in_start() {
    others_end_while_one_keeps_its_thread_in("start").await;
}

#[tokio::test]
async fn others_end_while_a_component_keeps_its_thread_in_stop() {
    others_end_while_one_keeps_its_thread_in("stop").await;
}

#[tokio::test]
async fn others_end_while_a_component_keeps_its_thread_in_on_stopping() {
    others_end_while_one_keeps_its_thread_in("on_stopping").await;
}

#[tokio::test]
async fn a_stop_ends_within_its_limit_where_every_worker_is_kept() {
    let cluster = Cluster::start().await;
    let host = cluster.host(short_stop(&cluster).probe("alpha", coordinator())).await;
    let probe = host.healthy().await.probe("alpha").await;
    block_all_workers(&probe).await;
    host.terminate();
    ends_at_its_limit(&host).await;
}

#[tokio::test]
async fn a_component_that_keeps_every_worker_keeps_its_session() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let probe = host.healthy().await.probe("alpha").await;
    let before = cluster.sessions("alpha").await;
    block_all_workers(&probe).await;
    let blocked = Instant::now();
    // Three leases long: each try to look proves that the admin answers come, and that the registration is the same.
    eventually(LIMIT, || async {
        assert_eq!(host.get("/livez").await.status, 200);
        assert_eq!(cluster.sessions("alpha").await, before, "the same registration");
        holds(blocked.elapsed() > 3 * Duration::from_secs(TTL_SECONDS), "not yet")
    })
    .await;
    host.kill9();
}

#[tokio::test]
async fn a_second_signal_ends_at_once_where_a_component_keeps_the_thread() {
    let cluster = Cluster::start().await;
    let mut blocking = coordinator();
    blocking["faults"] = serde_json::json!({ "stop": { "how": "block" } });
    let host = cluster.host(cluster.config().probe("alpha", blocking)).await;
    host.healthy().await;
    host.terminate();
    host.logged(|line| line.message() == "life" && line.text("method").as_deref() == Some("Stop")).await;
    let begin = Instant::now();
    host.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "ended after {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("shutdown.limit", "60s").set("shutdown.grace", "40s");
    let host = cluster.host(config.probe("alpha", serde_json::json!({ "moving_ms": 40_000 }))).await;
    host.healthy().await;
    host.terminate();
    host.in_state("alpha", "Stopping").await;
    let begin = Instant::now();
    host.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "ended after {:?}", begin.elapsed());
}

#[tokio::test]
async fn blocked_workers_hold_up_neither_signal() {
    let cluster = Cluster::start().await;
    let config =
        cluster.config().set("shutdown.limit", "3s").set("shutdown.grace", "0s").set("shutdown.drain", "500ms");
    let config = config.set("component.alpha.deactivate_timeout", "500ms").set("component.alpha.stop_timeout", "500ms");
    let host = cluster.host(config.probe("alpha", coordinator())).await;
    let probe = host.healthy().await.probe("alpha").await;
    let limited = Instant::now();
    block_all_workers(&probe).await;
    host.terminate();
    assert!(!host.ended().await.success(), "the limit was over");
    assert!(limited.elapsed() < Duration::from_secs(15), "ended after {:?}", limited.elapsed());

    let probe = host.restart().await.healthy().await.probe("alpha").await;
    block_all_workers(&probe).await;
    host.terminate();
    host.logged(|line| line.message().starts_with("asked to stop")).await;
    let second = Instant::now();
    host.stop().await;
    assert!(second.elapsed() < Duration::from_secs(2), "ended after {:?}", second.elapsed());
}

/// Makes the probe block every worker of its host for a minute, and waits until no call is answered any more.
async fn block_all_workers(probe: &tests::client::Probe) {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    // More than there are workers: a blocked call may be polled where another one waits.
    for _ in 0..workers * 2 {
        let mut caller = probe.clone();
        tokio::spawn(async move { caller.block(BlockRequest { ms: 60_000 }).await });
    }
    eventually(LIMIT, async || {
        let answer = tokio::time::timeout(Duration::from_millis(300), probe.clone().echo(EchoRequest::default())).await;
        holds(answer.is_err(), "a worker answers")
    })
    .await;
}

#[tokio::test]
async fn a_stopping_host_refuses_new_calls_when_its_drain_begins() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("shutdown.grace", "0s").set("shutdown.drain", "8s");
    let host = cluster.host(config.probe("alpha", coordinator())).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut caller = probe.clone();
    let running = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;
    host.terminate();

    // By the component's host, or by the client's own side once its connection was told to go away.
    let refused: Status = eventually(LIMIT, async || match probe.clone().echo(EchoRequest::default()).await {
        Ok(_) => Err("answered"),
        Err(status) => Ok(status),
    })
    .await;
    assert!(matches!(refused.code(), Code::Unavailable | Code::Cancelled), "{refused:?}");
    let mut caller = probe.clone();
    assert_eq!(host.component("alpha").await["state_code"], "Stopping", "the running call is waited for");
    drop(caller.release(probe_plugin::v1::ReleaseRequest { key: "k".into() }).await);
    drop(running);
    host.ended().await;
}

#[tokio::test]
async fn etcd_may_go_away_and_come_back() {
    let cluster = Cluster::with_own_etcd().await;
    let beta = cluster.probe("beta", serde_json::json!({ "kind": "node" })).await;
    let alpha = cluster.probe("alpha", tests::probe::calling_nodes("beta")).await;
    let probe = alpha.probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;

    cluster.etcd().kill();
    let call_on = call("beta", CallKind::Unary);
    let seen = beta.probe("beta").await.echo(EchoRequest::default()).await;
    seen.expect("a node serves on");
    cluster.etcd().restart().await;

    alpha.ready().await;
    reaches(&probe, &call_on).await;
    eventually(LIMIT, || async {
        let sessions = (cluster.sessions("alpha").await, cluster.sessions("beta").await);
        holds(sessions.0.len() == 1 && sessions.1.len() == 1, sessions)
    })
    .await;
    alpha.assert_running();
    beta.assert_running();
}

#[tokio::test]
async fn a_recycled_address_is_no_peer() {
    let cluster = Cluster::start().await;
    let address = free_address();
    let at_address = |role: &str| cluster.config().set("server.listen", address.as_str()).probe(role, coordinator());
    let beta = cluster.host(at_address("beta")).await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let mut probe = alpha.probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;

    // Another role answers at the address that beta's key still names.
    beta.kill9();
    let _gamma = cluster.host(at_address("gamma")).await;
    let seen = probe.call(call("beta", CallKind::Unary)).await.expect("the probe answers").into_inner();
    assert_ne!(seen.code, 0, "nobody answers for beta: {seen:?}");
}

#[tokio::test]
async fn a_stop_lets_no_calls_in_to_a_component_that_was_never_active() {
    let cluster = Cluster::start().await;
    let holder = cluster.host(cluster.config().probe("alpha", coordinator())).await;
    holder.healthy().await;
    let config = cluster.config().set("shutdown.grace", "8s").probe("alpha", coordinator());
    let config = config.set("component.alpha.standby", false);
    let host = cluster.host(config.probe("beta", serde_json::json!({ "moving_ms": 5_000 }))).await;
    host.in_state("beta", "Healthy").await;
    // It has started, and waits for the key that the other one holds.
    host.logged(|line| line.message().starts_with("cannot register")).await;
    let alpha = host.probe("alpha").await;
    host.terminate();
    host.in_state("alpha", "Stopping").await;
    let status = alpha.clone().echo(EchoRequest::default()).await.expect_err("it was never active");
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "SESSION_STOPPING"));
}

//! The five steps, dependencies that are not there, and several components in one host.

use std::time::{Duration, Instant};

use probe_plugin::v1::{CallKind, CallRequest, EchoRequest, Empty, SpawnRequest, TaskKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::probe::{call, calling, calling_nodes, coordinator, node, reaches};
use tests::{Cluster, LIMIT, eventually, holds, within};
use tonic::Code;

#[tokio::test]
async fn five_steps_in_order_each_with_its_time() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", calling(&["beta"])).await;
    let view = host.healthy().await.component("alpha").await;

    let steps = view["steps"].as_array().expect("a list of steps");
    let numbers: Vec<_> = steps.iter().filter_map(|step| step["number"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "{view}");
    for step in steps {
        assert!(step["took_ms"].is_u64() && step["failed"] == false, "{step}");
        assert!(step["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "what it did: {step}");
    }

    let logged = host.log().into_iter().filter(|line| line.field("step").is_some() && line.field("took_ms").is_some());
    let logged: Vec<_> = logged.filter_map(|line| line.text("step")?.parse::<u64>().ok()).collect();
    assert_eq!(logged, [1, 2, 3, 4, 5], "each step is a line of the log");
}

#[tokio::test]
async fn a_component_shows_its_session_and_the_tables_of_whom_it_depends_on() {
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", coordinator()).await;
    beta.healthy().await;
    let host = cluster.probe("alpha", calling(&["beta"])).await;
    let view = host.healthy().await.ready().await.component("alpha").await;
    let (key, record) = cluster.sessions("alpha").await.pop_first().expect("it is registered");
    let session = &view["session"];
    assert_eq!((session["key"].as_str(), session["server_id"].as_i64()), (Some(key.as_str()), Some(record.server_id)));
    assert_eq!(session["registration"]["lease_id"].as_i64(), Some(record.lease_id), "{session}");
    assert!(session["time_left_ms"].as_u64().is_some_and(|left| left <= 2000), "{session}");
    let [table] = view["tables"].as_array().expect("a list").as_slice() else { panic!("one table: {view}") };
    assert!(table["role"] == "beta" && table["sessions"] == 1 && table["stale"] == false, "{table}");
    assert!(table["revision"].as_i64() > Some(0) && table["age_ms"].is_u64(), "{table}");
    assert!(table["restarts"] == 0 && table["last_restarts"].is_array() && table["corrections"] == 0, "{table}");
}

#[tokio::test]
async fn life_begins_with_start_then_activate() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let life = host.healthy().await.probe("alpha").await.life(Empty {}).await.expect("its life").into_inner();
    let methods: Vec<_> = life.calls.iter().map(|call| call.method.as_str()).collect();
    assert_eq!(methods, ["Start", "Activate"]);
    assert_eq!(life.calls[1].detail, "Fresh");
    assert_eq!((life.role.as_str(), life.address), ("alpha", host.address().await));
}

#[tokio::test]
async fn absent_dependencies_do_not_hold_the_start() {
    let cluster = Cluster::start().await;
    // A node: a coordinator that is started again would wait for the key of the one before.
    let config = json!({ "kind": "node", "dependencies": [
        { "role": "beta", "kind": "coordinator" },
        { "role": "gamma", "kind": "node" },
    ]});
    // The best of three: what is measured is the host and not what else the machine does.
    let mut fastest = Duration::MAX;
    let mut host = None;
    for _ in 0..3 {
        drop(host.take());
        let begin = Instant::now();
        let started = cluster.probe("alpha", config.clone()).await;
        started.healthy().await;
        fastest = fastest.min(begin.elapsed());
        host = Some(started);
        if fastest < Duration::from_secs(1) {
            break;
        }
    }
    assert!(fastest < Duration::from_secs(1), "Healthy after {fastest:?}");
    let host = host.expect("a host was started");

    let mut probe = host.probe("alpha").await;
    for role in ["beta", "gamma"] {
        let refused = probe.call(call(role, CallKind::Unary)).await.expect("the probe answers").into_inner();
        assert_eq!((Code::from(refused.code), refused.reason.as_str()), (Code::Unavailable, "NO_SUCH_PEER"));
        assert!(refused.elapsed_us < 100_000, "refused at once: {refused:?}");
        assert_eq!(refused.details.get("executed").map(String::as_str), Some("no"), "{refused:?}");
    }

    let ready = host.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("beta") && ready.body.contains("gamma"), "{}", ready.body);
}

#[tokio::test]
async fn a_dependency_that_comes_later_is_ready_without_a_restart() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let probe = alpha.healthy().await.probe("alpha").await;

    let beta = cluster.probe("beta", coordinator()).await;
    beta.healthy().await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    alpha.ready().await;
}

#[tokio::test]
async fn a_call_that_waits_goes_through_when_its_peer_comes() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let mut probe = alpha.healthy().await.probe("alpha").await;
    let request = CallRequest { wait_ms: Some(20_000), ..call("beta", CallKind::Unary) };
    let waiting = tokio::spawn(async move { probe.call(request).await });

    let _beta = cluster.probe("beta", coordinator()).await;
    let seen = within(LIMIT, waiting).await.expect("no panic").expect("the probe answers").into_inner();
    assert_eq!(seen.code, 0, "{seen:?}");
}

#[tokio::test]
async fn each_node_is_a_peer_of_its_own() {
    let cluster = Cluster::start().await;
    let nodes = [cluster.probe("beta", node()).await, cluster.probe("beta", node()).await];
    let alpha = cluster.probe("alpha", calling_nodes("beta")).await;
    let probe = alpha.probe("alpha").await;
    for node in &nodes {
        let server_id = node.healthy().await.component("beta").await["server_id"].as_i64();
        let request = CallRequest { server_id, ..call("beta", CallKind::Unary) };
        reaches(&probe, &request).await;
        let seen = probe.clone().call(request).await.expect("the probe answers").into_inner();
        assert_eq!(Some(seen.server_id), server_id);
    }
}

#[tokio::test]
async fn a_start_that_waits_goes_on_when_its_time_is_over() {
    let cluster = Cluster::start().await;
    let config = json!({ "kind": "coordinator", "dependencies": [
        { "role": "beta", "kind": "coordinator", "wait_ms": 700, "wait_count": 1 },
    ]});
    let begin = Instant::now();
    let host = cluster.probe("alpha", config).await;
    let view = host.healthy().await.component("alpha").await;
    assert!(begin.elapsed() >= Duration::from_millis(700), "it has waited: {view}");
}

#[tokio::test]
async fn two_components_live_in_one_host() {
    let cluster = Cluster::start().await;
    let config = cluster.config().probe("alpha", calling(&["beta"])).probe("beta", coordinator());
    let host = cluster.host(config).await;
    host.healthy().await.ready().await;

    for role in ["alpha", "beta"] {
        let echo = host.probe(role).await.echo(EchoRequest::default()).await.expect("an answer").into_inner();
        assert_eq!(echo.role, role);
        assert_eq!(cluster.sessions(role).await.len(), 1, "each has a session of its own");
    }
    reaches(&host.probe("alpha").await, &call("beta", CallKind::Unary)).await;
}

#[tokio::test]
async fn a_plugins_log_is_the_hosts_with_role_and_generation() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let request = probe_plugin::v1::LogRequest {
        level: "warn".to_owned(),
        message: "something to say".to_owned(),
        span: "inner".to_owned(),
    };
    host.healthy().await.probe("alpha").await.log(request).await.expect("an answer");
    let line = host.logged(|line| line.message() == "something to say").await;
    assert_eq!(
        (line.level(), line.text("role"), line.text("generation")),
        ("WARN", Some("alpha".into()), Some("1".into()))
    );
    assert_eq!(line.text("answer").as_deref(), Some("42"), "{line:?}");
}

#[tokio::test]
async fn a_key_that_another_holds_is_waited_for() {
    let cluster = Cluster::start().await;
    let first = cluster.probe("alpha", coordinator()).await;
    first.healthy().await;
    let config = cluster.config().probe("alpha", coordinator()).set("component.alpha.standby", false);
    let second = cluster.host(config).await;

    let holder = first.component("alpha").await["server_id"].to_string();
    let says_who = |view: &Value| view["state_code"] == "Initializing" && view.to_string().contains(&holder);
    eventually(LIMIT, || async {
        let view = second.component("alpha").await;
        holds(view["serving_step"]["number"] == 4 && says_who(&view), view)
    })
    .await;
    let address = first.address().await;
    eventually(LIMIT, || async {
        let health = second.get("/healthz").await;
        holds(health.body.contains("step 4") && health.body.contains(&address), health)
    })
    .await;
    first.stop().await;
    let life = second.healthy().await.probe("alpha").await.life(Empty {}).await.expect("its life").into_inner();
    assert_eq!(life.calls.last().map(|call| call.detail.as_str()), Some("TakenOver"), "another was active: {life:?}");
}

#[tokio::test]
async fn a_write_in_start_is_fenced_at_a_restart_too() {
    let cluster = Cluster::start().await;
    let mut config = coordinator();
    config["write_in_start"] = json!(true);
    let host = cluster.probe("alpha", config).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    let panicking = TaskKind::Panicking.into();
    probe.spawn(SpawnRequest { name: "t".into(), kind: panicking }).await.expect("an answer");
    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["restarts"] == 1 && view["state_code"] == "Healthy", view)
    })
    .await;
    let noted = host.log().into_iter().filter(|line| line.text("method").as_deref() == Some("Wrote"));
    let noted: Vec<_> = noted.filter_map(|line| line.text("detail")).collect();
    assert_eq!(noted, ["Some(Fenced)", "Some(Fenced)"]);
}

#[tokio::test]
async fn a_host_may_open_as_many_files_as_the_system_allows() {
    // What processes commonly begin with; those that this test starts begin with it.
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum: hard }).expect("it may be lowered");
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let line = host.logged(|line| line.message() == "open files: raised to the hard limit").await;
    let hard = hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
    assert_eq!((line.text("before").as_deref(), line.text("limit")), (Some("512"), Some(hard.clone())));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.pid())).expect("the process lives");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("each process has it");
    assert_eq!(files.split_whitespace().nth(3), Some(hard.as_str()), "{files}");
}

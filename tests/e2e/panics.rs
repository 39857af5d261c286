//! Panics and errors of a component: in a call, and in its own life. The host and its other components go on.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use probe_plugin::v1::{EchoRequest, PanicRequest, ReleaseRequest, SpawnRequest, StreamRequest, TaskKind};
use serde_json::json;
use tempfile::NamedTempFile;
use tests::client::reason;
use tests::probe::{calling, chunk, coordinator, faulty, held, hold, last_chunk, node, panicking};
use tests::{Cluster, Host, LIMIT, eventually, holds, within};
use tonic::Code;

/// A file that is there for as long as the fault is to last.
fn switch() -> NamedTempFile {
    NamedTempFile::new().expect("a temporary file can be made")
}

/// A host with `alpha`, as configured, beside `beta`, which is well.
async fn beside_a_healthy_one(cluster: &Cluster, alpha: serde_json::Value) -> Host {
    cluster.host(cluster.config().probe("alpha", alpha).probe("beta", coordinator())).await
}

async fn beta_is_well(host: &Host) {
    host.in_state("beta", "Healthy").await;
    host.probe("beta").await.echo(EchoRequest::default()).await.expect("beta answers");
}

#[tokio::test]
async fn a_panic_in_a_handler_is_internal_for_that_call_alone() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    let mut other = probe.clone();
    let running = tokio::spawn(async move { other.hold(hold("k")).await });
    held(&probe, 1).await;

    let status = probe.panic(PanicRequest { message: "as asked".into() }).await.expect_err("it panics");
    assert_eq!(status.code(), Code::Internal, "{status:?}");

    probe.release(ReleaseRequest { key: "k".into() }).await.expect("an answer");
    assert!(within(LIMIT, running).await.expect("no panic").expect("the other call goes on").into_inner().released);
    assert_eq!(host.component("alpha").await["state_code"], "Healthy");
    assert_eq!(host.component("alpha").await["restarts"], 0);
}

#[tokio::test]
async fn a_panic_in_a_streams_body_is_internal_for_that_stream_alone() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut probe = host.healthy().await.probe("alpha").await;

    let request = StreamRequest { count: 2, size: 1, interval_ms: 5, ending: Some(panicking()) };
    let answers = probe.server_stream(request).await.expect("it begins").into_inner();
    let codes: Vec<_> = answers.map(|answer| answer.err().map(|status| status.code())).take(3).collect().await;
    assert_eq!(codes, [None, None, Some(Code::Internal)]);

    let upload = tokio_stream::iter([chunk(b"one"), last_chunk(panicking())]);
    assert_eq!(probe.client_stream(upload).await.expect_err("it panics").code(), Code::Internal);

    probe.echo(EchoRequest::default()).await.expect("it serves on");
    assert_eq!(host.component("alpha").await["state_code"], "Healthy");
}

/// The fault turns `alpha` Abnormal and nobody else; when it is over `alpha` is restarted by itself.
async fn is_restarted_after(method: &str, how: &str) {
    let cluster = Cluster::start().await;
    let switch = switch();
    // A quarantine would end the restarts before the test has seen them.
    let config = cluster.config().set("supervision.quarantine_after", 1000);
    let config = config.probe("alpha", faulty(method, how, switch.path())).probe("beta", coordinator());
    let host = cluster.host(config).await;

    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["restarts"].as_u64() >= Some(2) && view["state_code"] != "Healthy", view)
    })
    .await;
    beta_is_well(&host).await;
    let status = host.probe("alpha").await.echo(EchoRequest::default()).await.expect_err("alpha is not Healthy");
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "NOT_HEALTHY"));
    let health = host.get("/healthz").await;
    assert!(health.status == 503 && health.body.contains("alpha"), "{health:?}");

    switch.close().expect("the file is removed");
    host.in_state("alpha", "Healthy").await;
    host.probe("alpha").await.echo(EchoRequest::default()).await.expect("alpha answers");
}

#[tokio::test]
async fn a_panic_in_the_constructor_is_survived() {
    is_restarted_after("new", "panic").await;
}

#[tokio::test]
async fn a_panic_in_start_is_survived() {
    is_restarted_after("start", "panic").await;
}

#[tokio::test]
async fn an_error_of_start_counts_as_a_panic() {
    is_restarted_after("start", "fail").await;
}

#[tokio::test]
async fn a_panic_in_activate_is_survived() {
    is_restarted_after("activate", "panic").await;
}

#[tokio::test]
async fn a_component_that_never_started_is_told_of_by_its_host() {
    let cluster = Cluster::start().await;
    let switch = switch();
    let config = cluster.config().set("supervision.quarantine_after", 1);
    let host = cluster.host(config.probe("alpha", faulty("new", "fail", switch.path()))).await;
    let address = host.address().await;
    let call = |method: &str| {
        let arguments = ["call", "alpha", method, "--address", &address];
        let output = std::process::Command::new(tests::binary::binary()).args(arguments).output();
        let output = output.expect("the program can be started");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    eventually(LIMIT, || async {
        let text = call("Probe/Echo");
        holds(text.contains("reason: QUARANTINED") && text.contains("its constructor"), text)
    })
    .await;
    let states = call("Host/GetComponentStates");
    assert!(states.contains("Abnormal"), "{states}");
}

#[tokio::test]
async fn a_start_that_hangs_is_ended_at_its_limit() {
    let cluster = Cluster::start().await;
    let switch = switch();
    let config = cluster.config().set("component.alpha.start_timeout", "200ms");
    let host = cluster.host(config.probe("alpha", faulty("start", "hang", switch.path()))).await;
    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["restarts"].as_u64() >= Some(1), view)
    })
    .await;
    switch.close().expect("the file is removed");
    host.healthy().await;
}

fn faulty_on_peer(while_file: &Path) -> serde_json::Value {
    let mut config = calling(&["gamma"]);
    config["faults"] = json!({ "on_peer": { "how": "panic", "while": while_file } });
    config
}

#[tokio::test]
async fn a_panic_in_on_peer_restarts_the_component() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let switch: PathBuf = folder.path().join("panic");
    let host = beside_a_healthy_one(&cluster, faulty_on_peer(&switch)).await;
    host.healthy().await;

    std::fs::write(&switch, "").expect("the folder is writable");
    let _gamma = cluster.probe("gamma", coordinator()).await;
    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["restarts"].as_u64() >= Some(1), view)
    })
    .await;
    beta_is_well(&host).await;
    std::fs::remove_file(&switch).expect("the file is there");
    host.in_state("alpha", "Healthy").await;
}

#[tokio::test]
async fn a_panic_in_a_spawned_task_restarts_the_component() {
    let cluster = Cluster::start().await;
    let host = beside_a_healthy_one(&cluster, coordinator()).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    // The task may panic before the call is answered, and the component's failure then cuts the call.
    drop(probe.spawn(SpawnRequest { name: "t".into(), kind: TaskKind::Panicking.into() }).await);
    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["restarts"] == 1 && view["state_code"] == "Healthy", view)
    })
    .await;
    beta_is_well(&host).await;
}

#[tokio::test]
async fn five_failures_end_in_quarantine() {
    let cluster = Cluster::start().await;
    let switch = switch();
    let host = beside_a_healthy_one(&cluster, faulty("activate", "fail", switch.path())).await;
    eventually(LIMIT, || async {
        let view = host.component("alpha").await;
        holds(view["quarantined"] == true, view)
    })
    .await;
    let starts = host.log().into_iter().filter(|line| {
        line.message() == "life"
            && line.text("method").as_deref() == Some("Activate")
            && line.text("role").as_deref() == Some("alpha")
    });
    assert_eq!(starts.count(), 5, "five failures");

    let status = host.probe("alpha").await.echo(EchoRequest::default()).await.expect_err("alpha is held");
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "QUARANTINED"));
    eventually(LIMIT, || async {
        let sessions = cluster.sessions("alpha").await;
        holds(sessions.is_empty(), sessions)
    })
    .await;
    beta_is_well(&host).await;
}

//! `/metrics`, read strictly, against what the test did.

use probe_plugin::v1::{CallKind, CallRequest};
use tests::eventually::{eventually, holds};
use tests::host::LIMIT;
use tests::metrics::{Format, scrape};
use tests::probe::{call, calling_nodes, failing, node};
use tests::{Cluster, Host};
use tonic::Code;

/// Waits until the samples of this name and these labels add up to `value`.
#[track_caller]
fn adds_up(host: &Host, name: &str, labels: &[(&str, &str)], value: f64) -> impl Future<Output = ()> {
    eventually(LIMIT, async move || {
        let sum = scrape(host, Format::OpenMetrics).await.sum(name, labels);
        holds(sum == Some(value), (name, sum, value))
    })
}

#[tokio::test]
async fn the_metrics_are_what_was_done() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("connections.backoff_max", "200ms").probe("alpha", calling_nodes("beta"));
    let alpha = cluster.host(config).await;
    let probe = alpha.healthy().await.probe("alpha").await;
    let ask = async |request: CallRequest| probe.clone().call(request).await.expect("an answer").into_inner().code;

    // Nobody is there.
    for _ in 0..2 {
        assert_eq!(ask(call("beta", CallKind::Unary)).await, Code::Unavailable as i32);
    }
    adds_up(&alpha, "componenthost_client_refusals_total", &[("role", "beta"), ("reason", "NO_SUCH_PEER")], 2.0).await;

    let beta = cluster.probe("beta", node()).await;
    beta.healthy().await;
    adds_up(&alpha, "grpc_subchannel_open_connections", &[("role", "beta")], 1.0).await;
    for _ in 0..3 {
        assert_eq!(ask(call("beta", CallKind::Unary)).await, 0);
    }
    let fails =
        CallRequest { ending: Some(failing(Code::NotFound, "as asked")), ..call("beta", CallKind::ServerStream) };
    assert_eq!(ask(fails).await, Code::NotFound as i32);

    for (host, name) in
        [(&alpha, "rpc_client_call_duration_seconds_count"), (&beta, "rpc_server_call_duration_seconds_count")]
    {
        for (status, count) in [("OK", 3.0), ("NOT_FOUND", 1.0)] {
            adds_up(host, name, &[("role", "beta"), ("rpc_response_status_code", status)], count).await;
        }
    }
    adds_up(&alpha, "componenthost_client_calls_running", &[("role", "beta")], 0.0).await;

    for format in [Format::OpenMetrics, Format::Plain] {
        let metrics = scrape(&alpha, format).await;
        for (name, labels, value) in [
            (
                "rpc_client_call_duration_seconds_count",
                &[("role", "beta"), ("rpc_response_status_code", "UNAVAILABLE")][..],
                2.0,
            ),
            ("grpc_subchannel_connection_attempts_succeeded_total", &[("role", "beta")], 1.0),
            ("grpc_subchannel_connection_attempts_failed_total", &[("role", "beta")], 0.0),
            ("componenthost_peers", &[("role", "beta"), ("session", "live"), ("link", "ready")], 1.0),
            ("componenthost_component_state", &[("role", "alpha"), ("state", "Healthy")], 1.0),
            ("componenthost_component_state", &[("role", "alpha")], 1.0),
            ("componenthost_session_state", &[("role", "alpha"), ("state", "held")], 1.0),
            ("componenthost_session_state", &[("role", "alpha")], 1.0),
            ("componenthost_component_restarts_total", &[("role", "alpha")], 0.0),
            ("componenthost_etcd_connected", &[("role", "beta")], 1.0),
            ("componenthost_etcd_watch_restarts_total", &[("role", "beta"), ("reason", "lost")], 0.0),
            ("componenthost_etcd_table_stale", &[("role", "beta")], 0.0),
            ("componenthost_etcd_events_valid_total", &[("role", "beta")], 1.0),
            ("componenthost_etcd_events_invalid_total", &[("role", "beta")], 0.0),
            ("componenthost_etcd_table_sessions", &[("role", "beta")], 1.0),
            ("componenthost_build_info", &[], 1.0),
        ] {
            assert_eq!(metrics.sum(name, labels), Some(value), "{name} {labels:?}");
        }
        let age = metrics.sum("componenthost_etcd_table_age_seconds", &[("role", "beta")]).expect("an age");
        assert!((0.0..LIMIT.as_secs_f64()).contains(&age), "{age}");
    }

    beta.kill9();
    adds_up(&alpha, "grpc_subchannel_open_connections", &[("role", "beta")], 0.0).await;
    adds_up(&alpha, "grpc_subchannel_disconnections_total", &[("role", "beta")], 1.0).await;
    let failed = scrape(&alpha, Format::OpenMetrics).await;
    let attempts = failed.sum("grpc_subchannel_connection_attempts_succeeded_total", &[("role", "beta")]);
    assert_eq!(attempts, Some(1.0), "a link that is lost is no dial");
}

#[tokio::test]
async fn whoever_calls_what_is_not_there_makes_no_names() {
    let cluster = Cluster::start().await;
    let beta = cluster.probe("beta", node()).await;
    let channel = beta.healthy().await.channel().await;
    for n in 0..20 {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.expect("a connection");
        let path = format!("/no.Such/{n}").parse().expect("a path");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        grpc.unary(tonic::Request::new(()), path, codec).await.expect_err("nobody serves it");
    }
    let metrics = scrape(&beta, Format::OpenMetrics).await;
    let of =
        |method| metrics.sum("rpc_server_call_duration_seconds_count", &[("role", "_OTHER"), ("rpc_method", method)]);
    assert_eq!((of("_OTHER"), of("no.Such/1")), (Some(20.0), None));
}

//! What a call hands on to the calls that are made for it, over the border and the links: its deadline and its trace.

use std::collections::HashMap;
use std::time::Duration;

use plugin_api::TraceContext;
use plugin_api::call::parse_timeout;
use probe_plugin::v1::{CallKind, CallRequest, EchoRequest, LogRequest};
use tests::client::Probe;
use tests::probe::{call, calling, coordinator, reaches};
use tests::{Cluster, Host};
use tonic::Request;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// `alpha` and `beta`, in one host or in two, and the probe of `alpha`.
async fn both(cluster: &Cluster, in_one: bool) -> (Vec<Host>, Probe) {
    let config = || cluster.config();
    let hosts = if in_one {
        vec![cluster.host(config().probe("beta", coordinator()).probe("alpha", calling(&["beta"]))).await]
    } else {
        let beta = cluster.probe("beta", coordinator()).await;
        vec![cluster.probe("alpha", calling(&["beta"])).await, beta]
    };
    let probe = hosts[0].probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    (hosts, probe)
}

/// What `beta` got with a call that `alpha` made for a call with this metadata.
async fn got(alpha: &Probe, with: &[(&'static str, &str)], made: CallRequest) -> HashMap<String, String> {
    let mut request = Request::new(made);
    for (name, value) in with {
        request.metadata_mut().insert(*name, value.parse().expect("a value"));
    }
    let seen = alpha.clone().call(request).await.expect("the probe tells what it saw").into_inner();
    assert_eq!(seen.code, 0, "{seen:?}");
    seen.metadata
}

fn timeout(metadata: &HashMap<String, String>) -> Option<Duration> {
    metadata.get("grpc-timeout").map(|text| parse_timeout(text).expect("a duration of gRPC's"))
}

#[tokio::test]
async fn a_deadline_is_handed_on_less_what_was_used() {
    let cluster = Cluster::start().await;
    let [given, longer, shorter] = [30, 60, 10].map(Duration::from_secs);
    for in_one in [true, false] {
        let (_hosts, alpha) = both(&cluster, in_one).await;
        let milliseconds = |limit: Duration| u64::try_from(limit.as_millis()).ok();
        let plain = call("beta", CallKind::Unary);
        let spawned = CallRequest { spawned: true, ..plain.clone() };
        let own = |limit| CallRequest { timeout_ms: milliseconds(limit), ..plain.clone() };
        for (made, most) in [(plain.clone(), given), (spawned, given), (own(longer), given), (own(shorter), shorter)] {
            let left = timeout(&got(&alpha, &[("grpc-timeout", "30S")], made.clone()).await).expect("a limit");
            assert!(left < most && left > most - Duration::from_secs(5), "{left:?} of {made:?}");
        }
        assert_eq!(timeout(&got(&alpha, &[], plain.clone()).await), None, "none is made up");
    }
}

#[tokio::test]
async fn a_trace_is_handed_on_and_a_bad_one_begun_anew() {
    let cluster = Cluster::start().await;
    for in_one in [true, false] {
        let (_hosts, alpha) = both(&cluster, in_one).await;
        let plain = call("beta", CallKind::Unary);
        for made in [plain.clone(), CallRequest { spawned: true, ..plain.clone() }] {
            let with = [("traceparent", TRACEPARENT), ("tracestate", "vendor=1")];
            let metadata = got(&alpha, &with, made).await;
            let parent = &metadata["traceparent"];
            assert!(parent.starts_with(&format!("00-{TRACE_ID}-")) && parent.ends_with("-01"), "{parent}");
            assert_ne!(parent, TRACEPARENT, "the span is that of the call itself");
            assert_eq!(metadata["tracestate"], "vendor=1");
        }
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let metadata = got(&alpha, &[("traceparent", zero), ("tracestate", "vendor=1")], plain).await;
        let anew: TraceContext = metadata["traceparent"].parse().expect("a valid one");
        assert_ne!(anew.trace_id.to_string(), TRACE_ID);
        assert!(!metadata.contains_key("tracestate"), "{metadata:?}");
    }
}

#[tokio::test]
async fn what_a_plugin_logs_within_a_call_names_its_trace() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", coordinator()).await;
    let mut alpha = host.healthy().await.probe("alpha").await;
    let log = LogRequest { level: "info".to_owned(), message: "within".to_owned(), ..LogRequest::default() };
    let mut request = Request::new(log);
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a value"));
    alpha.log(request).await.expect("it logs");
    let line = host.logged(|line| line.message() == "within").await;
    assert_eq!(line.text("trace_id").as_deref(), Some(TRACE_ID), "{line:?}");
    let mut echo = Request::new(EchoRequest::default());
    echo.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a value"));
    let metadata = alpha.echo(echo).await.expect("an answer").into_inner().metadata;
    let own: TraceContext = metadata["traceparent"].parse().expect("a valid one");
    assert_ne!(line.text("span_id"), Some(own.span_id.to_string()), "each call has a span of its own");
}

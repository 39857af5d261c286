//! Calls between two components of one host: the same as over a socket, without one.

use std::fs;
use std::time::{Duration, Instant};

use plugin_api::refusal::key;
use probe_plugin::v1::{CallKind, CallRequest, CallResponse};
use tests::client::Probe;
use tests::probe::{call, calling, coordinator, dropped, failing, held, panicking, reaches};
use tests::{Cluster, Host, LIMIT, within};
use tonic::Code;

const STREAMS: [CallKind; 3] = [CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream];

/// A host with both `alpha`, which calls, and `beta`, and their probes.
struct OneHost {
    cluster: Cluster,
    host: Host,
    alpha: Probe,
    beta: Probe,
}

impl OneHost {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let config = cluster.config().set("shutdown.drain", "200ms");
        let host = cluster.host(config.probe("beta", coordinator()).probe("alpha", calling(&["beta"]))).await;
        let (alpha, beta) = (host.probe("alpha").await, host.probe("beta").await);
        reaches(&alpha, &call("beta", CallKind::Unary)).await;
        Self { cluster, host, alpha, beta }
    }

    async fn seen(&self, request: CallRequest) -> CallResponse {
        seen(&self.alpha, request).await
    }
}

async fn seen(probe: &Probe, request: CallRequest) -> CallResponse {
    probe.clone().call(request).await.expect("the probe tells what it saw").into_inner()
}

/// The connections of this process to that port.
fn connections_to(pid: i32, port: u16) -> usize {
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").flatten();
    let sockets: Vec<String> = sockets
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let remote = format!(":{port:04X}");
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the process lives");
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = |inode: &str| sockets.iter().any(|socket| socket == inode);
    columns.filter(|line| line.len() > 9 && line[2].ends_with(&remote) && ours(line[9])).count()
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address has a port")
}

#[tokio::test]
async fn no_socket_is_used() {
    let one = OneHost::start().await;
    let own_port = port(&one.host.address().await);
    let view = one.host.connections().await.to_string();
    assert!(view.contains(r#""way":"local""#) && !view.contains(r#""way":"tcp""#), "{view}");
    assert_eq!(connections_to(one.host.pid(), own_port), 0);

    // Who calls it from another host is seen.
    let gamma = one.cluster.probe("gamma", calling(&["beta"])).await;
    reaches(&gamma.probe("gamma").await, &call("beta", CallKind::Unary)).await;
    assert_eq!(connections_to(gamma.pid(), own_port), 1);
    let view = gamma.connections().await.to_string();
    assert!(view.contains(r#""way":"tcp""#), "{view}");
}

#[tokio::test]
async fn a_stream_breaks_off_with_its_error_or_panic() {
    let one = OneHost::start().await;
    for kind in STREAMS {
        let before = if kind == CallKind::ClientStream { 0 } else { 3 };
        let ending = Some(failing(Code::DataLoss, "in the middle"));
        let far = one.seen(CallRequest { ending, ..call("beta", kind) }).await;
        assert_eq!((Code::from(far.code), far.message.as_str()), (Code::DataLoss, "in the middle"), "{kind:?}");
        assert_eq!(far.messages, before, "{kind:?}: what was sent before the error has arrived");
        let far = one.seen(CallRequest { ending: Some(panicking()), ..call("beta", kind) }).await;
        assert_eq!(Code::from(far.code), Code::Internal, "{kind:?}: {far:?}");
    }
    let ending = Some(failing(Code::ResourceExhausted, "no room, größer"));
    let far = one.seen(CallRequest { ending, ..call("beta", CallKind::Failing) }).await;
    assert_eq!((Code::from(far.code), far.message.as_str()), (Code::ResourceExhausted, "no room, größer"));
}

#[tokio::test]
async fn sixty_four_mebibytes_go_both_ways() {
    let one = OneHost::start().await;
    let far = one.seen(CallRequest { count: 64, size: 1 << 20, ..call("beta", CallKind::BidiStream) }).await;
    assert_eq!((far.code, far.messages, far.bytes), (0, 64, 64 << 20), "{far:?}");
}

#[tokio::test]
async fn a_deleted_session_cuts_its_running_calls() {
    let one = OneHost::start().await;
    let mut running = one.alpha.clone();
    let running = tokio::spawn(async move { running.call(call("beta", CallKind::Hold)).await });
    held(&one.beta, 1).await;

    let key = one.cluster.sessions("beta").await.into_keys().next().expect("beta is registered");
    one.cluster.delete(&key).await;
    let deleted = Instant::now();
    let cut = within(LIMIT, running).await.expect("no panic").expect("the probe answers").into_inner();
    assert_eq!((Code::from(cut.code), cut.reason.as_str()), (Code::Unavailable, "SESSION_GONE"), "{cut:?}");
    assert!(deleted.elapsed() < Duration::from_millis(500), "cut after {:?}", deleted.elapsed());
    assert_eq!(cut.details.get(key::WAY).map(String::as_str), Some("local"));
    dropped(&one.beta, 1).await;
    // Its lease lives: it registers again, and is called again.
    reaches(&one.alpha, &call("beta", CallKind::Unary)).await;
}

#[tokio::test]
async fn a_dropped_call_and_a_deadline_end_the_call_in_the_component() {
    let one = OneHost::start().await;
    let mut caller = one.alpha.clone();
    let chain = tokio::spawn(async move { caller.call(call("beta", CallKind::Hold)).await });
    held(&one.beta, 1).await;
    chain.abort();
    dropped(&one.beta, 1).await;

    let request = CallRequest { timeout_ms: Some(200), ..call("beta", CallKind::Hold) };
    let late = one.seen(request).await;
    assert_eq!(Code::from(late.code), Code::DeadlineExceeded, "{late:?}");
    dropped(&one.beta, 2).await;
}

#[tokio::test]
async fn a_stop_cuts_what_runs_within_the_host() {
    let one = OneHost::start().await;
    let mut caller = one.alpha.clone();
    let chain = tokio::spawn(async move { caller.call(call("beta", CallKind::Hold)).await });
    held(&one.beta, 1).await;
    let begin = Instant::now();
    let status = one.host.stop().await;
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(5), "stopped after {:?}", begin.elapsed());
    let _ended = within(LIMIT, chain).await;
}

//! Calls across the border: from a client into a plugin, from a plugin to a peer in another process, and to one in the
//! same host.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use probe_plugin::Digest;
use probe_plugin::v1::{CallKind, CallRequest, CallResponse, Chunk, EchoRequest, FailRequest, StreamRequest};
use tests::client::Probe;
use tests::probe::{call, calling, chunk, coordinator, dropped, failing, held, hold, last_chunk, node, reaches};
use tests::{Cluster, Host};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

const STREAMS: [CallKind; 3] = [CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream];

/// Two hosts, `alpha` and `beta`, and the probe of `alpha`, which reaches `beta`.
async fn two_hosts(cluster: &Cluster) -> (Host, Host, Probe) {
    let beta = cluster.probe("beta", coordinator()).await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let probe = alpha.probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    (alpha, beta, probe)
}

/// One host with both.
async fn one_host(cluster: &Cluster) -> (Host, Probe) {
    let config = cluster.config().probe("beta", coordinator()).probe("alpha", calling(&["beta"]));
    let host = cluster.host(config).await;
    let probe = host.probe("alpha").await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    (host, probe)
}

async fn seen(probe: &Probe, request: CallRequest) -> CallResponse {
    probe.clone().call(request).await.expect("the probe tells what it saw").into_inner()
}

#[tokio::test]
async fn all_four_kinds_reach_a_plugin() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut probe = host.healthy().await.probe("alpha").await;

    let echo = probe.echo(EchoRequest { payload: b"payload".to_vec() }).await.expect("a unary call").into_inner();
    assert_eq!((echo.payload.as_slice(), echo.role.as_str()), (b"payload".as_slice(), "alpha"));

    let request = StreamRequest { count: 5, size: 10, ..StreamRequest::default() };
    let answers = probe.server_stream(request).await.expect("a server stream").into_inner();
    assert_eq!(answers.map_ok(|chunk| chunk.data.len()).try_collect::<Vec<_>>().await.expect("five chunks"), [10; 5]);

    let parts = [chunk(b"one"), chunk(b"two")];
    let summary = probe.client_stream(tokio_stream::iter(parts.clone())).await.expect("a client stream").into_inner();
    assert_eq!((summary.messages, summary.bytes), (2, 6));

    let answers = probe.bidi_stream(tokio_stream::iter(parts.clone())).await.expect("both streams").into_inner();
    assert_eq!(answers.try_collect::<Vec<_>>().await.expect("the same chunks"), parts);
}

#[tokio::test]
async fn a_bidirectional_stream_answers_before_it_ends() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut probe = host.healthy().await.probe("alpha").await;

    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut answers = probe.bidi_stream(ReceiverStream::new(receive)).await.expect("a stream").into_inner();
    for part in [b"first", b"again"] {
        send.send(chunk(part)).await.expect("the stream takes it");
        assert_eq!(answers.next().await.expect("an answer").expect("a chunk").data, part);
    }
}

#[tokio::test]
async fn all_four_kinds_leave_a_plugin_for_another_process() {
    let cluster = Cluster::start().await;
    let (_alpha, _beta, probe) = two_hosts(&cluster).await;
    all_four_kinds_leave(&probe).await;
}

#[tokio::test]
async fn all_four_kinds_leave_a_plugin_for_the_same_host() {
    let cluster = Cluster::start().await;
    let (_host, probe) = one_host(&cluster).await;
    all_four_kinds_leave(&probe).await;
}

async fn all_four_kinds_leave(probe: &Probe) {
    let unary = seen(probe, call("beta", CallKind::Unary)).await;
    assert_eq!((unary.code, unary.bytes), (0, 1000), "{unary:?}");
    for kind in STREAMS {
        let stream = seen(probe, call("beta", kind)).await;
        assert_eq!((stream.code, stream.messages, stream.bytes), (0, 3, 3000), "{kind:?}: {stream:?}");
    }
}

#[tokio::test]
async fn metadata_crosses_the_border() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut request = Request::new(EchoRequest::default());
    request.metadata_mut().insert("x-tenant", "seven".parse().expect("a value"));
    let echo = host.healthy().await.probe("alpha").await.echo(request).await.expect("an answer").into_inner();
    assert_eq!(echo.metadata.get("x-tenant").map(String::as_str), Some("seven"));
}

#[tokio::test]
async fn an_error_in_the_trailers_is_whole() {
    let cluster = Cluster::start().await;
    let (_alpha, beta, probe) = two_hosts(&cluster).await;
    let fail = FailRequest {
        code: Code::ResourceExhausted.into(),
        message: "no room, größer".to_owned(),
        details: vec![1, 2, 3],
        metadata: [("x-left".to_owned(), "0".to_owned())].into(),
    };

    let status = beta.probe("beta").await.fail(fail.clone()).await.expect_err("it fails as asked");
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "no room, größer"));
    assert_eq!(status.details(), [1, 2, 3]);
    assert_eq!(status.metadata().get("x-left").map(|value| value.as_bytes()), Some(b"0".as_slice()));

    let ending = probe_plugin::v1::Ending { how: Some(probe_plugin::v1::ending::How::Fail(fail)) };
    let far = seen(&probe, CallRequest { ending: Some(ending), ..call("beta", CallKind::Failing) }).await;
    assert_eq!((Code::from(far.code), far.message.as_str()), (Code::ResourceExhausted, "no room, größer"));
    assert_eq!((far.status_details, far.trailers.get("x-left").map(String::as_str)), (vec![1, 2, 3], Some("0")));
}

#[tokio::test]
async fn a_stream_breaks_off_with_its_error() {
    let cluster = Cluster::start().await;
    let (_alpha, beta, probe) = two_hosts(&cluster).await;
    let ending = Some(failing(Code::DataLoss, "in the middle"));

    let request = StreamRequest { count: 3, size: 1, ending: ending.clone(), ..StreamRequest::default() };
    let answers = beta.probe("beta").await.server_stream(request).await.expect("it begins").into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.map_err(|status| status.code())).collect().await;
    assert_eq!((answers.len(), answers.last()), (4, Some(&Err(Code::DataLoss))), "three chunks, then the error");

    for kind in STREAMS {
        let far = seen(&probe, CallRequest { ending: ending.clone(), ..call("beta", kind) }).await;
        assert_eq!((Code::from(far.code), far.message.as_str()), (Code::DataLoss, "in the middle"), "{kind:?}");
        let before = if kind == CallKind::ClientStream { 0 } else { 3 };
        assert_eq!(far.messages, before, "{kind:?}: what was sent before the error has arrived");
    }
}

#[tokio::test]
async fn a_plugin_may_end_a_stream_before_its_client() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let mut probe = host.healthy().await.probe("alpha").await;
    let early = last_chunk(failing(Code::Aborted, "enough"));
    let never_ending = tokio_stream::iter([chunk(b"one"), early]).chain(tokio_stream::pending());
    let status = probe.client_stream(never_ending).await.expect_err("it fails as asked");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "enough"));
}

#[tokio::test]
async fn sixty_four_mebibytes_go_up() {
    const PART: usize = 1 << 20;
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let parts = |number: u32| Chunk { data: vec![number.to_le_bytes()[0]; PART], ending: None };
    let mut digest = Digest::default();
    (0..64).for_each(|number| digest.add(&parts(number).data));

    let upload = tokio_stream::iter((0..64).map(parts));
    let summary =
        host.healthy().await.probe("alpha").await.client_stream(upload).await.expect("a summary").into_inner();
    assert_eq!((summary.messages, summary.bytes, summary.digest), (64, 64 * PART as u64, digest.0));
}

#[tokio::test]
async fn sixty_four_mebibytes_go_from_a_plugin_to_its_peer() {
    let cluster = Cluster::start().await;
    let (_alpha, _beta, probe) = two_hosts(&cluster).await;
    let request = CallRequest { count: 64, size: 1 << 20, ..call("beta", CallKind::ClientStream) };
    let far = seen(&probe, request).await;
    assert_eq!((far.code, far.messages, far.bytes), (0, 64, 64 << 20), "{far:?}");
}

#[tokio::test]
async fn a_call_that_its_client_drops_is_dropped_in_the_plugin() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut caller = probe.clone();
    let call = tokio::spawn(async move { caller.hold(hold("k")).await });
    held(&probe, 1).await;
    call.abort();
    dropped(&probe, 1).await;
}

#[tokio::test]
async fn a_dropped_call_ends_the_calls_that_it_made() {
    let cluster = Cluster::start().await;
    let (_alpha, beta, probe) = two_hosts(&cluster).await;
    let mut caller = probe.clone();
    let chain = tokio::spawn(async move { caller.call(call("beta", CallKind::Hold)).await });
    let far = beta.probe("beta").await;
    held(&far, 1).await;
    chain.abort();
    dropped(&far, 1).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_on_both_sides() {
    let cluster = Cluster::start().await;
    let (_alpha, beta, probe) = two_hosts(&cluster).await;
    let far = beta.probe("beta").await;
    let request = CallRequest { timeout_ms: Some(200), ..call("beta", CallKind::Hold) };
    let late = seen(&probe, request).await;
    assert_eq!(Code::from(late.code), Code::DeadlineExceeded, "{late:?}");
    assert!(late.elapsed_us < 2_000_000, "{late:?}");
    dropped(&far, 1).await;
}

#[tokio::test]
async fn the_host_keeps_the_deadline_of_a_client_that_does_not() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", node()).await;
    let probe = host.healthy().await.probe("alpha").await;
    let mut request = Request::new(hold("k"));
    // Long enough for the call to be held by then.
    request.set_timeout(Duration::from_secs(1));
    let status = probe.clone().hold(request).await.expect_err("nobody releases it");
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    dropped(&probe, 1).await;
}

#[tokio::test]
async fn a_role_that_was_not_declared_is_refused() {
    let cluster = Cluster::start().await;
    let (_alpha, _beta, probe) = two_hosts(&cluster).await;
    let refused = seen(&probe, call("gamma", CallKind::Unary)).await;
    assert_eq!((Code::from(refused.code), refused.reason.as_str()), (Code::FailedPrecondition, "NOT_DECLARED"));
}

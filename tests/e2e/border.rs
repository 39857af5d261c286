//! The border alone, without a host: a component that is linked in, and the same one loaded, called in this process.

use futures_util::{StreamExt, TryStreamExt};
use probe_plugin::v1::probe_client::ProbeClient;
use probe_plugin::v1::{CallKind, CallRequest, Chunk, EchoRequest, Empty, FenceRequest, PanicRequest, StreamRequest};
use probe_plugin::{Digest, Renamed};
use tests::border::{Bordered, Direct};
use tests::probe::{call, chunk, failing, hold, last_chunk, panicking};
use tests::{LIMIT, eventually, holds, within};
use tonic::Code;

const CONFIG: &str = "kind = \"coordinator\"";

async fn both(role: &str) -> [Bordered; 2] {
    let both = [Bordered::linked(&probe_plugin::PLUGIN, role, CONFIG), Bordered::loaded("probe_plugin", role, CONFIG)];
    for each in &both {
        each.start().await;
    }
    both
}

fn client(bordered: &Bordered, role: &str) -> ProbeClient<Renamed<Direct>> {
    probe_plugin::client(bordered.channel(), role)
}

#[tokio::test]
async fn all_four_kinds_cross_in_both_directions() {
    for bordered in both("alpha").await {
        let mut probe = client(&bordered, "alpha");
        let echo = probe.echo(EchoRequest { payload: b"payload".to_vec() }).await.expect("an answer").into_inner();
        assert_eq!((echo.payload.as_slice(), echo.role.as_str()), (b"payload".as_slice(), "alpha"));
        let answers = probe.bidi_stream(tokio_stream::iter([chunk(b"one"), chunk(b"two")])).await.expect("a stream");
        assert_eq!(answers.into_inner().try_collect::<Vec<_>>().await.expect("two chunks").len(), 2);
        for kind in [CallKind::Unary, CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream] {
            let seen = probe.call(call("alpha", kind)).await.expect("an answer").into_inner();
            assert_eq!(
                (seen.code, seen.bytes),
                (0, if kind == CallKind::Unary { 1000 } else { 3000 }),
                "{kind:?}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn errors_and_panics_cross_as_statuses() {
    for bordered in both("alpha").await {
        let mut probe = client(&bordered, "alpha");
        let status = probe.panic(PanicRequest { message: "as asked".into() }).await.expect_err("it panics");
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        for (ending, code) in [(failing(Code::DataLoss, "lost"), Code::DataLoss), (panicking(), Code::Internal)] {
            let request = StreamRequest { count: 2, size: 1, interval_ms: 5, ending: Some(ending.clone()) };
            let answers = probe.server_stream(request).await.expect("it begins").into_inner();
            let codes: Vec<_> = answers.map(|answer| answer.err().map(|status| status.code())).take(3).collect().await;
            assert_eq!(codes, [None, None, Some(code)]);
            let upload = tokio_stream::iter([chunk(b"one"), last_chunk(ending.clone())]);
            assert_eq!(probe.client_stream(upload).await.expect_err("it fails").code(), code);
            for kind in [CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream] {
                let request = CallRequest { ending: Some(ending.clone()), ..call("alpha", kind) };
                let seen = probe.call(request).await.expect("an answer").into_inner();
                assert_eq!(Code::from(seen.code), code, "{kind:?}: {seen:?}");
            }
        }
        probe.echo(EchoRequest::default()).await.expect("it serves on");
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_cross_and_no_buffer_is_left() {
    for bordered in both("alpha").await {
        let part = vec![7; 1 << 20];
        let mut digest = Digest::default();
        (0..64).for_each(|_| digest.add(&part));
        let upload = tokio_stream::iter(vec![Chunk { data: part, ending: None }; 64]);
        let summary = client(&bordered, "alpha").client_stream(upload).await.expect("a summary").into_inner();
        assert_eq!((summary.bytes, summary.digest), (64 << 20, digest.0));
        let request = CallRequest { count: 64, size: 1 << 16, ..call("alpha", CallKind::BidiStream) };
        let seen = client(&bordered, "alpha").call(request).await.expect("an answer").into_inner();
        assert_eq!((seen.code, seen.bytes), (0, 64 << 16));
        eventually(LIMIT, || async {
            let lent = bordered.component().lent_buffers()();
            holds(lent == 0, lent)
        })
        .await;
    }
}

#[tokio::test]
async fn a_dropped_call_is_dropped_behind_the_border() {
    for bordered in both("alpha").await {
        let mut caller = client(&bordered, "alpha");
        let running = tokio::spawn(async move { caller.hold(hold("k")).await });
        let count = || async { client(&bordered, "alpha").held(Empty {}).await.expect("an answer").into_inner() };
        eventually(LIMIT, || async { holds(count().await.running == 1, "not held") }).await;
        running.abort();
        eventually(LIMIT, || async { holds(count().await.dropped == 1, "not dropped") }).await;
    }
}

#[tokio::test]
async fn a_loaded_components_log_crosses() {
    let bordered = Bordered::loaded("probe_plugin", "alpha", CONFIG);
    bordered.start().await;
    let request = probe_plugin::v1::LogRequest { level: "info".into(), message: "hello".into(), span: String::new() };
    client(&bordered, "alpha").log(request).await.expect("an answer");
    assert!(bordered.logged().iter().any(|message| message == "hello"), "{:?}", bordered.logged());
}

#[tokio::test]
async fn the_fence_is_asked_and_awaited_across_the_border() {
    for bordered in both("alpha").await {
        let ask = async |until| {
            let answer = client(&bordered, "alpha").fence(FenceRequest { until }).await;
            answer.expect("an answer").into_inner().fenced
        };
        assert!(!ask(None).await && !ask(Some(false)).await, "it is not fenced, and need not be waited for");
        let mut caller = client(&bordered, "alpha");
        let waiting = tokio::spawn(async move { caller.fence(FenceRequest { until: Some(true) }).await });
        bordered.fence(true);
        let told = within(LIMIT, waiting).await.expect("no panic").expect("an answer").into_inner();
        assert!(told.fenced && ask(None).await);
        let lifting = async { bordered.fence(false) };
        assert!(!within(LIMIT, async { tokio::join!(ask(Some(false)), lifting) }).await.0);
    }
}

//! The way to a peer in the very host that calls: the same refusals as over a socket, and tasks of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use componenthost::connections::{Client, LocalHost, Way};
use componenthost::lifecycle::{Lifecycle, State, Step};
use componenthost::serve::{self, Answers, Bound, Own, Served};
use componenthost::tls::Security;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use plugin_api::identity::ServerId;
use plugin_api::peers::PeerLink;
use plugin_api::refusal::{Reason, Refusal, key};
use tests::{eventually, holds};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};

use super::fake::{CLUSTER, role};
use super::{Caller, Codec, LIMIT, NODE, ask, grpc, path, quick, refusal, unary};

const OWN: ServerId = ServerId(7);

/// What a host with one component answers, which is Healthy and has no service yet.
struct Answering {
    lifecycle: Lifecycle,
    answers: Answers,
}

impl Answering {
    fn new(cluster: &str, server_id: ServerId) -> Self {
        let lifecycle = Lifecycle::new(1);
        lifecycle.transition(State::Healthy).expect("it may become healthy");
        let own = Own { cluster: cluster.to_owned(), server_id, boot_id: "boot".to_owned() };
        let answers = Answers::new(Arc::new(own), Served::new([(role(NODE), lifecycle.watch())]));
        Self { lifecycle, answers }
    }

    /// A caller in this very host.
    async fn caller(&self, calls: impl Fn(Request<Body>) -> Called + Send + Sync + 'static) -> Caller {
        let answers = self.answers.clone();
        let calls = move |request: Request<Body>| match request.uri().path().starts_with("/fake.") {
            true => calls(request),
            false => answers.call(request),
        };
        let mut caller = Caller::within(quick(), Some(LocalHost { server_id: OWN, calls: Arc::new(calls) }));
        // Nobody listens there.
        caller.nodes.register(7, "127.0.0.1:1");
        caller
    }
}

type Called = BoxFuture<'static, Response<Body>>;

/// A caller whose own host answers `fake.` services so.
async fn calling_itself(calls: impl Fn(Request<Body>) -> Called + Send + Sync + 'static) -> Caller {
    let caller = Answering::new(CLUSTER, OWN).caller(calls).await;
    caller.ready(1).await;
    caller
}

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

/// An empty message.
fn message() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(&[0; 5]))
}

fn well() -> Frame<Bytes> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

fn one_message() -> Response<Body> {
    let frames = [message(), well()].map(Ok::<_, Status>);
    answer(Body::new(StreamBody::new(tokio_stream::iter(frames))))
}

#[tokio::test]
async fn refusals_are_the_same_as_over_a_socket() {
    let states: [(Reason, Change); 6] = [
        (Reason::Fenced, |lifecycle| lifecycle.fence(true)),
        (Reason::Standby, |lifecycle| to(lifecycle, State::StandBy { holder: "server 3".to_owned() })),
        (Reason::NotHealthy, |lifecycle| to(lifecycle, abnormal(Some(Instant::now())))),
        (Reason::NotHealthy, |lifecycle| {
            to(lifecycle, abnormal(Some(Instant::now())));
            to(lifecycle, State::Initializing { step: Step::Initializing });
        }),
        (Reason::Quarantined, |lifecycle| to(lifecycle, abnormal(None))),
        (Reason::SessionStopping, |lifecycle| to(lifecycle, State::Stopping { draining: true })),
    ];
    for (reason, change) in states {
        let host = Answering::new(CLUSTER, OWN);
        let bound = Bound::new("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let answers = host.answers.clone();
        let (mut near, mut far) = (host.caller(move |request| answers.call(request)).await, Caller::with(quick()));
        let address = bound.address();
        let listener = bound.listen().expect("it listens");
        let listener = serve::run(listener, host.answers.clone(), Security::plain(), std::future::pending());
        let listener = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(listener));
        near.nodes.register(7, address);
        far.nodes.register(7, address);
        for caller in [&near, &far] {
            caller.ready(1).await;
        }
        change(&host.lifecycle);
        let [near, far] = [told(&near).await, told(&far).await];
        assert_eq!((near.0, &near), (reason, &far));
        drop(listener);
    }
}

type Change = fn(&Lifecycle);

fn to(lifecycle: &Lifecycle, state: State) {
    lifecycle.transition(state).expect("it may happen");
}

fn abnormal(next_try: Option<Instant>) -> State {
    State::Abnormal { cause: "as asked".to_owned(), next_try }
}

/// All that a refusal tells but the time.
async fn told(caller: &Caller) -> (Reason, Code, String, String) {
    let status = unary(caller.node(7), "Any").await.expect_err("a refusal");
    let Refusal { reason, message, executed, mut details, .. } = Refusal::from_status(&status).expect("a refusal");
    details.remove(key::SINCE_MS);
    let details: BTreeMap<_, _> = details.into_iter().collect();
    (reason, status.code(), message, format!("{executed:?} {details:?}"))
}

#[tokio::test]
async fn another_identity_is_no_peer() {
    for (cluster, server_id) in [("another", OWN), (CLUSTER, ServerId(8))] {
        let caller = Answering::new(cluster, server_id).caller(|_| panic!("nobody may be called")).await;
        caller.link(7, PeerLink::GivenUp).await;
        let refused = refusal(unary(caller.node(7), "Any").await);
        assert_eq!((refused.reason, refused.details[key::WAY].as_str()), (Reason::IdentityMismatch, "local"));
    }
}

#[tokio::test]
async fn only_its_own_id_is_local() {
    let mut caller = calling_itself(|_| Box::pin(async { one_message() })).await;
    caller.nodes.register(8, "127.0.0.1:1");
    caller.link(8, PeerLink::Retrying).await;
    let ways = caller.manager.view().into_iter().flat_map(|role| role.peers).map(|peer| (peer.server_id.0, peer.way));
    assert_eq!(ways.collect::<Vec<_>>(), [(7, Way::Local), (8, Way::Tcp)]);
    unary(caller.node(7), "Any").await.expect("an answer");
}

#[tokio::test]
async fn a_call_that_calls_itself_again_and_again_does_not_use_up_the_stack() {
    const DEEP: usize = 2000;
    let itself: Arc<OnceLock<Client>> = Arc::default();
    let (calls, again) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&itself));
    let count = Arc::clone(&calls);
    let caller = calling_itself(move |_| {
        let deeper = count.fetch_add(1, Ordering::SeqCst) + 1 < DEEP;
        let next = again.get().filter(|_| deeper).cloned();
        Box::pin(async move {
            match next {
                Some(client) => unary(client, "Any").await.map_or_else(Status::into_http, |_| one_message()),
                None => one_message(),
            }
        })
    })
    .await;
    itself.set(caller.node(7)).unwrap_or_else(|_| panic!("set once"));
    unary(caller.node(7), "Any").await.expect("an answer");
    assert_eq!(calls.load(Ordering::SeqCst), DEEP);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_keeps_its_thread_does_not_keep_its_callers() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let released = Arc::new(released);
    let caller = calling_itself(move |_| {
        let released = Arc::clone(&released);
        Box::pin(async move {
            // It ends when the test does.
            let _ = released.lock().expect("one call only").recv_timeout(LIMIT);
            one_message()
        })
    })
    .await;
    let begin = Instant::now();
    let mut request = tonic::Request::new(String::new());
    request.set_timeout(Duration::from_millis(50));
    let status = ask(caller.node(7), "Any", request).await.expect_err("nobody answers");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(begin.elapsed() < LIMIT / 2, "after {:?}", begin.elapsed());
    drop(release);
}

#[tokio::test]
async fn a_panic_of_the_host_itself_ends_the_call_alone() {
    let caller = calling_itself(|request| {
        Box::pin(async move {
            assert!(!request.uri().path().ends_with("/Panic"), "as asked");
            one_message()
        })
    })
    .await;
    let refused = refusal(unary(caller.node(7), "Panic").await);
    assert_eq!(refused.reason, Reason::LinkLost);
    unary(caller.node(7), "Any").await.expect("an answer");
}

#[tokio::test]
async fn a_stream_goes_up_while_nobody_reads_the_answer() {
    let caller = calling_itself(|request| {
        let mut body = request.into_body();
        let rest = async move {
            while let Some(Ok(_)) = body.frame().await {}
            Ok::<_, Status>(well())
        };
        let body = StreamBody::new(futures_util::stream::once(rest));
        Box::pin(async { answer(Body::new(body)) })
    })
    .await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    let mut client = grpc(caller.node(7));
    let request = tonic::Request::new(ReceiverStream::new(receiver));
    let answer = client.streaming(request, path("Any"), Codec::default()).await.expect("it begins");
    for _ in 0..100 {
        tokio::time::timeout(LIMIT, sender.send(String::new())).await.expect("it goes up").expect("it is taken");
    }
    drop(sender);
    let mut answer: tonic::Streaming<String> = answer.into_inner();
    assert!(answer.next().await.is_none(), "it ends well");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_answer_up() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let caller = calling_itself(move |_| {
        let counter = Arc::clone(&counter);
        let endless = futures_util::stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Status>(message())
        });
        Box::pin(async { answer(Body::new(StreamBody::new(endless))) })
    })
    .await;
    let request = tonic::Request::new(String::new());
    let answer = grpc(caller.node(7)).server_streaming(request, path("Any"), Codec::default()).await;
    let mut answer: tonic::Streaming<String> = answer.expect("it begins").into_inner();
    // Two come with the head, four are under way, one waits for its place.
    for (reads, expected) in [(0, 7), (3, 8), (1, 9)] {
        for _ in 0..reads {
            answer.next().await.expect("more to come").expect("a message");
        }
        eventually(LIMIT, async || {
            let made = made.load(Ordering::SeqCst);
            holds(made == expected, made)
        })
        .await;
    }
}

//! Fakes with knobs: a [`Table`] of peers that is fed by hand, and small real servers that stand in for other hosts.

mod table;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use componenthost::wire::v1;
use componenthost::wire::v1::host_server::{Host, HostServer};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use plugin_api::identity::Role;
use plugin_api::refusal::{Reason, Refusal, key};
use plugin_api::state::StateCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

pub use table::Table;

pub const CLUSTER: &str = "fakes";

pub fn role(name: &str) -> Role {
    Role::new(name).expect("a role")
}

/// What a fake host says of itself.
#[derive(Clone)]
pub struct Says {
    pub cluster: String,
    pub server_id: i64,
    pub role: String,
    pub code: watch::Receiver<StateCode>,
    /// It is a foreign server, without the host's service.
    pub foreign: bool,
    /// While it is true, it does not say who it is.
    pub silent: watch::Receiver<bool>,
    /// Every call is refused with this reason before it is handed to a handler, and the host says of itself what goes with it.
    pub refuse: watch::Receiver<Option<Reason>>,
    /// A handler may have seen what it refuses.
    pub may_have_executed: bool,
    /// It says that it serves, whatever it refuses.
    pub claims_to_serve: bool,
    /// In whose name; its own by default.
    pub refuses_as: Option<String>,
}

impl Says {
    /// The state code, and whether it is fenced.
    fn standing(&self) -> (StateCode, bool) {
        match *self.refuse.borrow() {
            _ if self.claims_to_serve => (StateCode::Healthy, false),
            None => (*self.code.borrow(), false),
            Some(Reason::Standby) => (StateCode::StandBy, false),
            Some(Reason::Fenced) => (StateCode::Healthy, true),
            Some(Reason::SessionStopping) => (StateCode::Stopping, false),
            Some(_) => (StateCode::Abnormal, false),
        }
    }

    fn serves(&self) -> bool {
        matches!(self.standing(), (StateCode::Healthy | StateCode::StandBy | StateCode::Stopping, false))
            && *self.refuse.borrow() != Some(Reason::Standby)
    }

    /// As a real host refuses.
    fn refusal(&self, reason: Reason) -> Status {
        let own = self.refuses_as.clone().unwrap_or_else(|| format!("{}-{}", self.role, self.server_id));
        let code = self.standing().0;
        let refusal = Refusal::new(reason, "for a test").with(key::REFUSED_BY, &own).with(key::TARGET, own);
        let refusal = refusal.with(key::STATE_CODE, code);
        let refusal = if self.may_have_executed { refusal.maybe_executed() } else { refusal };
        refusal.into_status()
    }
}

/// A real server in a runtime of its own, which dies with all of its connections at once.
pub struct FakeHost {
    pub address: SocketAddr,
    pub code: watch::Sender<StateCode>,
    pub silent: watch::Sender<bool>,
    pub refuse: watch::Sender<Option<Reason>>,
    /// Calls that it refused.
    pub refused: Arc<AtomicUsize>,
    /// How many calls of `Hold` and `Drip` run here now.
    pub held: Arc<AtomicUsize>,
    /// How often it was asked who it is.
    pub asked: Arc<AtomicUsize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FakeHost {
    pub fn start(server_id: i64, role: &str) -> Self {
        Self::start_with(server_id, role, "127.0.0.1:0", |_| {})
    }

    pub fn start_with(server_id: i64, role: &str, address: &str, change: impl FnOnce(&mut Says)) -> Self {
        let (code, state) = watch::channel(StateCode::Healthy);
        let (silent, is_silent) = watch::channel(false);
        let (cluster, role) = (CLUSTER.to_owned(), role.to_owned());
        let (refuse, reason) = watch::channel(None);
        let mut says = Says {
            cluster,
            server_id,
            role,
            code: state,
            foreign: false,
            silent: is_silent,
            refuse: reason,
            may_have_executed: false,
            claims_to_serve: false,
            refuses_as: None,
        };
        change(&mut says);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for a fake host");
        let address = address.to_owned();
        // The test's own runtime must not be blocked on from within itself: the listener is made by the standard library.
        let listener = bind(&address);
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the listener's address");
        let held = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let refused = Arc::new(AtomicUsize::new(0));
        let echo = Echo { held: Arc::clone(&held), says: says.clone(), refused: Arc::clone(&refused) };
        let identity = Identity { says: says.clone(), asked: Arc::clone(&asked) };
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).expect("a listener of tokio's"));
            let router = tonic::transport::Server::builder()
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .add_service(echo);
            let router = if says.foreign { router } else { router.add_service(HostServer::new(identity)) };
            let stopped = async move { drop(stopped.await) };
            router.serve_with_incoming_shutdown(incoming, stopped).await.expect("a fake host serves");
        });
        Self { address, code, silent, refuse, refused, held, asked, stop: Some(stop), runtime: Some(runtime) }
    }

    /// Ends it as a kill does.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends GOAWAY to all, lets their calls run, and takes no more.
    pub fn go_away(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    fn end(&mut self) {
        // Not to be told to go away politely first.
        std::mem::forget(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.end();
    }
}

/// A killed host's port may take a moment to be free again.
fn bind(address: &str) -> std::net::TcpListener {
    let begin = Instant::now();
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(5), "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}

struct Identity {
    says: Says,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Host for Identity {
    async fn get_identity(
        &self,
        request: tonic::Request<v1::GetIdentityRequest>,
    ) -> Result<tonic::Response<v1::GetIdentityResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.says.silent.clone().wait_for(|silent| !silent).await;
        let wait = Duration::from_millis(request.get_ref().wait_ms.unsigned_abs());
        let (mut code, mut refuse) = (self.says.code.clone(), self.says.refuse.clone());
        let serves = async {
            while !self.says.serves() {
                tokio::select! {
                    changed = code.changed() => changed.expect("the test holds it"),
                    changed = refuse.changed() => changed.expect("the test holds it"),
                }
            }
        };
        // Whether it serves or the wait is over: the answer says how it stands.
        let _ = tokio::time::timeout(wait, serves).await;
        let (code, fenced) = self.says.standing();
        let state_code = v1::StateCode::from(code).into();
        let role = v1::RoleState { role: self.says.role.clone(), state_code, fenced, generation: 1 };
        Ok(tonic::Response::new(v1::GetIdentityResponse {
            cluster: self.says.cluster.clone(),
            server_id: self.says.server_id,
            boot_id: "boot".to_owned(),
            roles: vec![role],
        }))
    }

    async fn get_component_states(
        &self,
        _: tonic::Request<v1::GetComponentStatesRequest>,
    ) -> Result<tonic::Response<v1::ComponentStates>, Status> {
        Err(Status::unimplemented("a fake has none"))
    }
}

/// `fake.Echo`: calls of all kinds on the level of frames. Messages are protobuf's wrapper types.
#[derive(Clone)]
struct Echo {
    held: Arc<AtomicUsize>,
    says: Says,
    refused: Arc<AtomicUsize>,
}

impl NamedService for Echo {
    const NAME: &'static str = "fake.Echo";
}

impl tower::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let held = Arc::clone(&self.held);
        let refuse = *self.says.refuse.borrow();
        let refused = refuse.map(|reason| self.says.refusal(reason).into_http());
        self.refused.fetch_add(usize::from(refused.is_some()), Ordering::SeqCst);
        Box::pin(async move {
            if let Some(refused) = refused {
                return Ok(refused);
            }
            let (head, body) = request.into_parts();
            Ok(match head.uri.path().rsplit('/').next().unwrap_or_default() {
                "Metadata" => grpc(frames(vec![message(&format!("{:?}", pairs(&head.headers)))])),
                "Count" => grpc(frames(vec![message(&count(body).await.to_string())])),
                "Echo" => grpc(body.map_frame(|frame| frame).boxed_unsync_body()),
                "Drip" => grpc(drip(held)),
                "Hold" => {
                    let _held = Held::new(held);
                    std::future::pending().await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(held: Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::SeqCst);
        Self(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Frame = http_body::Frame<Bytes>;

fn trailers() -> Frame {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

trait Boxed {
    fn boxed_unsync_body(self) -> Body;
}

impl<B> Boxed for B
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    /// The same frames, then trailers that say that all went well.
    fn boxed_unsync_body(self) -> Body {
        use tokio_stream::StreamExt as _;
        let frames = http_body_util::BodyStream::new(self).filter(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        Body::new(StreamBody::new(frames.chain(tokio_stream::once(Ok(trailers())))))
    }
}

fn frames(messages: Vec<Bytes>) -> Body {
    let frames = messages.into_iter().map(Frame::data).chain([trailers()]).map(Ok::<_, Status>);
    Body::new(StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>())))
}

/// One message, and then nothing for ever.
fn drip(held: Arc<AtomicUsize>) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let _held = Held::new(held);
        let _ = sender.send(Ok::<_, Status>(Frame::data(message("one")))).await;
        sender.closed().await;
    });
    Body::new(StreamBody::new(ReceiverStream::new(receiver)))
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

async fn count(mut body: Body) -> usize {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes
}

fn pairs(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect()
}

/// A `google.protobuf.StringValue`, framed as gRPC frames it.
fn message(text: &str) -> Bytes {
    let encoded = prost::Message::encode_to_vec(&text.to_owned());
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(encoded.len()).expect("a short message"));
    framed.extend_from_slice(&encoded);
    framed.freeze()
}

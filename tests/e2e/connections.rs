//! The host's connections, without etcd: tables that are fed by hand, and small real servers on loopback.

mod counted;
mod dialled;
pub(crate) mod fake;
mod gone;
mod local;
mod pool;
mod refusing;
mod replay;
mod rolling;
mod silent;
mod stale;
mod stop;
mod suspects;
mod takeover;
mod waits;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use componenthost::connections::{
    Client, ConnectionManager, ConnectionsConfig, ConnectionsSettings, LocalHost, PeerEvents, PeerOverview,
};
use componenthost::tls::Security;
use fake::{CLUSTER, FakeHost, Table, role};
use futures_util::StreamExt as _;
use plugin_api::channel::Target;
use plugin_api::descriptor::{Dependency, WaitPolicy};
use plugin_api::identity::ServerId;
use plugin_api::peers::{PeerChange, PeerLink, PeerSession};
use plugin_api::refusal::{Executed, Reason, Refusal, key};
use plugin_api::state::StateCode;
use tests::{eventually, holds};
use tonic::{Code, Request, Status};

const NODE: &str = "worker";
const COORDINATOR: &str = "chief";
/// For what must happen at once, on a machine that is busy.
const SOON: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);

/// Numbers that make a test short; each test says what it changes.
fn quick() -> ConnectionsConfig {
    ConnectionsConfig {
        window: Duration::from_millis(300),
        windows: 3,
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(80),
        probe_interval: Duration::ZERO,
        connect_timeout: Duration::from_millis(200),
        ..ConnectionsConfig::default()
    }
}

/// One caller, and what it depends on.
struct Caller {
    manager: ConnectionManager,
    nodes: Table,
    coordinators: Table,
}

impl Caller {
    fn new() -> Self {
        Self::with(ConnectionsConfig::default())
    }

    fn with(config: ConnectionsConfig) -> Self {
        Self::within(config, None)
    }

    fn within(config: ConnectionsConfig, local: Option<LocalHost>) -> Self {
        let settings = ConnectionsSettings {
            config,
            cluster: CLUSTER.to_owned(),
            own: "caller-1".to_owned(),
            security: Security::plain(),
            local,
        };
        let manager = ConnectionManager::new(settings);
        let (nodes, coordinators) = (Table::of(NODE), Table::of(COORDINATOR));
        manager.add_dependency(&role("caller"), Dependency::nodes(NODE), nodes.watch());
        manager.add_dependency(&role("caller"), Dependency::coordinator(COORDINATOR), coordinators.watch());
        Self { manager, nodes, coordinators }
    }

    fn node(&self, server_id: i64) -> Client {
        self.manager.client(&role("caller"), Target::Server(role(NODE), ServerId(server_id)))
    }

    fn any_node(&self) -> Client {
        self.manager.client(&role("caller"), Target::Role(role(NODE)))
    }

    fn coordinator(&self) -> Client {
        self.manager.client(&role("caller"), Target::Role(role(COORDINATOR)))
    }

    fn events(&self, of: &str) -> PeerEvents {
        self.manager.watch_clients(&role("caller"), &role(of)).expect("a declared role")
    }

    /// A caller with one node that is ready.
    async fn with_ready_node(config: ConnectionsConfig, host: &FakeHost) -> Self {
        let mut caller = Self::with(config);
        caller.nodes.register(7, host.address);
        caller.ready(1).await;
        caller
    }

    async fn ready(&self, count: usize) {
        let policy = WaitPolicy::AtLeast { count, timeout: LIMIT };
        assert!(self.manager.wait_ready(&role("caller"), &role(NODE), policy).await, "{:?}", self.manager.view());
    }

    /// As people see it.
    fn peer(&self, of: &str, server_id: i64) -> Option<PeerOverview> {
        let view = self.manager.view().into_iter().find(|view| view.role == role(of));
        view.and_then(|view| view.peers.into_iter().find(|peer| peer.server_id == ServerId(server_id)))
    }

    /// How often it was dialled.
    fn dials(&self, of: &str, server_id: i64) -> u64 {
        self.peer(of, server_id).expect("a peer").attempts
    }

    async fn link(&self, server_id: i64, link: PeerLink) {
        eventually(LIMIT, async || {
            let peers = self.manager.clients(&role("caller"), &role(NODE)).expect("a declared role");
            let peer = peers.into_iter().find(|peer| peer.server_id == ServerId(server_id));
            holds(peer.as_ref().is_some_and(|peer| peer.link == link), peer)
        })
        .await;
    }
}

/// What a tonic-generated client does, for `fake.Echo`.
fn grpc(client: Client) -> tonic::client::Grpc<Client> {
    tonic::client::Grpc::new(client).max_decoding_message_size(usize::MAX)
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/fake.Echo/{method}").parse().expect("a path")
}

type Codec = tonic_prost::ProstCodec<String, String>;

async fn unary(client: Client, method: &str) -> Result<String, Status> {
    ask(client, method, Request::new(String::new())).await
}

async fn ask(client: Client, method: &str, request: Request<String>) -> Result<String, Status> {
    let answer = grpc(client).unary(request, path(method), Codec::default()).await?;
    Ok(answer.into_inner())
}

fn waiting(wait: Duration) -> Request<String> {
    let mut request = Request::new(String::new());
    let milliseconds = wait.as_millis().to_string();
    request.metadata_mut().insert("componenthost-wait-ms", milliseconds.parse().expect("a number"));
    request
}

fn refusal(answer: Result<impl std::fmt::Debug, Status>) -> Refusal {
    let status = answer.expect_err("a refusal");
    Refusal::from_status(&status).unwrap_or_else(|| panic!("no refusal: {status:?}"))
}

async fn held(host: &FakeHost, count: usize) {
    eventually(LIMIT, async || {
        let held = host.held.load(Ordering::SeqCst);
        holds(held == count, held)
    })
    .await;
}

async fn next(events: &mut PeerEvents) -> PeerChange {
    let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an event in time");
    event.expect("the stream goes on").change
}

/// A port where nobody listens.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

async fn drip(client: Client) -> tonic::Streaming<String> {
    let mut grpc = grpc(client);
    let answer = grpc.server_streaming(Request::new(String::new()), path("Drip"), Codec::default()).await;
    let mut stream = answer.expect("the stream begins").into_inner();
    assert_eq!(stream.message().await.expect("a message"), Some("one".to_owned()));
    stream
}

async fn endless_upload(client: Client) -> Result<String, Status> {
    let messages = futures_util::stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some(("x".repeat(1000), ()))
    });
    let request = Request::new(Box::pin(messages));
    Ok(grpc(client).client_streaming(request, path("Count"), Codec::default()).await?.into_inner())
}

//! The host's connections, without etcd: tables that are fed by hand, and small real servers on loopback.

mod counted;
pub(crate) mod fake;
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

#[tokio::test]
async fn a_ready_peer_is_called_and_told_whom_the_call_means() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let seen = ask(caller.node(7), "Metadata", waiting(SOON)).await.expect("an answer");
    for pair in [r#""cluster": "fakes""#, r#""serverid": "7""#, r#""componenthost-role": "worker""#] {
        assert!(seen.contains(pair), "{pair} in {seen}");
    }
    assert!(!seen.contains("componenthost-wait-ms"), "{seen}");
}

#[tokio::test]
async fn an_undeclared_role_is_refused() {
    let caller = Caller::new();
    let client = caller.manager.client(&role("caller"), Target::Role(role("stranger")));
    let status = unary(client, "Metadata").await.expect_err("a refusal");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(refusal(Err::<(), _>(status)).reason, Reason::NotDeclared);
    assert!(caller.manager.clients(&role("caller"), &role("stranger")).is_err());
}

#[tokio::test]
async fn a_role_without_peers_is_refused_at_once() {
    let caller = Caller::new();
    for client in [caller.node(7), caller.any_node(), caller.coordinator()] {
        let begin = Instant::now();
        let refused = refusal(unary(client.clone(), "Metadata").await);
        assert!(begin.elapsed() < SOON);
        assert_eq!((refused.reason, refused.executed), (Reason::NoSuchPeer, Executed::No));
        assert_eq!(refused.details[key::REFUSED_BY], "caller-1");
        assert_eq!(refused.details[key::TARGET], client.target().to_string());
        assert_eq!(refused.details[key::TABLE_REVISION], "1");
        assert!(refused.details.contains_key(key::TABLE_AGE_MS));
    }
}

#[tokio::test]
async fn a_peer_that_refuses_connections_is_retried_then_given_up_and_woken_by_a_put() {
    let mut caller = Caller::with(quick());
    let mut events = caller.events(NODE);
    let address = closed_port();
    caller.nodes.register(7, address);
    caller.link(7, PeerLink::Retrying).await;
    let retried = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!((retried.reason, retried.executed), (Reason::ConnectFailed, Executed::No));
    for key in [key::SERVER_ID, key::SESSION, key::LINK, key::SINCE_MS, key::TRIES, key::LAST_ERROR] {
        assert!(retried.details.contains_key(key), "{key} in {retried:?}");
    }
    assert_eq!((&*retried.details[key::SESSION], &*retried.details[key::LINK]), ("live", "retrying"));

    caller.link(7, PeerLink::GivenUp).await;
    let given_up = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!(given_up.reason, Reason::GaveUp);
    assert_eq!(given_up.details[key::TRIES], "3");
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::GivenUp { .. }));

    let _host = FakeHost::start_with(7, NODE, &address.to_string(), |_| {});
    let again = caller.nodes.entry(7, address);
    caller.nodes.put(again).publish();
    caller.ready(1).await;
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.is_callable()));
}

#[tokio::test]
async fn a_peer_that_was_given_up_is_probed() {
    let config = ConnectionsConfig { probe_interval: Duration::from_millis(100), ..quick() };
    let mut caller = Caller::with(config);
    let address = closed_port();
    caller.nodes.register(7, address);
    caller.link(7, PeerLink::GivenUp).await;
    let _host = FakeHost::start_with(7, NODE, &address.to_string(), |_| {});
    caller.ready(1).await;
}

#[tokio::test]
async fn the_first_dial_under_way_is_said() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut caller = Caller::new();
    caller.nodes.register(7, silent.local_addr().expect("its address"));
    caller.link(7, PeerLink::Connecting).await;
    assert_eq!(refusal(unary(caller.node(7), "Metadata").await).reason, Reason::Connecting);
}

#[tokio::test]
async fn a_peer_that_is_initializing_spends_no_try() {
    let host = FakeHost::start(7, NODE);
    host.code.send_replace(StateCode::Initializing);
    let mut caller = Caller::with(quick());
    caller.nodes.register(7, host.address);
    // Longer than all of its windows: it is asked again and again, and never given up.
    let windows = Instant::now() + quick().window * (quick().windows + 1);
    eventually(LIMIT, async || {
        let view = caller.manager.view();
        let peer = view.iter().find(|of| of.role == role(NODE)).and_then(|of| of.peers.first());
        let initializing = peer.is_some_and(|peer| peer.peer_says.as_deref() == Some("Initializing"));
        holds(initializing && Instant::now() > windows, peer.cloned())
    })
    .await;
    let refused = refusal(unary(caller.node(7), "Metadata").await);
    assert_eq!(refused.reason, Reason::Connecting);
    assert_eq!(refused.details[key::STATE_CODE], "Initializing");
    host.code.send_replace(StateCode::Healthy);
    caller.ready(1).await;
}

#[tokio::test]
async fn somebody_else_at_the_address_ends_the_tries_until_the_key_changes() {
    for change in [
        (|says: &mut fake::Says| says.server_id = 8) as fn(&mut fake::Says),
        |says| says.cluster = "others".to_owned(),
        |says| says.role = "stranger".to_owned(),
    ] {
        let config = ConnectionsConfig { probe_interval: Duration::from_millis(50), ..quick() };
        let mut caller = Caller::with(config);
        let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", change);
        caller.nodes.register(7, host.address);
        caller.link(7, PeerLink::GivenUp).await;
        // Not even a call that would wait does.
        let begin = Instant::now();
        let refused = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
        assert!(begin.elapsed() < SOON);
        assert_eq!(refused.reason, Reason::IdentityMismatch);
        assert_eq!(host.asked.load(Ordering::SeqCst), 1);

        let right = FakeHost::start(7, NODE);
        caller.nodes.register(7, right.address);
        caller.ready(1).await;
        assert_eq!(host.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_foreign_server_is_ready_but_unverified() {
    let host = FakeHost::start_with(7, NODE, "127.0.0.1:0", |says| says.foreign = true);
    let caller = Caller::with_ready_node(quick(), &host).await;
    unary(caller.node(7), "Metadata").await.expect("an answer");
    let view = caller.manager.view();
    let peer = view.iter().find(|of| of.role == role(NODE)).and_then(|of| of.peers.first());
    assert!(peer.is_some_and(|peer| peer.unverified), "{view:?}");
}

#[tokio::test]
async fn a_deleted_session_cuts_running_calls_at_once() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    let mut stream = drip(caller.node(7)).await;
    let upload = tokio::spawn(endless_upload(caller.node(7)));
    held(&host, 2).await;

    let begin = Instant::now();
    caller.nodes.delete(7).publish();
    let cut = refusal(running.await.expect("no panic"));
    assert_eq!((cut.reason, cut.executed), (Reason::SessionGone, Executed::Unknown));
    assert_eq!(cut.details[key::SESSION], "gone");
    assert_eq!(refusal(stream.message().await).reason, Reason::SessionGone);
    assert_eq!(refusal(upload.await.expect("no panic")).reason, Reason::SessionGone);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    held(&host, 0).await;

    assert!(matches!(next(&mut events).await, PeerChange::Table(peers) if peers.len() == 1));
    let PeerChange::Offline { peer, reason, .. } = next(&mut events).await else { panic!("not offline") };
    assert_eq!((peer.session, reason), (PeerSession::Gone, Reason::SessionGone));
    let refused = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
    assert_eq!((refused.reason, refused.executed), (Reason::SessionGone, Executed::No));
    assert_eq!(refusal(unary(caller.any_node(), "Metadata").await).reason, Reason::NoSuchPeer);
}

#[tokio::test]
async fn an_upload_ends_with_its_call() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let uploads = std::sync::Arc::new(());
    let messages = futures_util::stream::unfold(std::sync::Arc::clone(&uploads), async |held| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some(("x".to_owned(), held))
    });
    let mut client = grpc(caller.node(7));
    let answer = client.streaming(Request::new(Box::pin(messages)), path("Echo"), Codec::default()).await;
    let mut echoed = answer.expect("the stream begins").into_inner();
    assert!(echoed.message().await.expect("a message").is_some());
    caller.nodes.delete(7).publish();
    while echoed.message().await.is_ok_and(|message| message.is_some()) {}
    // Without its link, too: nothing reads an upload any more whose call is over.
    eventually(SOON, async || {
        let held = std::sync::Arc::strong_count(&uploads);
        holds(held == 1, held)
    })
    .await;
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

#[tokio::test]
async fn a_replaced_coordinator_cuts_and_the_next_call_reaches_the_new_one() {
    let (old, new) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let mut caller = Caller::with(quick());
    let mut events = caller.events(COORDINATOR);
    caller.coordinators.activate(3, old.address).publish();
    ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the old one answers");
    let running = tokio::spawn(unary(caller.coordinator(), "Hold"));
    held(&old, 1).await;

    caller.coordinators.delete(3).activate(4, new.address).publish();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::PeerReplaced);
    let seen = ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the new one answers");
    assert!(seen.contains(r#""serverid": "4""#), "{seen}");
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.server_id == ServerId(3)));
    let PeerChange::Replaced { old, new } = next(&mut events).await else { panic!("not replaced") };
    assert_eq!((old.server_id, new.server_id), (ServerId(3), ServerId(4)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(peer) if peer.server_id == ServerId(4)));
}

#[tokio::test]
async fn a_standby_is_proved_for_later_and_its_takeover_cuts_nothing_on_its_link() {
    let host = FakeHost::start(4, COORDINATOR);
    host.code.send_replace(StateCode::StandBy);
    let mut caller = Caller::with(quick());
    let mut standby = caller.coordinators.entry(4, host.address);
    (standby.standby, standby.record.exclusive) = (true, true);
    let mut events = caller.events(COORDINATOR);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    caller.coordinators.put(standby.clone()).publish();
    eventually(LIMIT, async || {
        let peers = caller.manager.clients(&role("caller"), &role(COORDINATOR)).expect("a declared role");
        holds(peers.iter().any(|peer| peer.standby && peer.link == PeerLink::Ready && !peer.is_callable()), peers)
    })
    .await;
    assert_eq!(refusal(unary(caller.coordinator(), "Metadata").await).reason, Reason::NoSuchPeer);
    let there = WaitPolicy::AtLeast { count: 1, timeout: SOON };
    assert!(!caller.manager.wait_ready(&role("caller"), &role(COORDINATOR), there).await, "it does not count");
    host.code.send_replace(StateCode::Healthy);
    caller.coordinators.activate(4, host.address).publish();
    let told = next(&mut events).await;
    assert!(matches!(&told, PeerChange::Updated(peer) if !peer.is_callable()), "it is asked first: {told:?}");
    let told = next(&mut events).await;
    assert!(matches!(&told, PeerChange::Online(peer) if !peer.standby), "told of when it is active: {told:?}");
    ask(caller.coordinator(), "Metadata", waiting(LIMIT)).await.expect("the new holder answers");
    assert_eq!(caller.dials(COORDINATOR, 4), 1, "a takeover dials nothing");
}

#[tokio::test]
async fn a_standby_is_not_called_where_any_peer_would_do() {
    let (host, standby) = (FakeHost::start(7, NODE), FakeHost::start(8, NODE));
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut waits = caller.nodes.entry(8, standby.address);
    (waits.standby, waits.record.exclusive) = (true, true);
    caller.nodes.put(waits).publish();
    caller.link(8, PeerLink::Ready).await;
    for _ in 0..4 {
        let seen = unary(caller.any_node(), "Metadata").await.expect("an answer");
        assert!(seen.contains(r#""serverid": "7""#), "{seen}");
    }
}

#[tokio::test]
async fn a_reregistration_without_a_gap_cuts_nothing() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(7, host.address);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    unary(caller.node(7), "Metadata").await.expect("an answer");
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
    assert_eq!(host.asked.load(Ordering::SeqCst), 1, "nothing was dialled");
}

#[tokio::test]
async fn a_peer_that_moves_is_called_at_its_new_address() {
    let (host, moved) = (FakeHost::start(7, NODE), FakeHost::start(7, NODE));
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(7, moved.address);
    eventually(LIMIT, async || holds(moved.asked.load(Ordering::SeqCst) == 1, "it is not dialled")).await;
    caller.link(7, PeerLink::Ready).await;
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&moved, 1).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
    running.abort();
}

#[tokio::test]
async fn a_younger_node_at_the_same_address_replaces_the_one_that_went() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let younger = caller.nodes.entry(8, host.address);
    caller.nodes.delete(7).put(younger).publish();
    let PeerChange::Replaced { old, new } = next(&mut events).await else { panic!("not replaced") };
    assert_eq!((old.server_id, new.server_id), (ServerId(7), ServerId(8)));
}

#[tokio::test]
async fn a_reregistration_with_a_gap_cuts_even_where_the_gap_was_not_seen() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    held(&host, 1).await;
    let again = caller.nodes.entry(7, host.address);
    caller.nodes.delete(7).put(again).publish();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::SessionGone);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Offline { reason: Reason::SessionGone, .. }));
    assert!(matches!(next(&mut events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(&mut events).await, PeerChange::Online(_)));
    unary(caller.node(7), "Metadata").await.expect("the client works again");
}

#[tokio::test]
async fn a_killed_peer_breaks_the_link_and_comes_back_on_another_port_by_itself() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with_ready_node(quick(), &host).await;
    let mut events = caller.events(NODE);
    let running = tokio::spawn(unary(caller.node(7), "Hold"));
    let mut stream = drip(caller.node(7)).await;
    held(&host, 2).await;
    host.kill();
    let lost = refusal(running.await.expect("no panic"));
    assert_eq!((lost.reason, lost.executed), (Reason::LinkLost, Executed::Unknown));
    assert_eq!(refusal(stream.message().await).reason, Reason::LinkLost);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let PeerChange::Offline { peer, reason, .. } = next(&mut events).await else { panic!("not offline") };
    assert_eq!((peer.session, reason), (PeerSession::Live, Reason::LinkLost));

    let other = FakeHost::start(9, NODE);
    caller.nodes.delete(7).publish();
    caller.nodes.register(9, other.address);
    ask(caller.any_node(), "Metadata", waiting(LIMIT)).await.expect("the new one answers");
}

#[tokio::test]
async fn a_link_that_breaks_is_dialled_again_while_the_session_lives() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let address = host.address.to_string();
    host.kill();
    let _again = FakeHost::start_with(7, NODE, &address, |_| {});
    eventually(LIMIT, async || ask(caller.node(7), "Metadata", waiting(LIMIT)).await).await;
}

#[tokio::test]
async fn after_goaway_running_calls_go_on_and_new_ones_take_the_new_link() {
    let mut host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let stream = drip(caller.node(7)).await;
    host.go_away();
    let address = host.address.to_string();
    // Its listener goes at once, so that another one can be there for the new link.
    let again = FakeHost::start_with(7, NODE, &address, |_| {});
    eventually(LIMIT, async || {
        let asked = again.asked.load(Ordering::SeqCst);
        holds(asked == 1, asked)
    })
    .await;
    caller.ready(1).await;
    unary(caller.node(7), "Metadata").await.expect("an answer over the new link");
    assert_eq!(host.held.load(Ordering::SeqCst), 1, "the stream runs on the old link");
    drop(stream);
    held(&host, 0).await;
}

#[tokio::test]
async fn a_stopping_peer_is_called_by_its_address_and_spared_by_its_role() {
    let (leaving, staying) = (FakeHost::start(7, NODE), FakeHost::start(8, NODE));
    let mut caller = Caller::with_ready_node(quick(), &leaving).await;
    let mut stream = drip(caller.node(7)).await;
    caller.nodes.register(8, staying.address);
    caller.ready(2).await;
    let mut events = caller.events(NODE);
    let mut stopping = caller.nodes.entry(7, leaving.address);
    stopping.record.stopping = true;
    stopping.registration.create_revision = 2;
    caller.nodes.put(stopping).publish();
    while !matches!(next(&mut events).await, PeerChange::Stopping(_)) {}
    unary(caller.node(7), "Metadata").await.expect("the peer itself has not refused");
    for _ in 0..4 {
        let seen = unary(caller.any_node(), "Metadata").await.expect("an answer");
        assert!(seen.contains(r#""serverid": "8""#), "{seen}");
    }
    // What still runs there when its session goes is not cut, and what is new is refused.
    caller.nodes.delete(7).publish();
    eventually(LIMIT, async || {
        let answer = unary(caller.node(7), "Metadata").await;
        holds(answer.is_err(), answer)
    })
    .await;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "the stream goes on");
}

#[tokio::test]
async fn calls_that_drain_are_cut_at_the_limit() {
    let host = FakeHost::start(7, NODE);
    let config = ConnectionsConfig { drain_limit: Duration::from_millis(100), ..quick() };
    let mut caller = Caller::with_ready_node(config, &host).await;
    let mut stream = drip(caller.node(7)).await;
    let mut stopping = caller.nodes.entry(7, host.address);
    stopping.record.stopping = true;
    caller.nodes.put(stopping).publish();
    eventually(LIMIT, async || {
        let peers = caller.manager.clients(&role("caller"), &role(NODE)).expect("a declared role");
        holds(peers.iter().any(|peer| peer.session == PeerSession::Stopping), peers)
    })
    .await;
    caller.nodes.delete(7).publish();
    let cut = tokio::time::timeout(LIMIT, stream.message()).await.expect("cut at the limit");
    assert_eq!(refusal(cut).reason, Reason::SessionGone);
}

#[tokio::test]
async fn nodes_are_called_in_turn() {
    let hosts: Vec<_> = (1..=3).map(|id| FakeHost::start(id, NODE)).collect();
    let mut caller = Caller::with(quick());
    for (id, host) in (1..).zip(&hosts) {
        caller.nodes.register(id, host.address);
    }
    caller.ready(3).await;
    let mut seen = [0; 3];
    for _ in 0..9 {
        let answer = unary(caller.any_node(), "Metadata").await.expect("an answer");
        let id = (1..=3).find(|id| answer.contains(&format!(r#""serverid": "{id}""#))).expect("one of them");
        seen[id - 1] += 1;
    }
    assert_eq!(seen, [3, 3, 3]);
}

#[tokio::test]
async fn silent_peers_slow_nobody_down() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let full = full_backlog().await;
    // One dial at a time: the silent ones must not hold that one place.
    let config = ConnectionsConfig { max_parallel_dials: 1, connect_timeout: LIMIT, window: LIMIT, ..quick() };
    let mut caller = Caller::with(config);
    let host = FakeHost::start(9, NODE);
    for (id, address) in [(1, silent.local_addr().expect("its address")), (2, full.address), (9, host.address)] {
        let entry = caller.nodes.entry(id, address);
        caller.nodes.put(entry);
    }
    let begin = Instant::now();
    caller.nodes.publish();
    ask(caller.node(9), "Metadata", waiting(LIMIT)).await.expect("the peer that lives answers");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    for id in [1, 2] {
        let begin = Instant::now();
        assert_eq!(refusal(unary(caller.node(id), "Metadata").await).reason, Reason::Connecting);
        assert!(begin.elapsed() < Duration::from_millis(250));
    }
}

struct FullBacklog {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

/// A listener that never accepts, and whose queue is full: connecting to it gets no answer.
async fn full_backlog() -> FullBacklog {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let waiting = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let _stream = tokio::net::TcpStream::connect(address).await;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    eventually(LIMIT, async || {
        let connected = tokio::time::timeout(Duration::from_millis(50), tokio::net::TcpStream::connect(address)).await;
        holds(connected.is_err(), "its queue still takes connections")
    })
    .await;
    FullBacklog { address, _listener: listener, _waiting: waiting }
}

#[tokio::test]
async fn a_call_that_waits_is_woken_the_moment_its_peer_is_ready() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with(quick());
    let by_role = tokio::spawn(ask(caller.any_node(), "Metadata", waiting(LIMIT)));
    let by_id = tokio::spawn(ask(caller.node(7), "Metadata", waiting(LIMIT)));
    tokio::task::yield_now().await;
    let begin = Instant::now();
    caller.nodes.register(7, host.address);
    by_role.await.expect("no panic").expect("an answer");
    by_id.await.expect("no panic").expect("an answer");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_wait_has_a_cap_and_says_what_it_waited_for() {
    let config = ConnectionsConfig { wait_cap: Duration::from_millis(150), ..ConnectionsConfig::default() };
    let mut caller = Caller::with(config);
    caller.nodes.register(7, closed_port());
    caller.link(7, PeerLink::Retrying).await;
    let begin = Instant::now();
    let expired = refusal(ask(caller.node(7), "Metadata", waiting(LIMIT)).await);
    assert!((Duration::from_millis(150)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!((expired.reason, expired.executed), (Reason::WaitExpired, Executed::No));
    assert!(expired.details.contains_key(key::LAST_ERROR), "{expired:?}");
    assert!(expired.message.contains("CONNECT_FAILED"), "{expired:?}");
}

#[tokio::test]
async fn a_dependency_may_make_its_calls_wait() {
    let host = FakeHost::start(7, NODE);
    let mut caller = Caller::with(quick());
    let patient = Dependency::nodes(NODE).call_wait(LIMIT);
    caller.manager.add_dependency(&role("patient"), patient, caller.nodes.watch());
    let client = caller.manager.client(&role("patient"), Target::Role(role(NODE)));
    let waits = tokio::spawn(unary(client, "Metadata"));
    caller.nodes.register(7, host.address);
    waits.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_deadline_ends_a_wait_a_call_and_a_stream() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let timeout = Duration::from_millis(150);
    let limited = |mut request: Request<String>| {
        request.set_timeout(timeout);
        request
    };
    for (client, method) in [(caller.node(7), "Hold"), (caller.coordinator(), "Metadata")] {
        let begin = Instant::now();
        let status = ask(client, method, limited(waiting(LIMIT))).await.expect_err("too late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!((timeout..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }
    let mut grpc = grpc(caller.node(7));
    let request = limited(Request::new(String::new()));
    let answer = grpc.server_streaming(request, path("Drip"), Codec::default()).await.expect("the stream begins");
    let mut stream = answer.into_inner();
    assert_eq!(stream.message().await.expect("a message"), Some("one".to_owned()));
    assert_eq!(stream.message().await.expect_err("too late").code(), Code::DeadlineExceeded);
    held(&host, 0).await;
}

#[tokio::test]
async fn stop_ends_everything_with_cancelled() {
    for (reason, stop) in [(Reason::HostStopping, 0), (Reason::DependencyRemoved, 1), (Reason::ClientStopped, 2)] {
        let host = FakeHost::start(7, NODE);
        let caller = Caller::with_ready_node(quick(), &host).await;
        let client = caller.node(7);
        let absent = caller.any_node();
        let running = tokio::spawn(unary(client.clone(), "Hold"));
        let mut stream = drip(client.clone()).await;
        let waits = tokio::spawn(ask(caller.coordinator(), "Metadata", waiting(LIMIT)));
        held(&host, 2).await;
        let begin = Instant::now();
        match stop {
            0 => caller.manager.stop().await,
            1 => caller.manager.remove_dependency(&role("caller"), &role(NODE)).await,
            _ => client.stop(),
        }
        let status = running.await.expect("no panic").expect_err("ended");
        assert_eq!(status.code(), Code::Cancelled);
        let cut = refusal(Err::<(), _>(status));
        assert_eq!((cut.reason, cut.executed), (reason, Executed::Unknown));
        assert_eq!(refusal(stream.message().await).reason, reason);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let later = refusal(unary(client, "Metadata").await);
        assert_eq!(later.reason, if stop == 1 { Reason::NotDeclared } else { reason });
        match stop {
            0 => assert_eq!(refusal(waits.await.expect("no panic")).reason, Reason::HostStopping),
            1 => assert_eq!(refusal(unary(absent, "Metadata").await).reason, Reason::NotDeclared),
            _ => drop(unary(absent, "Metadata").await.expect("another client goes on")),
        }
        held(&host, 0).await;
    }
}

#[tokio::test]
async fn links_are_shared_by_the_callers_of_a_host_and_kept_for_the_last() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    caller.manager.add_dependency(&role("other"), Dependency::nodes(NODE), caller.nodes.watch());
    let client = caller.manager.client(&role("other"), Target::Role(role(NODE)));
    unary(client.clone(), "Metadata").await.expect("an answer");
    caller.manager.remove_dependency(&role("caller"), &role(NODE)).await;
    unary(client, "Metadata").await.expect("the other one still depends on it");
    assert_eq!(host.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_slow_listener_gets_the_table_in_place_of_what_it_missed() {
    let mut caller = Caller::with(quick());
    let mut slow = caller.events(NODE);
    assert!(matches!(next(&mut slow).await, PeerChange::Table(_)));
    let mut quick = caller.events(NODE);
    assert!(matches!(next(&mut quick).await, PeerChange::Table(_)));
    let mut entry = caller.nodes.entry(7, closed_port());
    caller.nodes.put(entry.clone()).publish();
    caller.link(7, PeerLink::Retrying).await;
    for version in 1..=600 {
        entry.record.version = format!("1.0.{version}");
        caller.nodes.put(entry.clone()).publish();
        while !matches!(next(&mut quick).await, PeerChange::Updated(peer) if peer.version == format!("1.0.{version}")) {
        }
    }
    let PeerChange::Table(peers) = next(&mut slow).await else { panic!("not a table") };
    assert_eq!(peers.iter().map(|peer| peer.version.as_str()).collect::<Vec<_>>(), ["1.0.600"]);
}

#[tokio::test]
async fn all_kinds_of_calls_go_through_and_64_mib_too() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
    let mut client = grpc(caller.node(7));
    let chunk = "x".repeat(1 << 20);
    let chunks = || Request::new(tokio_stream::iter(std::iter::repeat_n("x".repeat(1 << 20), 64)));
    let counted = client.client_streaming(chunks(), path("Count"), Codec::default()).await.expect("an answer");
    let counted: usize = counted.into_inner().parse().expect("a number");
    assert!(counted > 64 << 20, "{counted}");

    let answer = client.streaming(chunks(), path("Echo"), Codec::default()).await.expect("the stream begins");
    let mut echoed = answer.into_inner();
    for _ in 0..64 {
        assert_eq!(echoed.message().await.expect("a message").as_ref().map(String::len), Some(chunk.len()));
    }
    assert_eq!(echoed.message().await.expect("the end"), None);
    let whole = "y".repeat(64 << 20);
    let answer = ask(caller.node(7), "Echo", Request::new(whole)).await.expect("an answer");
    assert_eq!(answer.len(), 64 << 20);
}

#[tokio::test]
async fn required_dependencies_that_cannot_be_called_are_named() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(quick(), &host).await;
    let missing = caller.manager.missing(&role("caller"));
    assert_eq!(
        missing.iter().map(|it| (it.role.as_str(), it.reason)).collect::<Vec<_>>(),
        [(COORDINATOR, Reason::NoSuchPeer)]
    );
}

//! More than one connection on a link: how calls are spread over them, and what the loss of one costs.

use std::io;
use std::sync::{Arc, Mutex};

use componenthost::connections::ConnectionsConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// GOAWAY for no stream that there can be: all that run go on (RFC 9113, 6.8).
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A way to a host, each of whose connections can be broken, or told to go away.
struct Forwarder {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<mpsc::UnboundedSender<Knob>>>>,
    _task: AbortOnDropHandle<()>,
}

enum Knob {
    Break,
    GoAway,
}

impl Forwarder {
    async fn to(host: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (sender, knobs) = mpsc::unbounded_channel();
                accepted.lock().expect("no panic").push(sender);
                running.spawn(forward(client, host, knobs));
            }
        });
        Self { address, connections, _task: AbortOnDropHandle::new(task) }
    }

    fn turn(&self, connection: usize, knob: Knob) {
        assert!(self.connections.lock().expect("no panic")[connection].send(knob).is_ok(), "it is open");
    }

    fn accepted(&self) -> usize {
        self.connections.lock().expect("no panic").len()
    }
}

async fn forward(client: TcpStream, host: SocketAddr, mut knobs: mpsc::UnboundedReceiver<Knob>) -> io::Result<()> {
    let host = TcpStream::connect(host).await?;
    let ((mut from_client, mut to_client), (mut from_host, mut to_host)) = (client.into_split(), host.into_split());
    let mut up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_host).await });
    loop {
        tokio::select! {
            _ = &mut up => return Ok(()),
            // Between two copies the host says nothing: what is told then stands between two of its frames.
            copied = tokio::io::copy(&mut from_host, &mut to_client) => return copied.map(drop),
            Some(knob) = knobs.recv() => match knob {
                Knob::Break => {
                    up.abort();
                    return Ok(());
                }
                Knob::GoAway => to_client.write_all(&GOAWAY).await?,
            }
        }
    }
}

/// A caller with one node, to which there are so many connections.
async fn pooled(per_peer: usize, host: &FakeHost) -> (Caller, Forwarder) {
    let way = Forwarder::to(host.address).await;
    let mut caller = Caller::with(ConnectionsConfig { per_peer, ..quick() });
    caller.nodes.register(7, way.address);
    connections(&caller, per_peer).await;
    (caller, way)
}

/// Waits until the link has so many connections.
async fn connections(caller: &Caller, count: usize) {
    eventually(LIMIT, async || {
        let view = caller.manager.view();
        let peer = view.iter().flat_map(|role| &role.peers).next().map(|peer| (peer.link, peer.connections));
        holds(peer == Some((PeerLink::Ready, count)), peer)
    })
    .await;
}

#[tokio::test]
async fn calls_are_spread_and_one_broken_connection_costs_its_own_calls_only() {
    let host = FakeHost::start(7, NODE);
    let (caller, way) = pooled(3, &host).await;
    let mut events = caller.events(NODE);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let mut running: Vec<_> = (0..6).map(|_| tokio::spawn(unary(caller.node(7), "Hold"))).collect();
    held(&host, 6).await;
    assert_eq!(way.accepted(), 3);
    way.turn(1, Knob::Break);
    // Two of six, as there were three connections.
    held(&host, 4).await;
    let mut lost = 0;
    eventually(LIMIT, async || {
        let ended = running.iter().filter(|call| call.is_finished()).count();
        holds(ended == 2, ended)
    })
    .await;
    for call in running.extract_if(.., |call| call.is_finished()) {
        assert_eq!(refusal(call.await.expect("no panic")).reason, Reason::LinkLost);
        lost += 1;
    }
    assert_eq!(lost, 2);
    // It is made again, the link was ready all the while, and the others' calls run on.
    connections(&caller, 3).await;
    let measured = caller.manager.measured().of(&role(NODE));
    let lost: u64 = measured.links.disconnections().map(|(_, count)| count).sum();
    assert_eq!((measured.links.open(), measured.links.attempts_succeeded(), lost), (3, 4, 1));
    assert_eq!(way.accepted(), 4);
    assert!(futures_util::FutureExt::now_or_never(events.next()).is_none(), "nothing is told");
    assert!(running.iter().all(|call| !call.is_finished()));
}

#[tokio::test]
async fn one_connection_that_goes_away_is_replaced_and_its_calls_run_on() {
    let host = FakeHost::start(7, NODE);
    let (caller, way) = pooled(2, &host).await;
    let mut events = caller.events(NODE);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    let running: Vec<_> = (0..2).map(|_| tokio::spawn(unary(caller.node(7), "Hold"))).collect();
    held(&host, 2).await;
    way.turn(0, Knob::GoAway);
    eventually(LIMIT, async || holds(way.accepted() == 3, way.accepted())).await;
    connections(&caller, 2).await;
    unary(caller.node(7), "Metadata").await.expect("calls go on");
    assert!(running.iter().all(|call| !call.is_finished()));
    assert!(futures_util::FutureExt::now_or_never(events.next()).is_none(), "nothing is told");
}

#[tokio::test]
async fn a_link_ends_with_its_last_connection_and_with_its_peer() {
    let host = FakeHost::start(7, NODE);
    let (mut caller, way) = pooled(2, &host).await;
    let mut events = caller.events(NODE);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    (0..2).for_each(|connection| way.turn(connection, Knob::Break));
    let told = next(&mut events).await;
    assert!(matches!(told, PeerChange::Offline { reason: Reason::LinkLost, .. }), "{told:?}");
    assert!(matches!(next(&mut events).await, PeerChange::Online(_)));
    connections(&caller, 2).await;
    let (running, accepted) = (tokio::spawn(unary(caller.node(7), "Hold")), way.accepted());
    held(&host, 1).await;
    caller.nodes.delete(7).publish();
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::SessionGone);
    held(&host, 0).await;
    assert_eq!(way.accepted(), accepted, "nothing is dialled for one that has gone");
}

//! A TCP proxy on loopback, with knobs for what networks do: cut, black-holed, slow.
//!
//! It runs on a thread of its own, so that a runtime that a test blocks, or pauses the time of, does not hold it. Each knob
//! has taken effect when its call returns. The bytes' way through it is in `way`.

mod way;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::port::Port;

/// A knob is turned at once: its thread does nothing that takes long.
const TURN_LIMIT: Duration = Duration::from_secs(20);

/// How bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// They pass, so much later than they came.
    Open(Duration),
    /// Connections are accepted, and nothing passes: neither bytes nor the end of a connection.
    BlackHole,
    /// There is no connection, and none is accepted.
    Cut,
}

/// What has passed since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: usize,
    /// Bytes to the server.
    pub up: u64,
    /// Bytes from the server.
    pub down: u64,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicUsize,
    up: AtomicU64,
    down: AtomicU64,
}

/// A proxy in front of one server. It ends, with all its connections, on drop.
pub struct Proxy {
    port: Arc<Port>,
    counts: Arc<Counts>,
    /// Dropped first, which ends the thread.
    turn: Option<mpsc::UnboundedSender<Turn>>,
    thread: Option<JoinHandle<()>>,
}

/// A knob that is turned, and whom to tell that it is done.
type Turn = (Mode, std::sync::mpsc::Sender<()>);

impl Proxy {
    /// Listens at a free port and leads to `server`, which need not be there yet.
    ///
    /// # Panics
    ///
    /// Where no port is free.
    pub fn to(server: SocketAddr) -> Self {
        let (port, counts) = (Arc::new(Port::reserve()), Arc::new(Counts::default()));
        let (turn, turns) = mpsc::unbounded_channel();
        let serving = Serving { server, port: Arc::clone(&port), counts: Arc::clone(&counts), turns };
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || serving.run());
        let thread = Some(thread.expect("a thread can be started"));
        let proxy = Self { port, counts, turn: Some(turn), thread };
        proxy.heal();
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Closes all connections and refuses new ones.
    pub fn cut(&self) {
        self.turn(Mode::Cut);
    }

    /// Lets nothing pass any more, and nobody know: connections stay and are accepted, and all is silent. What was sent
    /// meanwhile arrives after [`Proxy::heal`], as TCP has it.
    pub fn black_hole(&self) {
        self.turn(Mode::BlackHole);
    }

    /// Lets everything pass so much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.turn(Mode::Open(delay));
    }

    /// Lets everything pass at once.
    pub fn heal(&self) {
        self.turn(Mode::Open(Duration::ZERO));
    }

    /// What has passed.
    pub fn counters(&self) -> Counters {
        let Counts { accepted, open, up, down } = &*self.counts;
        Counters {
            accepted: accepted.load(Ordering::SeqCst),
            open: open.load(Ordering::SeqCst),
            up: up.load(Ordering::SeqCst),
            down: down.load(Ordering::SeqCst),
        }
    }

    fn turn(&self, mode: Mode) {
        let (done, is_done) = std::sync::mpsc::channel();
        let turn = self.turn.as_ref().expect("it is there until it is dropped");
        turn.send((mode, done)).expect("the proxy's thread runs");
        is_done.recv_timeout(TURN_LIMIT).expect("the proxy's thread answers");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.turn = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed where it happened.
            drop(thread.join());
        }
    }
}

/// What its thread owns.
struct Serving {
    server: SocketAddr,
    port: Arc<Port>,
    counts: Arc<Counts>,
    turns: mpsc::UnboundedReceiver<Turn>,
}

impl Serving {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(self.serve());
    }

    async fn serve(mut self) {
        let (mode, seen) = watch::channel(Mode::Cut);
        let mut listener: Option<TcpListener> = None;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Knobs first: what is accepted after a turn is under its mode.
                biased;
                turn = self.turns.recv() => {
                    let Some((next, done)) = turn else { return };
                    mode.send_replace(next);
                    if next == Mode::Cut {
                        listener = None;
                        connections.shutdown().await;
                    } else if listener.is_none() {
                        listener = Some(self.port.listen());
                    }
                    // Who asked may have given up, and panics.
                    let _ = done.send(());
                }
                Some(_) = connections.join_next() => {}
                client = accept(listener.as_ref()) => {
                    self.counts.accepted.fetch_add(1, Ordering::SeqCst);
                    let open = Open::one_more(&self.counts);
                    connections.spawn(connect(client, self.server, seen.clone(), open));
                }
            }
        }
    }
}

/// Waits for ever where nobody listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        // What fails is that one connection.
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>, open: Open) {
    if mode.wait_for(|mode| matches!(mode, Mode::Open(_))).await.is_err() {
        return;
    }
    // A server that is not there ends the client's connection, which it was given too early.
    let Ok(server) = TcpStream::connect(server).await else { return };
    way::join(client, server, &mode, &open.counts).await;
}

/// A connection that is open.
struct Open {
    counts: Arc<Counts>,
}

impl Open {
    fn one_more(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self { counts: Arc::clone(counts) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

//! Listeners where a peer is looked for and is not: one notes who comes and stays silent, one never accepts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tests::clock::monotonic;
use tests::{LIMIT, eventually, holds};

/// Accepts, and stays silent. On a thread of its own, so that its stamps are right whatever the test does.
pub struct Trap {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<(Duration, TcpStream)>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Trap {
    /// Listens at an address that nobody listens at any more, or at a free one.
    pub fn at(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let listener = listener(address, 64);
        let address = listener.local_addr().expect("its address");
        let (accepted, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, ended) = (Arc::clone(&accepted), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                into.lock().unwrap_or_else(PoisonError::into_inner).push((monotonic(), stream));
            }
        });
        Self { address, accepted, end, thread: Some(thread) }
    }

    /// At a free address.
    pub fn anywhere() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When somebody came.
    pub fn visits(&self) -> Vec<Duration> {
        self.accepted().iter().map(|(at, _)| *at).collect()
    }

    fn accepted(&self) -> MutexGuard<'_, Vec<(Duration, TcpStream)>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        // Wakes the thread; where that fails it has ended.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Never accepts, and its queue is full: who connects gets no answer at all.
pub struct FullBacklog {
    listener: TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

impl FullBacklog {
    /// At a free address.
    pub async fn anywhere() -> Self {
        let listener = listener("127.0.0.1:0".parse().expect("an address"), 1);
        let address = listener.local_addr().expect("its address");
        let connect = |_| {
            tokio::spawn(async move {
                let _stream = tokio::net::TcpStream::connect(address).await;
                std::future::pending::<()>().await;
            })
        };
        let waiting = (0..4).map(connect).collect();
        eventually(LIMIT, async || {
            let connect = tokio::net::TcpStream::connect(address);
            let connected = tokio::time::timeout(Duration::from_millis(50), connect).await;
            holds(connected.is_err(), "its queue still takes connections")
        })
        .await;
        Self { listener, _waiting: waiting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("its address")
    }
}

fn listener(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket can be made");
    // Connections of who listened there before may not be over yet.
    sockopt::set_socket_reuseaddr(&socket, true).expect("a socket has this option");
    bind(&socket, &address).expect("nobody listens there");
    listen(&socket, backlog).expect("a bound socket can listen");
    TcpListener::from(socket)
}

//! The links to the peers of one role, as gRPC counts its subchannels (gRFC A94).

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a link has ended. The names are gRFC A94's `grpc.disconnect_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The peer sent GOAWAY.
    GoAway,
    /// It was let go here: the peer has gone or moved, or this host stops.
    Shutdown,
    /// The connection was reset.
    Reset,
    /// Nothing was heard of the peer any more.
    TimedOut,
    /// The connection was given up by this machine.
    Aborted,
    /// Another error of the socket.
    Socket,
    /// Whatever else, such as an end without a word.
    Unknown,
}

impl Disconnect {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::GoAway, Self::Shutdown, Self::Reset, Self::TimedOut, Self::Aborted, Self::Socket, Self::Unknown];

    /// The value of the label. gRPC adds the code to a GOAWAY's, which is not looked at here.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GoAway => "GOAWAY",
            Self::Shutdown => "subchannel shutdown",
            Self::Reset => "connection reset",
            Self::TimedOut => "connection timed out",
            Self::Aborted => "connection aborted",
            Self::Socket => "socket error",
            Self::Unknown => "unknown",
        }
    }
}

/// What is counted of the links of one role.
#[derive(Debug, Default)]
pub struct Links {
    succeeded: AtomicU64,
    failed: AtomicU64,
    disconnections: [AtomicU64; Disconnect::ALL.len()],
}

impl Links {
    /// A dial has led to a proved link, which is open from now on.
    pub fn opened(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// A dial has failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A link takes no more calls.
    pub fn closed(&self, why: Disconnect) {
        self.disconnections[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Dials that led to a link.
    pub fn attempts_succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Dials that failed.
    pub fn attempts_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Links that have ended, by why.
    pub fn disconnections(&self) -> impl Iterator<Item = (Disconnect, u64)> {
        Disconnect::ALL.into_iter().map(|why| (why, self.disconnections[why as usize].load(Ordering::Relaxed)))
    }

    /// Links that are open. Each ends once.
    pub fn open(&self) -> u64 {
        // Read first, so that one that opens and ends meanwhile is not counted as ended only.
        let ended: u64 = self.disconnections().map(|(_, count)| count).sum();
        self.attempts_succeeded().saturating_sub(ended)
    }
}

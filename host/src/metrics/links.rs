//! The connections to the peers of one role, as gRPC counts its subchannels (gRFC A94).

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection has ended. The names are gRFC A94's `grpc.disconnect_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The peer sent GOAWAY, with this error code (RFC 9113, 7).
    GoAway(u32),
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
    fn index(self) -> usize {
        match self {
            Self::GoAway(code) => usize::try_from(code).unwrap_or(usize::MAX).min(OTHER_CODE),
            Self::Shutdown => OTHER_CODE + 1,
            Self::Reset => OTHER_CODE + 2,
            Self::TimedOut => OTHER_CODE + 3,
            Self::Aborted => OTHER_CODE + 4,
            Self::Socket => OTHER_CODE + 5,
            Self::Unknown => OTHER_CODE + 6,
        }
    }
}

/// HTTP/2 has the codes 0 to 13; whatever else a peer says is one more.
const OTHER_CODE: usize = 14;

/// The values of the label, each at its index.
const LABELS: [&str; OTHER_CODE + 7] = [
    "GOAWAY NO_ERROR",
    "GOAWAY PROTOCOL_ERROR",
    "GOAWAY INTERNAL_ERROR",
    "GOAWAY FLOW_CONTROL_ERROR",
    "GOAWAY SETTINGS_TIMEOUT",
    "GOAWAY STREAM_CLOSED",
    "GOAWAY FRAME_SIZE_ERROR",
    "GOAWAY REFUSED_STREAM",
    "GOAWAY CANCEL",
    "GOAWAY COMPRESSION_ERROR",
    "GOAWAY CONNECT_ERROR",
    "GOAWAY ENHANCE_YOUR_CALM",
    "GOAWAY INADEQUATE_SECURITY",
    "GOAWAY HTTP_1_1_REQUIRED",
    "GOAWAY UNKNOWN",
    "subchannel shutdown",
    "connection reset",
    "connection timed out",
    "connection aborted",
    "socket error",
    "unknown",
];

/// What is counted of the connections to one role.
#[derive(Debug, Default)]
pub struct Links {
    succeeded: AtomicU64,
    failed: AtomicU64,
    disconnections: [AtomicU64; LABELS.len()],
}

impl Links {
    /// A dial has led to a proved connection, which is open from now on.
    pub fn opened(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// A dial has failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection takes no more calls.
    pub fn closed(&self, why: Disconnect) {
        self.disconnections[why.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Dials that led to a connection.
    pub fn attempts_succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Dials that failed.
    pub fn attempts_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Connections that have ended, by why.
    pub fn disconnections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LABELS.into_iter().zip(&self.disconnections).map(|(why, count)| (why, count.load(Ordering::Relaxed)))
    }

    /// Connections that are open. Each ends once.
    pub fn open(&self) -> u64 {
        // Read first, so that one that opens and ends meanwhile is not counted as ended only.
        let ended: u64 = self.disconnections().map(|(_, count)| count).sum();
        self.attempts_succeeded().saturating_sub(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_makes_no_label_of_its_own() {
        let links = Links::default();
        (0..20).for_each(|_| links.opened());
        for code in [0, 11, 13, 14, u32::MAX] {
            links.closed(Disconnect::GoAway(code));
        }
        links.closed(Disconnect::Shutdown);
        links.closed(Disconnect::Unknown);
        let counted: Vec<_> = links.disconnections().filter(|(_, count)| *count > 0).collect();
        let goaway = [("GOAWAY NO_ERROR", 1), ("GOAWAY ENHANCE_YOUR_CALM", 1), ("GOAWAY HTTP_1_1_REQUIRED", 1)];
        assert_eq!(counted[..3], goaway);
        assert_eq!(counted[3..], [("GOAWAY UNKNOWN", 2), ("subchannel shutdown", 1), ("unknown", 1)]);
        assert_eq!(links.open(), 13);
    }
}

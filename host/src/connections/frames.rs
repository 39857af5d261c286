//! Sees the frames of a link pass: GOAWAY, of which hyper tells only when the next call fails on it; how much goes which
//! way; and how long a PING takes to its ACK, which hyper keeps to itself.
//!
//! A stream that reads and writes as the one beneath it does, and looks at the head of each HTTP/2 frame. It changes nothing.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::SetOnce;

/// The length, type, flags and stream of a frame (RFC 9113, 4.1).
const HEAD: usize = 9;
const TYPE: usize = 3;
const FLAGS: usize = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
/// What a PING carries, and its ACK too (RFC 9113, 6.7); of a GOAWAY the last stream and the error code (6.8).
const PAYLOAD: usize = 8;
/// The code of a GOAWAY that is too short to have one.
const NO_CODE: u32 = u32::MAX;
/// `PRI * HTTP/2.0…`: what a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;

/// What has gone over the links to one peer: bytes of HTTP/2, before TLS; those of calls within a host are not counted.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    round_trip: Mutex<Option<RoundTrip>>,
}

/// How long a PING took to its ACK.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    /// So long.
    pub took: Duration,
    /// When the ACK came.
    pub at: Instant,
}

impl Traffic {
    /// Bytes that came in.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that went out.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// The last PING's; none before the first ACK.
    pub fn round_trip(&self) -> Option<RoundTrip> {
        *self.round_trip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, sent: Instant) {
        let at = Instant::now();
        let round_trip = RoundTrip { took: at.duration_since(sent), at };
        *self.round_trip.lock().unwrap_or_else(PoisonError::into_inner) = Some(round_trip);
    }
}

/// A stream whose frames are seen.
pub(super) struct Watched<S> {
    stream: S,
    incoming: Frames,
    outgoing: Frames,
    /// The last PING that went out, and when; none once it is answered.
    ping: Option<([u8; PAYLOAD], Instant)>,
    going_away: Arc<SetOnce<u32>>,
    traffic: Arc<Traffic>,
}

impl<S> Watched<S> {
    /// A client's stream, before its preface. Sets `going_away` to the error code of the first GOAWAY that comes in.
    pub fn new(stream: S, going_away: Arc<SetOnce<u32>>, traffic: Arc<Traffic>) -> Self {
        let outgoing = Frames { payload: PREFACE, ..Frames::default() };
        Self { stream, incoming: Frames::default(), outgoing, ping: None, going_away, traffic }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.traffic.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.incoming.pass(bytes, |seen| match seen {
            // A second one says the same, with a lower stream.
            Seen::GoAway(code) => drop(self.going_away.set(code)),
            Seen::PingAck(payload) => {
                if let Some((_, sent)) = self.ping.take_if(|(sent, _)| *sent == payload) {
                    self.traffic.answered(sent);
                }
            }
            Seen::Ping(_) => {}
        });
    }

    fn went<'a>(&mut self, slices: impl IntoIterator<Item = &'a [u8]>, written: usize) {
        self.traffic.bytes_out.fetch_add(written as u64, Ordering::Relaxed);
        let mut left = written;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            left -= part.len();
            self.outgoing.pass(part, |seen| {
                if let Seen::Ping(payload) = seen {
                    self.ping = Some((payload, Instant::now()));
                }
            });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.came(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.went([bytes], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.went(slices.iter().map(|slice| &**slice), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A frame that somebody wants to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// With its error code.
    GoAway(u32),
    Ping([u8; PAYLOAD]),
    PingAck([u8; PAYLOAD]),
}

/// Where one frame ends and the next begins.
#[derive(Default)]
struct Frames {
    /// The head of the present frame; of a PING all of it, of a GOAWAY its error code too.
    head: [u8; HEAD + PAYLOAD],
    /// Bytes of it that have come.
    have: usize,
    /// Bytes of the present frame that are still to pass.
    payload: usize,
}

impl Frames {
    /// Lets bytes pass, and tells of the frames that somebody wants to know of.
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            // Whether a payload is wanted is known once the head is there.
            if self.have == self.wanted() && self.have > 0 {
                self.seen().map(&mut tell);
                self.payload = self.length() + HEAD - self.have;
                self.have = 0;
            }
        }
    }

    /// How many bytes of the present frame are looked at.
    fn wanted(&self) -> usize {
        if self.have >= HEAD && (self.is_ping() || self.has_code()) { HEAD + PAYLOAD } else { HEAD }
    }

    /// Its length, without its head.
    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    /// One of another length is none, and ends the connection.
    fn is_ping(&self) -> bool {
        self.head[TYPE] == PING && self.length() == PAYLOAD
    }

    fn has_code(&self) -> bool {
        self.head[TYPE] == GOAWAY && self.length() >= PAYLOAD
    }

    fn seen(&self) -> Option<Seen> {
        let payload = || std::array::from_fn(|at| self.head[HEAD + at]);
        let [.., a, b, c, d] = self.head;
        match (self.head[TYPE], self.is_ping()) {
            (GOAWAY, _) => Some(Seen::GoAway(if self.has_code() { u32::from_be_bytes([a, b, c, d]) } else { NO_CODE })),
            (_, true) if self.head[FLAGS] & ACK != 0 => Some(Seen::PingAck(payload())),
            (_, true) => Some(Seen::Ping(payload())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_are_seen_however_the_bytes_are_cut_and_nothing_else_is() {
        // A payload that looks like a GOAWAY is none; nor is a PING of another length one.
        let innocent = [frame(4, 0, &[]), frame(0, 0, &frame(GOAWAY, 0, &[0; 8])), frame(1, 0, &[7; 300])].concat();
        let odd = [innocent.clone(), frame(PING, 0, &[1; 7]), frame(PING, 0, &[]), frame(PING, 0, &[1; 9])].concat();
        let code = [0, 0, 0, 9, 0, 0, 0, 11];
        let told = [&code[..], b"too many pings"].concat();
        let going = [odd.clone(), frame(GOAWAY, 0, &code), frame(GOAWAY, 0, &told), frame(GOAWAY, 0, &[0; 7])].concat();
        let going = [going, frame(0, 0, b"more")].concat();
        let gone = vec![Seen::GoAway(11), Seen::GoAway(11), Seen::GoAway(NO_CODE)];
        let pinged =
            [innocent.clone(), frame(PING, 0, b"question"), frame(PING, ACK, b"answered"), odd.clone()].concat();
        let answer = vec![Seen::Ping(*b"question"), Seen::PingAck(*b"answered")];
        for (bytes, expected) in [(innocent, vec![]), (odd, vec![]), (going, gone), (pinged, answer)] {
            for size in 1..=bytes.len() {
                let (mut frames, mut seen) = (Frames::default(), Vec::new());
                bytes.chunks(size).for_each(|chunk| frames.pass(chunk, |one| seen.push(one)));
                assert_eq!((seen, frames.have, frames.payload), (expected.clone(), 0, 0), "in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn what_passes_is_counted_and_only_the_ack_of_the_last_ping_ends_a_round_trip() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (going_away, traffic) = (Arc::new(SetOnce::new()), Arc::new(Traffic::default()));
        let mut near = Watched::new(near, Arc::clone(&going_away), Arc::clone(&traffic));
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        out.extend(frame(PING, 0, b"question"));
        // What comes back unasked, and a question of the other side.
        let odd = [frame(PING, ACK, b"another!"), frame(PING, 0, b"question")].concat();
        let ack = frame(PING, ACK, b"question");
        let (first, rest) = out.split_at(30);
        let written = near.write_vectored(&[IoSlice::new(first), IoSlice::new(rest)]).await.expect("room");
        near.write_all(&out[written..]).await.expect("room");
        let mut buffer = [0; 64];
        for (bytes, answered) in [(&odd, false), (&ack, true)] {
            far.write_all(bytes).await.expect("room");
            near.read_exact(&mut buffer[..bytes.len()]).await.expect("as many");
            assert_eq!(traffic.round_trip().is_some(), answered);
        }
        let first = traffic.round_trip().expect("answered");
        far.write_all(&ack).await.expect("room");
        near.read_exact(&mut buffer[..ack.len()]).await.expect("as many");
        assert_eq!(traffic.round_trip().map(|again| again.at), Some(first.at), "one ACK answers one PING");
        assert_eq!((traffic.bytes_out(), traffic.bytes_in()), (out.len() as u64, (odd.len() + 2 * ack.len()) as u64));
        assert!(!going_away.initialized());
    }
}

//! Sees GOAWAY on its way in: hyper tells of it only when the next call fails on it.
//!
//! A stream that reads and writes as TCP does, and looks at the head of each HTTP/2 frame that passes. It changes nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::tls::stream::Traced;

/// The length, type, flags and stream of a frame (RFC 9113, 4.1).
const HEAD: usize = 9;
/// Where in it the type is, and which is GOAWAY's.
const TYPE: usize = 3;
const GOAWAY: u8 = 7;

/// A stream that tells of GOAWAY.
pub(super) struct Watched {
    stream: Traced,
    frames: Frames,
    going_away: CancellationToken,
}

impl Watched {
    /// Cancels `going_away` when GOAWAY comes in.
    pub fn new(stream: Traced, going_away: CancellationToken) -> Self {
        Self { stream, frames: Frames::default(), going_away }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.frames.pass(&buffer.filled()[before..]) {
            self.going_away.cancel();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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

/// Where one frame ends and the next begins.
#[derive(Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes of the present frame that are still to come after its head.
    payload: usize,
}

impl Frames {
    /// Lets bytes pass; true if a frame among them begins that is GOAWAY.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut seen = false;
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let [high, middle, low, ..] = self.head;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.have = 0;
                seen |= self.head[TYPE] == GOAWAY;
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn goaway_is_seen_however_the_bytes_are_cut_and_nothing_else_is() {
        // A payload that looks like a GOAWAY is none.
        let innocent = [frame(4, &[]), frame(0, &frame(GOAWAY, &[0; 8])), frame(1, &[7; 300])].concat();
        let going = [innocent.clone(), frame(GOAWAY, &[0; 8]), frame(0, b"more")].concat();
        for (bytes, expected) in [(innocent, false), (going, true)] {
            for size in 1..bytes.len() {
                let mut frames = Frames::default();
                let seen = bytes.chunks(size).filter(|chunk| frames.pass(chunk)).count() == 1;
                assert_eq!((seen, frames.have, frames.payload), (expected, 0, 0), "in pieces of {size}");
            }
        }
    }
}

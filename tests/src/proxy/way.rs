//! The two ways of one connection through the proxy: read here, held for as long as the mode says, written there.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Counts, Mode};

/// As much as is read at once, and as many pieces as are held: beyond that the sender is held up, as by a full TCP window.
const PIECE: usize = 64 << 10;
const PIECES: usize = 64;

/// Leads bytes both ways until both have ended, or one has failed.
pub(super) async fn join(client: TcpStream, server: TcpStream, mode: &watch::Receiver<Mode>, counts: &Counts) {
    for stream in [&client, &server] {
        // Small messages must not wait for one another: that would be a delay that nobody has asked for.
        drop(stream.set_nodelay(true));
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = lead(from_client, to_server, mode.clone(), &counts.up);
    let down = lead(from_server, to_client, mode.clone(), &counts.down);
    // An end of one way is passed on, and the other goes on; a failure ends both.
    drop(tokio::try_join!(up, down));
}

/// One way.
async fn lead(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    passed: &AtomicU64,
) -> std::io::Result<()> {
    let (pieces, held) = mpsc::channel(PIECES);
    let read = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            let count = from.read_buf(&mut piece).await?;
            if count == 0 || pieces.send((Instant::now(), piece)).await.is_err() {
                // Its sender goes, and the writer ends when it has written all.
                return Ok(());
            }
        }
    };
    tokio::try_join!(read, write(held, to, mode, passed)).map(|_| ())
}

async fn write(
    mut held: mpsc::Receiver<(Instant, BytesMut)>,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    passed: &AtomicU64,
) -> std::io::Result<()> {
    while let Some((came, piece)) = held.recv().await {
        until_due(&mut mode, came).await;
        to.write_all(&piece).await?;
        passed.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    until_due(&mut mode, Instant::now()).await;
    to.shutdown().await
}

/// Waits until what came then may pass; the mode may change meanwhile.
async fn until_due(mode: &mut watch::Receiver<Mode>, came: Instant) {
    loop {
        let now = *mode.borrow_and_update();
        let changed = mode.changed();
        match now {
            Mode::Open(delay) if came.elapsed() >= delay => return,
            Mode::Open(delay) => drop(tokio::time::timeout_at(came + delay, changed).await),
            // The connection ends with its proxy; until then there is nothing to do but wait.
            Mode::BlackHole | Mode::Cut => {
                if changed.await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

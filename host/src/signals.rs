//! SIGTERM and SIGINT: the first asks for a stop, the second ends it at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The signals of this process.
pub struct Signals {
    stop: CancellationToken,
    // One entry: what is sent after the second signal changes nothing.
    second: mpsc::Receiver<()>,
    _listener: AbortOnDropHandle<()>,
}

impl Signals {
    /// Takes both signals over from the system's default.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = CancellationToken::new();
        let (again, second) = mpsc::channel(1);
        let first = stop.clone();
        let listener = tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if first.is_cancelled() {
                    tracing::warn!(signal = name, "a second signal: leaving at once");
                    // Full where it was said before.
                    let _ = again.try_send(());
                } else {
                    tracing::info!(signal = name, "asked to stop; a second signal ends at once");
                    first.cancel();
                }
            }
        });
        Ok(Self { stop, second, _listener: AbortOnDropHandle::new(listener) })
    }

    /// Cancelled by the first signal.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns at the second signal.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn second(&mut self) {
        if self.second.recv().await.is_none() {
            // The listener lives as long as `self`.
            std::future::pending::<()>().await;
        }
    }
}

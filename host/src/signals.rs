//! SIGTERM and SIGINT: the first asks for a stop, the second ends it at once.
//!
//! They are listened to on a thread of their own: code of a plugin that blocks every worker of the host, or the main thread
//! on the way back, must not make the process deaf. That thread also ends the process where nobody else can any more.

use std::time::Duration;
use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cli::FAILED;

/// How long the process has to leave by itself when its time is over. Leaving takes milliseconds where no thread is blocked.
const LEAVING: Duration = Duration::from_secs(1);

/// The signals of this process. Dropped, they are not listened to any more.
pub struct Signals {
    stop: CancellationToken,
    // One entry: what is sent after the second signal changes nothing.
    second: mpsc::Receiver<()>,
    _listener: DropGuard,
}

/// What the thread has.
struct Listener {
    terminate: Signal,
    interrupt: Signal,
    stop: CancellationToken,
    second: mpsc::Sender<()>,
    limit: Duration,
}

impl Signals {
    /// Takes both signals over from the system's default. `limit` is how long the stop may take: what is left of the process
    /// a moment later is ended.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen(limit: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(entered);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (again, second) = mpsc::channel(1);
        let listener = Listener { terminate, interrupt, stop: stop.clone(), second: again, limit };
        let end = ended.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = listener.run() => {}
                }
            });
        })?;
        Ok(Self { stop, second, _listener: ended.drop_guard() })
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

impl Listener {
    /// Until the process has ended.
    async fn run(mut self) {
        let name = self.next().await;
        tracing::info!(signal = name, "asked to stop; a second signal ends at once");
        self.stop.cancel();
        let at_the_latest = self.limit.saturating_add(LEAVING);
        if let Ok(name) = tokio::time::timeout(at_the_latest, self.next()).await {
            tracing::warn!(signal = name, "a second signal: leaving at once");
            // Empty until now: this is the only one.
            let _ = self.second.try_send(());
            tokio::time::sleep(LEAVING).await;
        }
        // Nobody listens to a signal any more, and what blocks may do so for ever.
        tracing::error!("code of a component blocks the threads of the host: it is ended all the same");
        std::process::exit(FAILED.into());
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

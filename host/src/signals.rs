//! SIGTERM and SIGINT: the first asks for a stop, the second ends it at once; so does the stop's limit. SIGHUP is counted,
//! for whoever looks at files that may have changed.
//!
//! On a thread and a runtime of their own: a component that keeps every worker, or the very thread that stops the host,
//! must keep neither a signal nor the end of the limit from being noticed.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So much later than the limit the process is ended from here: a stop that has not ended by itself leaves at the limit, in
/// good order, and needs a moment for that.
const MARGIN: Duration = Duration::from_millis(250);

/// The exit code of a stop that did not end by itself.
const FAILED: i32 = 1;

/// How long the last line of the log may take: a full pipe that nobody reads must not keep the process.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The signals of this process.
pub struct Signals {
    stop: CancellationToken,
    hangups: watch::Receiver<u64>,
}

impl Signals {
    /// Takes the signals over from the system's default, for the life of the process. From the first one that asks
    /// for a stop, or from the moment that [`Signals::stop`] is cancelled, the process has this limit, whatever the rest of it does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen(limit: Duration) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, listening) = mpsc::channel();
        let asked = stop.clone();
        let (hung_up, hangups) = watch::channel(0);
        // It ends with the process: there is nothing to wait for.
        thread::Builder::new().name("signals".to_owned()).spawn(move || listen(&asked, &hung_up, limit, &ready))?;
        listening.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the signals has ended")))?;
        Ok(Self { stop, hangups })
    }

    /// How often there was a SIGHUP. None is lost on who asks now; those that come at a time are one change.
    pub fn hangups(&self) -> watch::Receiver<u64> {
        self.hangups.clone()
    }

    /// Cancelled by the first signal that asks for a stop. Whoever cancels it begins the stop's limit as a signal does.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }
}

fn listen(
    stop: &CancellationToken,
    hung_up: &watch::Sender<u64>,
    limit: Duration,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    let tell = |result| {
        // Whoever asked waits for it.
        let _ = ready.send(result);
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(Err(error)),
    };
    runtime.block_on(async {
        match signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP]) {
            Ok(taken) => {
                tell(Ok(()));
                follow(taken, stop, hung_up, limit).await;
            }
            Err(error) => tell(Err(error)),
        }
    });
}

/// Until the process is ended.
async fn follow(
    mut taken: signal_hook_tokio::Signals,
    stop: &CancellationToken,
    hung_up: &watch::Sender<u64>,
    limit: Duration,
) {
    let mut deadline = None;
    loop {
        let name = tokio::select! {
            signal = taken.next() => match signal {
                Some(SIGTERM) => "SIGTERM",
                Some(SIGHUP) => {
                    hung_up.send_modify(|count| *count += 1);
                    continue;
                }
                // They never end: nobody closes them.
                _ => "SIGINT",
            },
            () = stop.cancelled(), if deadline.is_none() => {
                deadline = Instant::now().checked_add(limit + MARGIN);
                continue;
            }
            () = until(deadline) => {
                leave(move || {
                    let limit = humantime::format_duration(limit);
                    tracing::error!(%limit, "a component keeps the stop from its end (shutdown.limit): leaving");
                });
            }
        };
        if stop.is_cancelled() {
            leave(move || tracing::warn!(signal = name, "a second signal: leaving at once"));
        }
        stop.cancel();
        // Elsewhere: writing the log may block.
        drop(say(move || tracing::info!(signal = name, "asked to stop; a second signal ends at once")));
    }
}

/// Returns at the first SIGINT, which does not end the process by itself any more.
///
/// # Errors
///
/// The system's.
///
/// # Cancel safety
///
/// A SIGINT that comes afterwards has no effect.
pub async fn interrupted() -> io::Result<()> {
    signal_hook_tokio::Signals::new([SIGINT])?.next().await;
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends the process. Sessions run out by themselves.
fn leave(last_words: impl FnOnce() + Send + 'static) -> ! {
    // It fails where they were not said in time, or could not be.
    let _ = say(last_words).recv_timeout(LAST_WORDS);
    std::process::exit(FAILED)
}

/// Writes to the log on a thread of its own; what is returned tells when that is done.
fn say(words: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (done, said) = mpsc::channel();
    let speak = move || {
        words();
        // Nobody waits for it any more.
        let _ = done.send(());
    };
    // Without a thread for it the words go unsaid.
    let _ = thread::Builder::new().name("last-words".to_owned()).spawn(speak);
    said
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_hangup_is_counted_and_asks_for_no_stop() {
        let signals = Signals::listen(Duration::from_secs(60)).expect("they can be taken over");
        let mut hangups = signals.hangups();
        for _ in 0..2 {
            kill_process(getpid(), Signal::HUP).expect("a process may signal itself");
            let counted = tokio::time::timeout(Duration::from_secs(10), hangups.changed()).await;
            counted.expect("in time").expect("its thread lives");
        }
        assert_eq!(*hangups.borrow(), 2);
        assert!(!signals.stop().is_cancelled());
    }
}

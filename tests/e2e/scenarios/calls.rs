//! Calls one after the other through a probe, for as long as a scenario lasts, and how they ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use probe_plugin::v1::{CallRequest, CallResponse};
use tests::client::Probe;
use tests::clock::monotonic;
use tests::{LIMIT, eventually, holds, within};
use tokio::task::JoinHandle;

/// Between two calls: the machine has other work too.
pub const PAUSE: Duration = Duration::from_millis(12);

/// Calls that go on until they are ended.
pub struct Calls {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    task: JoinHandle<Tally>,
}

/// How they ended.
#[derive(Debug, Default)]
pub struct Tally {
    /// Those that failed.
    pub failed: Vec<Failure>,
    /// How long each took, in the caller's process.
    took: Vec<Duration>,
}

/// A call that failed.
#[derive(Debug)]
#[expect(dead_code, reason = "shown where a scenario fails")]
pub struct Failure {
    pub at: Duration,
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub took: Duration,
}

impl Calls {
    /// Makes this call again and again.
    pub fn begin(probe: &Probe, request: CallRequest) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(run(probe.clone(), request, Arc::clone(&stop), Arc::clone(&made)));
        Self { stop, made, task }
    }

    /// Waits until so many have ended.
    pub async fn made(&self, count: usize) {
        eventually(LIMIT, async || {
            let made = self.made.load(Ordering::Relaxed);
            holds(made >= count, made)
        })
        .await;
    }

    /// Ends with the call that runs.
    pub async fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        within(LIMIT, self.task).await.expect("no panic")
    }
}

async fn run(mut probe: Probe, request: CallRequest, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let seen = within(LIMIT, probe.call(request.clone())).await.expect("the caller's probe answers").into_inner();
        tally.note(seen);
        made.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

impl Tally {
    /// One more, as a probe tells of it.
    pub fn note(&mut self, seen: CallResponse) {
        let CallResponse { code, reason, message, elapsed_us, .. } = seen;
        let took = Duration::from_micros(elapsed_us);
        self.took.push(took);
        if code != 0 {
            self.failed.push(Failure { at: monotonic(), code, reason, message, took });
        }
    }

    /// How many were made.
    pub fn made(&self) -> usize {
        self.took.len()
    }

    /// The slowest one; zero where there was none.
    pub fn slowest(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }

    /// The time within which 99 % ended.
    pub fn p99(&self) -> Duration {
        p99(self.took.clone())
    }

    /// None has failed.
    pub fn assert_none_failed(&self) {
        let Self { failed, .. } = self;
        assert!(failed.is_empty() && self.made() > 0, "{} of {} failed: {failed:#?}", failed.len(), self.made());
    }

    /// Each ended within its deadline, which a machine that does much else may notice late.
    pub fn assert_ended_within(&self, deadline: Duration) {
        let limit = deadline + super::row::CUT_WITHIN;
        assert!(self.made() > 0 && self.slowest() <= limit, "{:?} with a deadline of {deadline:?}", self.slowest());
    }
}

/// The time within which 99 % ended.
pub fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() * 99 / 100).or(took.last()).copied().expect("calls were made")
}

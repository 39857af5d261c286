//! Calls that go on while something is done to the hosts, each answer looked at, and what became of them.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::sync::watch;

use crate::host::LIMIT;

/// Between two calls of a client: the machine has other work too.
const PAUSE: Duration = Duration::from_millis(10);

/// So many failures are shown.
const SHOWN: usize = 5;

/// Clients that call one after the other until all of them are to end.
pub struct Load<'a> {
    begun: Instant,
    ends: watch::Sender<bool>,
    clients: Vec<LocalBoxFuture<'a, Calls>>,
}

/// What became of all calls.
#[derive(Debug)]
pub struct Tally(Vec<Calls>);

/// What became of one client's calls.
#[derive(Debug)]
struct Calls {
    name: String,
    made: usize,
    failed: Vec<Failed>,
    slowest: Duration,
}

/// A call that failed, or whose answer was wrong.
#[derive(Debug)]
struct Failed {
    /// When it began, since the load began.
    #[expect(dead_code, reason = "shown where a test fails")]
    at: Duration,
    #[expect(dead_code, reason = "shown where a test fails")]
    took: Duration,
    #[expect(dead_code, reason = "shown where a test fails")]
    why: String,
}

impl Default for Load<'_> {
    fn default() -> Self {
        Self { begun: Instant::now(), ends: watch::Sender::new(false), clients: Vec::new() }
    }
}

impl<'a> Load<'a> {
    /// The same with a client more: each call says what was wrong with it.
    #[must_use]
    pub fn with(mut self, name: &str, call: impl AsyncFnMut() -> Result<(), String> + 'a) -> Self {
        let calls = Calls { name: name.to_owned(), made: 0, failed: Vec::new(), slowest: Duration::ZERO };
        self.clients.push(calls.go_on(self.begun, self.ends.subscribe(), call).boxed_local());
        self
    }

    /// The clients call while `during` does; calls that run at its end are waited for.
    pub async fn during<T>(self, during: impl Future<Output = T>) -> (Tally, T) {
        let Self { ends, clients, .. } = self;
        let during = async {
            let done = during.await;
            ends.send_replace(true);
            done
        };
        let (calls, done) = tokio::join!(join_all(clients), during);
        (Tally(calls), done)
    }
}

impl Calls {
    async fn go_on(
        mut self,
        begun: Instant,
        ends: watch::Receiver<bool>,
        mut call: impl AsyncFnMut() -> Result<(), String>,
    ) -> Self {
        while !*ends.borrow() {
            let began = Instant::now();
            let answer = tokio::time::timeout(LIMIT, call()).await;
            let took = began.elapsed();
            self.made += 1;
            self.slowest = self.slowest.max(took);
            if let Err(why) = answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))) {
                self.failed.push(Failed { at: began - begun, took, why });
            }
            tokio::time::sleep(PAUSE).await;
        }
        self
    }
}

impl Tally {
    /// Each client has called, and no call of any has failed.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        for calls in &self.0 {
            assert!(calls.made > 0, "{} has made no call", calls.name);
            let shown = &calls.failed[..calls.failed.len().min(SHOWN)];
            assert!(shown.is_empty(), "{} of {} failed: {shown:#?}", calls.failed.len(), calls);
        }
    }

    /// How long the slowest call took.
    pub fn slowest(&self) -> Duration {
        self.0.iter().map(|calls| calls.slowest).max().unwrap_or_default()
    }

    /// What happened, a line for each client.
    #[expect(clippy::print_stdout, reason = "what was measured is shown")]
    pub fn print(&self, what: &str) {
        for calls in &self.0 {
            println!("{what}: {calls}");
        }
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, made, failed, slowest } = self;
        write!(formatter, "{name}: {made} calls, {} failed, the slowest took {slowest:?}", failed.len())
    }
}

//! What becomes of the calls of one plain client in the course of a round.

use std::time::Duration;

use tests::clock::monotonic;
use tokio::task::JoinHandle;

use super::plain::{Ended, Plain};
use super::round::{CALLS, seconds};

/// A plain client and its calls.
pub struct Beside {
    client: Plain,
    running: JoinHandle<Ended>,
    calls: Vec<JoinHandle<Ended>>,
    begun: Duration,
    tries: Option<JoinHandle<Ended>>,
    seen: Plainly,
}

/// What was seen of them, in seconds. `None` had not come when patience ended.
#[derive(Clone, Debug, Default)]
pub struct Plainly {
    /// Whose.
    pub name: &'static str,
    /// From the loss to the end of the running call.
    pub running: Option<f64>,
    /// A call after the DELETE, until its end.
    pub new_call: Option<f64>,
    /// From the put to the first answer to who tries again and again.
    pub back: Option<f64>,
    /// Of the calls that were begun while the peer was away: those that failed.
    pub failed: usize,
    /// And those that were answered.
    pub answered: usize,
}

impl Beside {
    /// Its first call runs.
    pub fn begin(client: Plain) -> Self {
        let (running, seen) = (client.running(), Plainly { name: client.name, ..Plainly::default() });
        Self { client, running, calls: Vec::new(), begun: Duration::ZERO, tries: None, seen }
    }

    /// It calls while the peer is away.
    pub fn call(&mut self) {
        self.begun = monotonic();
        self.calls = (0..CALLS).map(|_| self.client.call()).collect();
    }

    /// Patience with the peer that is away has ended.
    pub async fn look(&mut self, lost: Duration) {
        self.seen.running = seconds_to_end(&mut self.running, lost).await;
        self.running.abort();
        if self.calls.first().is_some_and(JoinHandle::is_finished) {
            let ended = self.calls.remove(0).await.expect("no panic");
            self.seen.new_call = Some(seconds(self.begun, ended.at));
            self.seen.count(ended);
        }
    }

    /// It tries until a call is answered.
    pub fn try_again(&mut self) {
        self.tries = Some(self.client.until_answered());
    }

    /// Patience with the peer that came back has ended.
    pub async fn end(mut self, put: Duration) -> Plainly {
        if let Some(tries) = &mut self.tries {
            self.seen.back = seconds_to_end(tries, put).await;
            tries.abort();
        }
        for call in self.calls {
            if call.is_finished() {
                self.seen.count(call.await.expect("no panic"));
            } else {
                call.abort();
            }
        }
        self.seen
    }
}

impl Plainly {
    /// Of the calls that were begun while the peer was away: those that had not ended when patience did.
    pub fn hang(&self) -> usize {
        CALLS - self.failed - self.answered
    }

    fn count(&mut self, ended: Ended) {
        self.answered += usize::from(ended.well);
        self.failed += usize::from(!ended.well);
    }
}

async fn seconds_to_end(call: &mut JoinHandle<Ended>, since: Duration) -> Option<f64> {
    if !call.is_finished() {
        return None;
    }
    Some(seconds(since, call.await.expect("no panic").at))
}

//! One loss and one return: in order what is done, and what is seen of it.

use std::time::Duration;

use tests::clock::monotonic;
use tests::probe::held;
use tests::{LIMIT, within};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::beside::{Beside, Plainly};
use super::caller::{Caller, Made};
use super::plain::{Ended, Plain};
use super::stage::{Loss, Return, Stage};

/// So many new calls are refused, and then so many wait for the return.
pub const CALLS: usize = 20;

/// So long calls go on after the return.
const FLOW: Duration = Duration::from_millis(500);

/// The peer is Healthy, all have called it, and a call of each runs.
pub struct Round {
    stage: Stage,
    caller: Caller,
    running: JoinHandle<Ended>,
    beside: Vec<Beside>,
}

/// What was seen. Seconds.
#[derive(Debug)]
pub struct Lost {
    /// From the loss to the DELETE.
    pub deleted: f64,
    /// From the loss to the end of the running call.
    pub running: f64,
    /// The slowest of the new calls.
    pub slowest_refusal: f64,
    /// From the put to the first answer to a call that waited.
    pub ready: f64,
    /// The calls that waited, and those after.
    pub after: Made,
    /// The others.
    pub beside: Vec<Plainly>,
}

impl Round {
    /// Prepares it.
    pub async fn begin(loss: Loss) -> Self {
        let stage = Stage::set(loss).await;
        let caller = Caller::start(&stage).await;
        let beside: Vec<_> = Plain::all(&stage).await.into_iter().map(Beside::begin).collect();
        let running = caller.running();
        held(&stage.peer().await, 1 + beside.len() as u64).await;
        Self { stage, caller, running, beside }
    }

    /// The peer goes, and comes back. Those of several rounds come back in turn.
    pub async fn run(mut self, place: Return, patience: Duration, turns: &Mutex<()>) -> Lost {
        let lost = self.stage.lose().await;
        let deleted = self.stage.deleted(lost).await.at;
        let running = within(LIMIT, self.running).await.expect("no panic").at;
        let slowest_refusal = slowest_refusal(&self.caller).await;
        self.beside.iter_mut().for_each(Beside::call);
        until(deleted + patience).await;
        for beside in &mut self.beside {
            beside.look(lost).await;
        }
        let turn = turns.lock().await;
        let waiting: Vec<_> = (0..CALLS).map(|_| self.caller.waiting()).collect();
        self.beside.iter_mut().for_each(Beside::try_again);
        let put = self.stage.comes_back(place).await.at;
        let (ready, waited) = first_answer(waiting).await;
        let after = waited.and(self.caller.calls_for(FLOW).await);
        drop(turn);
        until(put + patience).await;
        let mut beside = Vec::new();
        for one in self.beside {
            beside.push(one.end(put).await);
        }
        let (deleted, running, ready) = (seconds(lost, deleted), seconds(lost, running), seconds(put, ready));
        Lost { deleted, running, slowest_refusal, ready, after, beside }
    }
}

async fn slowest_refusal(caller: &Caller) -> f64 {
    let mut slowest: f64 = 0.0;
    for _ in 0..CALLS {
        slowest = slowest.max(caller.refused().await);
    }
    slowest
}

/// When the first of them was answered, and how all ended.
async fn first_answer(calls: Vec<JoinHandle<Ended>>) -> (Duration, Made) {
    let mut made = Made::default();
    let mut first = Duration::MAX;
    for call in calls {
        let ended = within(LIMIT, call).await.expect("no panic");
        made = made.and(Made { calls: 1, failed: usize::from(!ended.well) });
        if ended.well {
            first = first.min(ended.at);
        }
    }
    (first, made)
}

/// Less than zero where the second came first.
pub fn seconds(first: Duration, second: Duration) -> f64 {
    second.as_secs_f64() - first.as_secs_f64()
}

async fn until(at: Duration) {
    tokio::time::sleep(at.saturating_sub(monotonic())).await;
}

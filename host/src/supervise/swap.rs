//! Swaps of one component: another generation takes the place of the one that serves, under the same session, and nobody's
//! call fails for it.
//!
//! A swap is prepared beside the component, which notices nothing (`prepare`); then its owner exchanges the generations
//! (`exchange`, by `phases`), puts the new one on probation (`probation`), and lets the other one's calls end (`retire`). What
//! is undone where it goes no further is decided in `undo`. Swaps of one component take turns.

mod error;
mod exchange;
mod phases;
mod prepare;
pub(super) mod probation;
mod report;
mod retire;
mod told;
mod undo;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::task::AbortOnDropHandle;

pub use error::SwapError;
pub use probation::Probation;
pub use report::Reporter;
pub use retire::{Retire, Retiring};
pub use told::{SwapEvent, Told};

use super::{Life, Member};
use crate::plugin::Library;
use crate::startup::Parts;
use crate::swap::{Order, StateMode, SwapView};

/// So many swaps are remembered.
const HISTORY: usize = 32;

/// A generation that is to take another's place: made, and not started.
pub struct Candidate {
    life: Life,
    state: StateMode,
    probation: Duration,
    /// What is to be told at a commit.
    note: String,
    reporter: Reporter,
    turn: Turn,
}

impl Candidate {
    /// What it is made of: its code, what is alive of it, and the report and turn of its swap.
    pub(super) fn into_parts(self) -> (Option<Arc<Library>>, Life, Reporter, Turn) {
        (self.life.library.clone(), self.life, self.reporter, self.turn)
    }
}

/// The right to swap a component; the next one has it when this is dropped.
pub type Turn = OwnedMutexGuard<()>;

/// The swaps of one component.
#[derive(Default)]
pub struct Swaps {
    /// First come, first served.
    turn: Arc<tokio::sync::Mutex<()>>,
    asked: AtomicU64,
    /// The newest last.
    history: Mutex<VecDeque<Asked>>,
    /// What is told of all of them.
    pub told: Arc<Told>,
}

struct Asked {
    view: watch::Receiver<SwapView>,
    /// Prepares it. What is not with the owner yet ends with the host.
    _task: AbortOnDropHandle<()>,
}

impl Swaps {
    /// The last swaps, the newest last.
    pub fn history(&self) -> Vec<SwapView> {
        self.lock().iter().map(|asked| asked.view.borrow().clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Asked>> {
        // Nothing of others runs while it is locked.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a swap. What is returned follows it; it goes on though nobody does.
pub fn begin(member: &Arc<Member>, parts: &Arc<Parts>, order: Order) -> watch::Receiver<SwapView> {
    let swaps = &member.swaps;
    let number = swaps.asked.fetch_add(1, Ordering::Relaxed) + 1;
    let reporter =
        Reporter::new(member.role.clone(), swaps.told.clone(), number, order, member.lifecycle.status().generation);
    let view = reporter.watch();
    let turn = Arc::clone(&swaps.turn);
    let (of, parts_of) = (Arc::clone(member), Arc::clone(parts));
    // The candidate's code runs in it, which has no place on the thread of the sessions.
    let task = parts.workers.spawn(async move {
        let turn = turn.lock_owned().await;
        prepare::run(of, parts_of, reporter, turn).await;
    });
    let mut history = swaps.lock();
    history.push_back(Asked { view: view.clone(), _task: AbortOnDropHandle::new(task) });
    // One that is not over is in no hurry to be forgotten: its task would end with it.
    if history.len() > HISTORY
        && let Some(over) = history.iter().position(|asked| asked.view.borrow().outcome.is_some())
    {
        history.remove(over);
    }
    view
}

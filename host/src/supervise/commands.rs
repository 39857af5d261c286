//! What a component's owner is asked to do, and the way to it: one thing after another, between two changes of the session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::swap::Candidate;

/// One thing.
pub enum Command {
    /// Exchange the generation.
    Swap(Slot),
    /// End this life and begin another; answered when it has ended.
    Restart(oneshot::Sender<()>),
}

/// The way to the owner. Unbounded: a swap waits for the one before, and whoever asks for a restart waits for its end.
pub type Commands = mpsc::UnboundedReceiver<Command>;

/// A candidate that waits to be taken: by the owner, or back by whoever has waited too long.
#[derive(Clone)]
pub struct Slot(Arc<Waiting>);

struct Waiting {
    candidate: Mutex<Option<Box<Candidate>>>,
    // Tells whoever waits that the owner has it.
    taken: Notify,
}

impl Slot {
    /// With this candidate in it.
    pub fn new(candidate: Candidate) -> Self {
        Self(Arc::new(Waiting { candidate: Mutex::new(Some(Box::new(candidate))), taken: Notify::new() }))
    }

    /// The candidate, where nobody has taken it.
    pub fn take(&self) -> Option<Box<Candidate>> {
        let candidate = self.0.candidate.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.0.taken.notify_one();
        candidate
    }

    /// Returns when it was taken, or after so long.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn taken(&self, limit: Duration) {
        // It is looked at in either case.
        let _ = tokio::time::timeout(limit, self.0.taken.notified()).await;
    }
}

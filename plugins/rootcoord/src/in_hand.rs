//! What this process has reserved and not given out yet, of timestamps and of ids: what a swap hands over.
//!
//! It belongs to one generation at a time. From the moment that it is handed over, or that its component is deactivated,
//! nothing is given out of it, whoever still asks, until the next `activate`. That one says whether it is still true: after a
//! swap or a fence that nobody used it goes on where it was; else it is forgotten, and the next begins above what is saved.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::ids::Reserved;
use crate::timestamp::Clock;

/// What is in hand. Of two locks the clock's is taken first.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// Looked at under the lock of what is about to be given out: who hands over has both, so nothing comes after that.
    paused: AtomicBool,
    /// `None` until it has been read what is saved. Held over the write, so that of many calls one writes and the others
    /// wait for it.
    pub(crate) clock: Mutex<Option<Clock>>,
    /// As `clock`.
    pub(crate) ids: Mutex<Reserved>,
}

/// What is in hand at a moment: version 1 of RootCoord's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handed {
    clock: Option<Clock>,
    ids: Reserved,
}

/// What cannot be taken over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandedError {
    #[error("a clock was handed over that there cannot be: {0:?}")]
    Clock(Clock),
    #[error("ids were handed over that there cannot be: {0:?}")]
    Ids(Reserved),
}

impl InHand {
    /// Nothing is given out from here on.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Is nothing given out now?
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// What another generation goes on with; from here on nothing is given out.
    pub(crate) async fn hand_over(&self) -> Handed {
        self.pause();
        let clock = self.clock.lock().await;
        let ids = self.ids.lock().await;
        Handed { clock: clock.clone(), ids: ids.clone() }
    }

    /// Has this in hand in place of what it had. Nothing is given out before [`Self::go_on`].
    ///
    /// # Errors
    ///
    /// Where it cannot be what anybody had in hand: nothing has changed then.
    pub(crate) async fn take_over(&self, handed: Handed) -> Result<(), HandedError> {
        let Handed { clock, ids } = handed;
        if let Some(clock) = clock.clone().filter(|clock| !clock.is_possible()) {
            return Err(HandedError::Clock(clock));
        }
        if !ids.is_possible() {
            return Err(HandedError::Ids(ids));
        }
        self.pause();
        *self.clock.lock().await = clock;
        *self.ids.lock().await = ids;
        Ok(())
    }

    /// What is in hand is true: it is given out again.
    pub(crate) fn go_on(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Forgets what is in hand: another process or generation may have been active meanwhile. What is given out next is
    /// above what is saved.
    pub(crate) async fn reset(&self) {
        *self.clock.lock().await = None;
        *self.ids.lock().await = Reserved::default();
        self.go_on();
    }
}

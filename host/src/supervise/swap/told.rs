//! What is told of all swaps of a component: each phase that is over, to whoever listens, and how many ended how.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::swap::{Outcome, PhaseView};

/// So many events wait for a listener that is slow; a swap has at most ten.
const WAITING: usize = 64;

/// Something that has happened to a swap.
#[derive(Clone, Debug, Serialize)]
pub struct SwapEvent {
    /// Which one.
    pub number: u64,
    /// A phase is over.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseView>,
    /// It has ended so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The swaps of one component, as they are told.
pub struct Told {
    // Bounded: whoever is too slow misses some, and is told so.
    events: broadcast::Sender<SwapEvent>,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Default for Told {
    fn default() -> Self {
        Self { events: broadcast::Sender::new(WAITING), outcomes: Default::default() }
    }
}

impl Told {
    /// All that happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<SwapEvent> {
        self.events.subscribe()
    }

    /// How many swaps have ended so.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    pub(super) fn over(&self, number: u64, phase: PhaseView) {
        // It fails where nobody listens.
        let _ = self.events.send(SwapEvent { number, phase: Some(phase), outcome: None, reason: String::new() });
    }

    pub(super) fn end(&self, number: u64, outcome: Outcome, reason: String) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        // As above.
        let _ = self.events.send(SwapEvent { number, phase: None, outcome: Some(outcome), reason });
    }
}

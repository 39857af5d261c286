//! Counts of a session's renewals, for the admin answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Written by the keeper, read by whoever asks. The counts do not depend on one another.
#[derive(Debug, Default)]
pub(super) struct Tally {
    renewals: AtomicU64,
    hedged: AtomicU64,
    failed: AtomicU64,
    ttl_ms: AtomicU64,
}

impl Tally {
    /// etcd has answered a renewal; hedged where it had to be asked through another member as well.
    pub(super) fn renewed(&self, hedged: bool) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.hedged.fetch_add(u64::from(hedged), Ordering::Relaxed);
    }

    pub(super) fn renewal_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The lease's time to live, as etcd has it.
    pub(super) fn lives_for(&self, ttl: Duration) {
        self.ttl_ms.store(super::millis(ttl), Ordering::Relaxed);
    }

    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    pub(super) fn hedged(&self) -> u64 {
        self.hedged.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms.load(Ordering::Relaxed))
    }
}

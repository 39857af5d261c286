//! When etcd last proved that a table is fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Shared by all who hold the same table, so that its age is right for them without a new table; the next table has its own.
/// So nobody takes the freshness of a later table for that of the one in his hands.
#[derive(Clone, Debug, Default)]
pub struct Confirmed(Arc<Mutex<Option<Instant>>>);

impl Confirmed {
    /// A table's own, which was confirmed then.
    pub fn at(moment: Option<Instant>) -> Self {
        Self(Arc::new(Mutex::new(moment)))
    }

    /// The moment; none before the first list.
    pub fn moment(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same table is confirmed again.
    pub fn again(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

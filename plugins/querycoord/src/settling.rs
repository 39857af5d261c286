//! Nodes that have come, or do not hold what they should: waiting to be brought to what the plans want of them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The waiting nodes. One that is named often waits once.
#[derive(Default)]
pub(crate) struct Settling {
    waiting: Mutex<BTreeSet<i64>>,
    /// Wakes the one task that settles; a permit is kept while it is busy.
    woken: Notify,
}

impl Settling {
    /// These nodes are to be settled.
    pub(crate) fn ask(&self, nodes: impl IntoIterator<Item = i64>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes);
        self.woken.notify_one();
    }

    /// The next node that is to be settled, when there is one.
    pub(crate) async fn next(&self) -> i64 {
        loop {
            if let Some(node) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first() {
                return node;
            }
            self.woken.notified().await;
        }
    }
}

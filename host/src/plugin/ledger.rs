//! The ledger: what of a generation is alive, so that a swap or a stop can say what still holds it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// Counts of one generation. Shared by all that holds something of it.
pub struct Ledger {
    // A watch, so that a drain can wait for zero.
    calls: watch::Sender<usize>,
    tasks: Mutex<BTreeMap<String, usize>>,
    /// Calls since the beginning.
    served: AtomicUsize,
}

/// What is alive of a generation now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerView {
    /// Calls whose answer has not ended, streams among them.
    pub calls: usize,
    /// Calls since the beginning.
    pub served: usize,
    /// Background tasks by name.
    pub tasks: BTreeMap<String, usize>,
    /// Buffers of the plugin's that others still hold.
    pub buffers: usize,
}

impl Ledger {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { calls: watch::Sender::new(0), tasks: Mutex::new(BTreeMap::new()), served: AtomicUsize::new(0) })
    }

    /// Counts a call until the entry is dropped.
    pub fn call(self: &Arc<Self>) -> CallEntry {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.calls.send_modify(|calls| *calls += 1);
        CallEntry(self.clone())
    }

    /// Counts a task until the entry is dropped.
    pub fn task(self: &Arc<Self>, name: &str) -> TaskEntry {
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default() += 1;
        TaskEntry { ledger: self.clone(), name: name.to_owned() }
    }

    /// Waits until no call runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn no_calls(&self) {
        // It fails only where the sender is gone, which `self` holds.
        let _ = self.calls.subscribe().wait_for(|calls| *calls == 0).await;
    }

    /// What is alive; `buffers` is the plugin's own count.
    pub fn view(&self, buffers: usize) -> LedgerView {
        LedgerView {
            calls: *self.calls.borrow(),
            served: self.served.load(Ordering::Relaxed),
            tasks: self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            buffers,
        }
    }
}

/// A call that runs.
pub struct CallEntry(Arc<Ledger>);

impl Drop for CallEntry {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| *calls -= 1);
    }
}

/// A task that lives.
pub struct TaskEntry {
    ledger: Arc<Ledger>,
    name: String,
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        let mut tasks = self.ledger.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = tasks.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                tasks.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_lives_is_counted_until_it_ends() {
        let ledger = Ledger::new();
        let (first, second) = (ledger.call(), ledger.call());
        let task = ledger.task("sweep");
        assert_eq!(ledger.view(0).calls, 2);
        assert_eq!(ledger.view(0).tasks, BTreeMap::from([("sweep".to_owned(), 1)]));
        drop((first, task));
        let waiting = ledger.no_calls();
        tokio::pin!(waiting);
        assert!(futures_util::FutureExt::now_or_never(waiting.as_mut()).is_none());
        drop(second);
        waiting.await;
        let view = ledger.view(3);
        assert_eq!((view.calls, view.served, view.buffers, view.tasks.len()), (0, 2, 3, 0));
    }
}

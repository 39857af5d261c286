//! The ledger: what of a generation is alive, so that a swap or a stop can say what still holds it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// Counts of one generation. Shared by all that holds something of it.
#[derive(Default)]
pub struct Ledger {
    // A watch, so that a drain can wait for zero; nobody is told of other numbers, since telling costs each call some locks.
    calls: watch::Sender<Calls>,
    tasks: Mutex<BTreeMap<String, usize>>,
    channels: AtomicUsize,
    streams: AtomicUsize,
    /// Calls since the beginning.
    served: AtomicUsize,
}

/// What a generation is given by the host, and may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A channel to a peer.
    Channel,
    /// A stream of peers or of metadata.
    Stream,
}

/// Calls that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    all: usize,
    /// Those of gated methods.
    gated: usize,
}

/// What is alive of a generation now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerView {
    /// Calls whose answer has not ended, streams among them.
    pub calls: usize,
    /// Calls since the beginning.
    pub served: usize,
    /// Background tasks by name.
    pub tasks: BTreeMap<String, usize>,
    /// Channels to peers that it has.
    pub channels: usize,
    /// Streams of peers and metadata that it follows.
    pub streams: usize,
    /// Buffers of the plugin's that others still hold.
    pub buffers: usize,
    /// Threads of its own runtime.
    pub threads: usize,
}

impl LedgerView {
    /// What holds the generation, for people; `None` where nothing does.
    pub fn holders(&self) -> Option<String> {
        let tasks: Vec<String> = self.tasks.iter().map(|(name, count)| format!("{count} of task '{name}'")).collect();
        let counted = [
            (self.calls, "calls"),
            (self.channels, "channels"),
            (self.streams, "streams"),
            (self.buffers, "buffers"),
            (self.threads, "threads"),
        ];
        let counted =
            counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let all: Vec<String> = counted.chain(tasks).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl Ledger {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Counts a call until the entry is dropped.
    pub fn call(self: &Arc<Self>, is_gated: bool) -> CallEntry {
        let gated = usize::from(is_gated);
        self.calls.send_if_modified(|calls| {
            *calls = Calls { all: calls.all + 1, gated: calls.gated + gated };
            false
        });
        CallEntry { ledger: self.clone(), gated }
    }

    /// Counts something that the generation was given, until the entry is dropped.
    pub fn given(self: &Arc<Self>, what: Given) -> GivenEntry {
        self.count_of(what).fetch_add(1, Ordering::Relaxed);
        GivenEntry { ledger: self.clone(), what }
    }

    fn count_of(&self, what: Given) -> &AtomicUsize {
        match what {
            Given::Channel => &self.channels,
            Given::Stream => &self.streams,
        }
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
        let _ = self.calls.subscribe().wait_for(|calls| calls.all == 0).await;
    }

    /// Waits until no call of a gated method runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn no_gated_calls(&self) {
        // As above.
        let _ = self.calls.subscribe().wait_for(|calls| calls.gated == 0).await;
    }

    /// How many calls run.
    pub fn calls(&self) -> usize {
        self.calls.borrow().all
    }

    /// How many calls of gated methods run.
    pub fn gated_calls(&self) -> usize {
        self.calls.borrow().gated
    }

    /// The tasks by name.
    pub fn tasks(&self) -> BTreeMap<String, usize> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is alive; buffers are the plugin's own count, threads the system's.
    pub fn view(&self, buffers: usize, threads: usize) -> LedgerView {
        LedgerView {
            calls: self.calls.borrow().all,
            served: self.served.load(Ordering::Relaxed),
            tasks: self.tasks(),
            channels: self.channels.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            buffers,
            threads,
        }
    }
}

/// A call that runs.
pub struct CallEntry {
    ledger: Arc<Ledger>,
    gated: usize,
}

impl CallEntry {
    /// It goes to the component: from here on it counts as served.
    pub fn serve(&self) {
        self.ledger.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for CallEntry {
    fn drop(&mut self) {
        let gated = self.gated;
        self.ledger.calls.send_if_modified(|calls| {
            *calls = Calls { all: calls.all - 1, gated: calls.gated - gated };
            calls.all == 0 || (gated > 0 && calls.gated == 0)
        });
    }
}

/// Something that was given.
pub struct GivenEntry {
    ledger: Arc<Ledger>,
    what: Given,
}

impl Drop for GivenEntry {
    fn drop(&mut self) {
        self.ledger.count_of(self.what).fetch_sub(1, Ordering::Relaxed);
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
        let (first, gated) = (ledger.call(false), ledger.call(true));
        first.serve();
        let given = (ledger.task("sweep"), ledger.given(Given::Channel), ledger.given(Given::Stream));
        let view = ledger.view(0, 1);
        assert_eq!((view.calls, ledger.gated_calls()), (2, 1));
        let held_by = "2 calls, 1 channels, 1 streams, 1 threads, 1 of task 'sweep'";
        assert_eq!(view.holders().as_deref(), Some(held_by));
        let mut none_gated = Box::pin(ledger.no_gated_calls());
        let mut none = Box::pin(ledger.no_calls());
        assert!(futures_util::poll!(&mut none_gated).is_pending());
        drop(gated);
        none_gated.await;
        assert!(futures_util::poll!(&mut none).is_pending());
        drop((first, given));
        none.await;
        assert_eq!(ledger.view(0, 0), LedgerView { served: 1, ..LedgerView::default() });
        assert_eq!(ledger.view(0, 0).holders(), None);
    }
}

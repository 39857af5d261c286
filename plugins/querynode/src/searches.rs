//! Who searches when: a bounded number of threads, and a bounded queue before them.
//!
//! A search waits for its turn, first come, first served, and is then computed on blocking threads of the component's own
//! runtime, which end with it. While nobody waits it takes every thread that is free; when somebody does, all but one are
//! given back after the share that they are at. It ends when it is done, when its caller's deadline comes, or when its
//! caller goes away; either of the latter two within a strip of rows.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use proto::querynode::v1::SearchResult;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time;
use tonic::{Code, Status};

use crate::nearest::Nearest;
use crate::scan::{Scan, Worker};

/// The searches of a node.
pub(crate) struct Searches {
    turns: Arc<Turns>,
    waiting_limit: usize,
}

struct Turns {
    /// One permit for each thread. It is fair: who asks first is served first.
    threads: Arc<Semaphore>,
    running: AtomicUsize,
    waiting: AtomicUsize,
}

/// Why a search has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SearchError {
    /// Too many are there already.
    #[error(
        "{running} searches run on this node's threads and {waiting} wait, which is as many as may: search again later, or \
         fewer at a time (or raise waiting_searches)"
    )]
    Full { running: usize, waiting: usize },
    /// Its turn did not come in time.
    #[error("the deadline came while the search waited for its turn: {running} searches run and {waiting} wait")]
    Waited { running: usize, waiting: usize },
    /// It was not done in time.
    #[error("the deadline came when {searched} of {rows} rows had been searched")]
    Unfinished { searched: u64, rows: u64 },
    /// A fault of ours.
    #[error("the search has panicked: {0}")]
    Panicked(String),
    /// The component's runtime is going away.
    #[error("the node is stopping")]
    Stopping,
}

impl From<SearchError> for Status {
    fn from(error: SearchError) -> Self {
        let code = match error {
            SearchError::Full { .. } => Code::ResourceExhausted,
            SearchError::Waited { .. } | SearchError::Unfinished { .. } => Code::DeadlineExceeded,
            SearchError::Panicked(_) => Code::Internal,
            SearchError::Stopping => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

type Answer = Result<Vec<SearchResult>, SearchError>;

impl Searches {
    /// On so many threads, with so many that wait for one.
    pub(crate) fn new(threads: NonZeroUsize, waiting_limit: usize) -> Self {
        let threads = Arc::new(Semaphore::new(threads.get().min(Semaphore::MAX_PERMITS)));
        let turns = Turns { threads, running: AtomicUsize::new(0), waiting: AtomicUsize::new(0) };
        Self { turns: Arc::new(turns), waiting_limit }
    }

    /// Computes the search when its turn has come.
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, the search leaves the queue at once, or its threads end within a strip of rows.
    pub(crate) async fn search(&self, scan: Scan) -> Answer {
        let scan = Arc::new(scan);
        let deadline = scan.deadline();
        let thread = tokio::select! {
            biased;
            thread = self.turn() => thread?,
            () = until(deadline) => {
                let (running, waiting) = self.turns.counts();
                return Err(SearchError::Waited { running, waiting });
            }
        };
        let _stop = StopOnDrop(Arc::clone(&scan));
        let (answer, answered) = oneshot::channel();
        let crew = Crew {
            scan: Arc::clone(&scan),
            running: Counted::one_more(&self.turns, |turns| &turns.running),
            runtime: Handle::current(),
            found: Mutex::default(),
            panicked: Mutex::default(),
            answer,
        };
        let crew = Arc::new(crew);
        crew.runtime.clone().spawn_blocking(move || crew.lead(thread));
        tokio::select! {
            biased;
            // Not answered: the work was never begun, since its runtime ends.
            answer = answered => answer.unwrap_or(Err(SearchError::Stopping)),
            () = until(deadline) => Err(unfinished(&scan)),
        }
    }

    /// A thread, as soon as it is this search's turn.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, SearchError> {
        if let Ok(free) = Arc::clone(&self.turns.threads).try_acquire_owned() {
            return Ok(free);
        }
        let waiting = Counted::one_more(&self.turns, |turns| &turns.waiting);
        if waiting.with_this > self.waiting_limit {
            let (running, _) = self.turns.counts();
            return Err(SearchError::Full { running, waiting: waiting.with_this - 1 });
        }
        Arc::clone(&self.turns.threads).acquire_owned().await.map_err(|_| SearchError::Stopping)
    }
}

impl Turns {
    /// How many run, and how many wait.
    fn counts(&self) -> (usize, usize) {
        (self.running.load(Ordering::Acquire), self.waiting.load(Ordering::Acquire))
    }
}

/// Counts one search for as long as it lives.
struct Counted {
    turns: Arc<Turns>,
    of: fn(&Turns) -> &AtomicUsize,
    with_this: usize,
}

impl Counted {
    fn one_more(turns: &Arc<Turns>, of: fn(&Turns) -> &AtomicUsize) -> Self {
        let with_this = of(turns).fetch_add(1, Ordering::AcqRel) + 1;
        Self { turns: Arc::clone(turns), of, with_this }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.turns).fetch_sub(1, Ordering::AcqRel);
    }
}

/// Ends a search whose caller has gone, or whose deadline has come: its handler is dropped, and with it this.
struct StopOnDrop(Arc<Scan>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The threads that compute one search. The last that leaves answers.
struct Crew {
    scan: Arc<Scan>,
    running: Counted,
    runtime: Handle,
    /// By those that have left, merged.
    found: Mutex<Option<Vec<Nearest>>>,
    panicked: Mutex<Option<String>>,
    answer: oneshot::Sender<Answer>,
}

impl Crew {
    /// The first thread's part: it stays until no share is left, and lets others in while they are free.
    fn lead(self: Arc<Self>, thread: OwnedSemaphorePermit) {
        self.work(|crew| {
            crew.let_help_in();
            true
        });
        self.leave(thread);
    }

    /// Another thread's part: it leaves when somebody waits.
    fn help(crew: &Weak<Self>, thread: OwnedSemaphorePermit) {
        // None where the others were done before this one began.
        if let Some(crew) = crew.upgrade() {
            crew.work(|crew| crew.running.turns.waiting.load(Ordering::Acquire) == 0);
            crew.leave(thread);
        }
    }

    /// The threads that are free, while nobody waits, as far as there is something for them to do.
    fn let_help_in(self: &Arc<Self>) {
        let turns = &self.running.turns;
        let most = self.scan.shares_left().saturating_sub(1);
        for _ in 0..most {
            if turns.waiting.load(Ordering::Acquire) > 0 {
                return;
            }
            let Ok(thread) = Arc::clone(&turns.threads).try_acquire_owned() else {
                return;
            };
            let crew = Arc::downgrade(self);
            self.runtime.spawn_blocking(move || Self::help(&crew, thread));
        }
    }

    /// Searches share after share while `goes_on`, and adds what it found to what the others did.
    fn work(self: &Arc<Self>, goes_on: impl Fn(&Arc<Self>) -> bool) {
        let compute = || {
            let mut worker = self.scan.worker();
            while goes_on(self) && worker.search_share() {}
            self.add(worker);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(compute)) {
            self.scan.stop();
            *self.panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(text_of(panic.as_ref()));
        }
    }

    fn add(&self, worker: Worker<'_>) {
        let mut mine = worker.into_nearest();
        loop {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(others) = found.take() else {
                *found = Some(mine);
                return;
            };
            drop(found);
            mine = mine.into_iter().zip(others).map(|(mine, others)| mine.merge(others)).collect();
        }
    }

    fn leave(self: Arc<Self>, thread: OwnedSemaphorePermit) {
        let Some(last) = Arc::into_inner(self) else {
            return;
        };
        let Self { scan, running, found, panicked, answer, .. } = last;
        let panicked = panicked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = match (panicked, found) {
            (Some(text), _) => Err(SearchError::Panicked(text)),
            (None, Some(found)) if scan.is_complete() => Ok(scan.results(found)),
            (None, _) => Err(unfinished(&scan)),
        };
        // Before the answer: whoever searches again at once finds the thread free.
        drop((running, thread));
        // Nobody may be there to take it.
        drop(answer.send(result));
    }
}

fn unfinished(scan: &Scan) -> SearchError {
    let (searched, rows) = scan.progress();
    SearchError::Unfinished { searched, rows }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it said nothing".to_owned())
}

#[cfg(test)]
mod tests;

//! The thread that makes requests durable: all that came while it wrote go into its next write together.
//!
//! A thread of its own, because a disk blocks. After a write that failed nobody knows what is durable: then nothing is
//! decided or acknowledged any more, and reads go on at what was durable before.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Engine;
use crate::journal::{DataError, Journal, encode};
use crate::machine::Effect;
use crate::refusal::Refusal;

/// What was decided and is not durable.
#[derive(Default)]
pub(super) struct Pending {
    /// There is a data directory.
    keeps: bool,
    batch: Batch,
    /// A batch is being written.
    writing: bool,
    size: u64,
}

/// What becomes durable together.
#[derive(Default)]
struct Batch {
    records: Vec<u8>,
    revision: Option<i64>,
    compaction: Option<i64>,
    waiting: Vec<oneshot::Sender<Result<(), Refusal>>>,
}

impl Pending {
    /// Nothing is kept.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// A journal of this size is written on.
    pub(super) fn new(size: u64) -> Self {
        Self { keeps: true, size, ..Self::default() }
    }

    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// So many bytes wait to be written.
    pub(super) fn bytes(&self) -> usize {
        self.batch.records.len()
    }

    pub(super) fn add(&mut self, effect: &Effect) {
        encode(effect, &mut self.batch.records);
        self.batch.revision = effect.revision().or(self.batch.revision);
        self.batch.compaction = effect.compaction().or(self.batch.compaction);
    }

    /// Is told when all that was decided so far is durable; nothing where it is.
    pub(super) fn wait(&mut self) -> Option<oneshot::Receiver<Result<(), Refusal>>> {
        if self.batch.records.is_empty() && !self.writing {
            return None;
        }
        let (told, durable) = oneshot::channel();
        self.batch.waiting.push(told);
        Some(durable)
    }
}

/// The thread, as its owner has it.
pub(super) struct Keeper {
    thread: Thread,
    /// Ends with the thread.
    running: Receiver<Infallible>,
}

impl Keeper {
    pub(super) fn spawn(journal: Journal, engine: Arc<Engine>) -> Self {
        let (runs, running) = std::sync::mpsc::channel();
        let run = move || {
            let _runs: Sender<Infallible> = runs;
            let _answers = Answers(&engine);
            keep(journal, &engine);
        };
        let handle = std::thread::Builder::new().name("etcd-journal".to_owned()).spawn(run);
        let handle = handle.expect("the system has room for a thread");
        Self { thread: handle.thread().clone(), running }
    }

    pub(super) fn wake(&self) {
        self.thread.unpark();
    }

    /// Waits for its end, which comes when nothing is decided any more and all is durable.
    pub(super) fn end(self, limit: Duration) {
        self.wake();
        if self.running.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(?limit, "the disk of the embedded etcd's data directory does not answer: it is left");
        }
    }
}

/// However the thread ends, nobody waits for it.
pub(super) struct Answers<'a>(pub &'a Engine);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.ended.is_none() {
            tracing::error!("the thread that writes the embedded etcd's data has panicked: it takes no more writes");
            state.ended = Some(Refusal::Broken);
        }
        state.pending.writing = false;
        let batch = std::mem::take(&mut state.pending.batch);
        drop(state);
        answer(batch.waiting, Err(Refusal::Broken));
    }
}

/// Writes until nothing more can come.
fn keep(mut journal: Journal, engine: &Engine) {
    loop {
        let is_large = journal.is_large();
        let mut state = engine.lock();
        let batch = std::mem::take(&mut state.pending.batch);
        if batch.records.is_empty() && batch.waiting.is_empty() {
            let ended = state.ended.is_some();
            drop(state);
            if ended {
                return;
            }
            std::thread::park();
            continue;
        }
        state.pending.writing = true;
        // All that was decided is in this batch or before it.
        let image = (is_large && !batch.records.is_empty()).then(|| engine.image(&state));
        drop(state);
        let written = match batch.records.as_slice() {
            // Those who wait have seen what the batch before has made durable.
            [] => Ok(()),
            records => journal.append(records),
        };
        if !settle(engine, &journal, batch, written) {
            return;
        }
        if let Some(Err(error)) = image.map(|image| journal.rewrite(image)) {
            return broken(engine, &error);
        }
    }
}

/// Shows and answers what was written; says whether more may be.
fn settle(engine: &Engine, journal: &Journal, batch: Batch, written: Result<(), DataError>) -> bool {
    let mut state = engine.lock();
    state.pending.writing = false;
    if let Err(error) = written {
        drop(state);
        broken(engine, &error);
        answer(batch.waiting, Err(Refusal::Broken));
        return false;
    }
    engine.show(&mut state, batch.revision, batch.compaction);
    state.pending.size = journal.size();
    drop(state);
    answer(batch.waiting, Ok(()));
    true
}

/// Nothing is written any more.
fn broken(engine: &Engine, error: &DataError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "the embedded etcd takes no more writes; its reads of keys go on");
    let mut state = engine.lock();
    state.ended = Some(Refusal::Broken);
    let waiting = std::mem::take(&mut state.pending.batch.waiting);
    drop(state);
    answer(waiting, Err(Refusal::Broken));
}

fn answer(waiting: Vec<oneshot::Sender<Result<(), Refusal>>>, told: Result<(), Refusal>) {
    for waits in waiting {
        // Who does not wait any more has dropped the other end.
        let _ = waits.send(told);
    }
}

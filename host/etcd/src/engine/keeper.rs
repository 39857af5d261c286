//! The thread that makes requests durable: all that came while it wrote go into its next write together.
//!
//! A thread of its own, because a disk blocks. After a write that failed nobody knows what is durable: then nothing is
//! decided or acknowledged any more, and reads go on at what was durable before.

use std::sync::Arc;
use std::thread::{JoinHandle, Thread};

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
    handle: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn spawn(journal: Journal, engine: Arc<Engine>) -> Self {
        let run = move || keep(journal, &engine);
        let handle = std::thread::Builder::new().name("etcd-journal".to_owned()).spawn(run);
        let handle = handle.expect("the system has room for a thread");
        Self { thread: handle.thread().clone(), handle }
    }

    pub(super) fn wake(&self) {
        self.thread.unpark();
    }

    /// Waits for its end, which comes when nothing is decided any more and all is durable.
    pub(super) fn end(self) {
        self.wake();
        if self.handle.join().is_err() {
            tracing::error!("the thread that writes the embedded etcd's data has panicked");
        }
    }
}

/// Writes until nothing more can come.
fn keep(mut journal: Journal, engine: &Engine) {
    loop {
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
        drop(state);
        let written = match batch.records.as_slice() {
            // Those who wait have seen what the batch before has made durable.
            [] => Ok(()),
            records => journal.append(records),
        };
        if !settle(engine, &journal, batch, written) {
            return;
        }
        rewrite_if_large(engine, &mut journal);
    }
}

/// Shows and answers what was written; says whether more may be.
fn settle(engine: &Engine, journal: &Journal, batch: Batch, written: Result<(), DataError>) -> bool {
    let mut state = engine.lock();
    state.pending.writing = false;
    let mut waiting = batch.waiting;
    let answer = match &written {
        Ok(()) => {
            engine.show(&mut state, batch.revision, batch.compaction);
            state.pending.size = journal.size();
            Ok(())
        }
        Err(_) => {
            state.ended = Some(Refusal::Broken);
            waiting.append(&mut state.pending.batch.waiting);
            Err(Refusal::Broken)
        }
    };
    drop(state);
    for told in waiting {
        // Who does not wait any more has dropped the other end.
        let _ = told.send(answer);
    }
    if let Err(error) = &written {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, cause, "the embedded etcd takes no more writes; its reads go on");
    }
    written.is_ok()
}

/// Under the lock, so that nothing is decided that the rewritten journal would lack. It is seldom, and takes about as long as
/// the disk needs for what is left.
fn rewrite_if_large(engine: &Engine, journal: &mut Journal) {
    if !journal.is_large() {
        return;
    }
    let mut state = engine.lock();
    let batch = std::mem::take(&mut state.pending.batch);
    let written = journal.rewrite(engine.identity(), &state.machine);
    drop(state);
    settle(engine, journal, batch, written);
}

//! Loads: from what a call wants to segments that are held, all of them or none.
//!
//! A load first looks at the headers of all its files, then takes the memory for all of them, and only then reads. Loads read
//! in turns on blocking threads, one at a time: two that read from one disk are no faster, but a small one need not wait for
//! the end of a large one. Where the caller goes away, its deadline comes, a segment is released or the node stops, the
//! reading ends within a block, and nothing of the load is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plugin_api::Call;
use proto::files::DataDirs;
use proto::rootcoord::v1::{CollectionInfo, SegmentInfo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{self, JoinError};
use tonic::Status;

use crate::limit::{MemoryLimit, Share};
use crate::load::{Ending, Load};
use crate::reading::{self, Next, Reading, ReadingError};
use crate::segment::{self, Segment};
use crate::segments::Segments;
use crate::wanted::Wanted;

/// How long a load reads before the next one does. Long enough for a disk that seeks between them to lose little by it.
const TURN: Duration = Duration::from_millis(100);

/// How loads are done.
pub(crate) struct Loads {
    data_dirs: Arc<DataDirs>,
    segments: Arc<Segments>,
    memory: Arc<MemoryLimit>,
    /// One permit for each load that reads or waits.
    places: Semaphore,
    most: usize,
    /// Whoever has it reads. It is fair: who has waited longest is next.
    turn: Arc<Semaphore>,
    turn_time: Duration,
}

/// What is left to be read of a load, and what has been.
struct Work {
    collection: CollectionInfo,
    data_dirs: Arc<DataDirs>,
    left: VecDeque<(SegmentInfo, Share)>,
    reading: Option<Reading>,
    loaded: Vec<Segment>,
}

impl Loads {
    /// At most so many at once, `most`; more are refused.
    pub(crate) fn new(data_dirs: DataDirs, segments: Arc<Segments>, memory: Arc<MemoryLimit>, most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            data_dirs: Arc::new(data_dirs),
            segments,
            memory,
            places: Semaphore::new(most),
            most,
            turn: Arc::new(Semaphore::new(1)),
            turn_time: TURN,
        }
    }

    /// The limit of all of them.
    pub(crate) fn memory(&self) -> &MemoryLimit {
        &self.memory
    }

    /// Loads what is wanted and is not held; the answer is what had to be loaded.
    ///
    /// # Errors
    ///
    /// What [`Segments::begin`] and [`reading`] refuse, `RESOURCE_EXHAUSTED` where there is no memory or too many loads are
    /// under way, `DEADLINE_EXCEEDED`. Nothing of the load is kept then.
    ///
    /// # Cancel safety
    ///
    /// Nothing of the load is kept where it is dropped.
    pub(crate) async fn load(&self, wanted: Wanted) -> Result<Vec<SegmentInfo>, Status> {
        let Ok(_place) = self.places.try_acquire() else {
            let text = format!(
                "{} loads are under way on this node, which is as many as may: load again later, or raise waiting_loads",
                self.most
            );
            return Err(Status::resource_exhausted(text));
        };
        let (count, read) = (wanted.segments.len(), AtomicUsize::new(0));
        let loading = self.load_all(wanted, &read);
        let Some(deadline) = Call::current().and_then(|call| call.deadline) else { return loading.await };
        tokio::time::timeout_at(deadline.into(), loading).await.unwrap_or_else(|_| {
            let read = read.load(Ordering::Relaxed);
            let text = format!("the deadline came when {read} of {count} segments had been read; none of them is kept");
            Err(Status::deadline_exceeded(text))
        })
    }

    async fn load_all(&self, wanted: Wanted, read: &AtomicUsize) -> Result<Vec<SegmentInfo>, Status> {
        let Wanted { collection, segments } = wanted;
        let Some(load) = self.segments.begin(segments).await? else { return Ok(Vec::new()) };
        self.look(&load, &collection).await?;
        let left = load.infos.iter().map(|info| Ok((info.clone(), self.share(info, &collection)?)));
        let left = left.collect::<Result<_, Status>>()?;
        let data_dirs = Arc::clone(&self.data_dirs);
        let mut work = Work { collection, data_dirs, left, reading: None, loaded: Vec::new() };
        while !work.is_done() {
            let turn = tokio::select! {
                turn = Arc::clone(&self.turn).acquire_owned() => turn.map_err(|_| stopping())?,
                // A load that waits hears of its end at once, not only when its turn has come.
                reason = load.ended() => return Err(reason.into()),
            };
            let ending = load.ending.clone();
            let time = self.turn_time;
            let go_on = move || work.go_on(turn, time, &ending).map(|()| work);
            work = task::spawn_blocking(go_on).await.map_err(failed)??;
            load.ending.check()?;
            read.store(work.loaded.len(), Ordering::Relaxed);
        }
        let infos = load.infos.clone();
        load.finish(work.loaded)?;
        Ok(infos)
    }

    /// Looks at the headers of all files, so that a load that cannot succeed ends before anything is read.
    async fn look(&self, load: &Load, collection: &CollectionInfo) -> Result<(), Status> {
        let (dirs, collection) = (Arc::clone(&self.data_dirs), collection.clone());
        let (infos, ending) = (load.infos.clone(), load.ending.clone());
        let look = move || {
            infos
                .iter()
                .take_while(|_| !ending.is_set())
                .try_for_each(|info| reading::open(&dirs, &collection, info).map(drop))
        };
        task::spawn_blocking(look).await.map_err(failed)??;
        Ok(load.ending.check()?)
    }

    fn share(&self, info: &SegmentInfo, collection: &CollectionInfo) -> Result<Share, Status> {
        let needed = segment::memory_bytes(info.num_rows, collection.dimension);
        self.memory
            .take(needed)
            .map_err(|error| Status::resource_exhausted(format!("segment {}: {}: {error}", info.segment_id, info.path)))
    }
}

impl Work {
    fn is_done(&self) -> bool {
        self.left.is_empty() && self.reading.is_none()
    }

    /// Reads until the turn is over or nobody wants it any more; one block at least, so that each turn gets on.
    fn go_on(&mut self, turn: OwnedSemaphorePermit, time: Duration, ending: &Ending) -> Result<(), ReadingError> {
        let begun = Instant::now();
        while !ending.is_set() {
            let reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.left.pop_front() {
                    Some((info, share)) => Reading::begin(&self.data_dirs, &self.collection, info, share)?,
                    None => break,
                },
            };
            match reading.step()? {
                Next::More(reading) => self.reading = Some(reading),
                Next::Done(read) => {
                    // What comes now computes: the next one may read meanwhile.
                    drop(turn);
                    self.loaded.push(read.into_segment(&self.collection)?);
                    break;
                }
            }
            if begun.elapsed() >= time {
                break;
            }
        }
        Ok(())
    }
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}

/// A blocking thread panicked, or its runtime is going away.
fn failed(error: JoinError) -> Status {
    Status::internal(format!("the load has ended without a result: {error}"))
}

#[cfg(test)]
mod tests;

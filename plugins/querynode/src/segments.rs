//! The segments that this node holds, by id, and the loads that are under way: the only state of a QueryNode.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use proto::rootcoord::v1::SegmentInfo;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::handed::HandedError;
use crate::limit::MemoryLimit;
use crate::load::{Ending, Load};
use crate::segment::{self, Segment};
use crate::wanted::describe;

/// The segments, behind a lock that is never held over an `await` or a search: a search takes its own `Arc`s.
pub(crate) struct Segments {
    state: RwLock<State>,
    /// What waits depend on has changed: a load has ended, segments were released, the node stops or may.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<i64, Arc<Segment>>,
    /// By a number of their own.
    loads: BTreeMap<u64, UnderWay>,
    next_load: u64,
    phase: Phase,
    /// Another generation goes on from what is held: it does not change any more, unless that one hands it back.
    handed_over: bool,
}

/// A load that is under way.
struct UnderWay {
    segment_ids: BTreeSet<i64>,
    /// It reads, and others that want one of its segments wait for it; one that is not claimed waits itself.
    claimed: bool,
    ending: Ending,
}

/// How far the node is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Not at all.
    #[default]
    Serving,
    /// It waits until all segments have been moved elsewhere. It takes no more.
    Stopping,
    /// What is left cannot be moved.
    Dismissed,
}

/// Why segments cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentsError {
    /// One is not here.
    #[error("segment {segment_id} is not loaded on this node")]
    NotLoaded { segment_id: i64 },
    /// None of the collection is here.
    #[error("no segment of collection {collection_id} is loaded on this node")]
    NoneLoaded { collection_id: i64 },
    /// It is here, of another collection.
    #[error("segment {segment_id} is of collection {found}, not of {expected}")]
    OtherCollection { segment_id: i64, expected: i64, found: i64 },
    /// It is here under the same id, and is another one.
    #[error("segment {segment_id} is loaded already, and is {found}, not {expected}: release it first")]
    Differs { segment_id: i64, expected: String, found: String },
    /// Somebody did not want it any more.
    #[error("segment {segment_id} was released while it was being loaded; nothing of this call is kept")]
    Released { segment_id: i64 },
    /// The node takes no more.
    #[error("this node is stopping and takes no more segments: load them on another")]
    Stopping,
    /// Another generation holds them by now, or is about to.
    #[error("the segments of this node have been handed over, in a swap, and do not change here any more: ask again")]
    HandedOver,
    /// Nothing is to be done about a node that stays.
    #[error("this node is not stopping, so there is nothing that it waits for; nothing has changed")]
    NotStopping,
}

impl From<SegmentsError> for Status {
    fn from(error: SegmentsError) -> Self {
        let code = match error {
            SegmentsError::NotLoaded { .. } | SegmentsError::NoneLoaded { .. } => Code::NotFound,
            SegmentsError::OtherCollection { .. } => Code::InvalidArgument,
            SegmentsError::Differs { .. } | SegmentsError::NotStopping => Code::FailedPrecondition,
            SegmentsError::Released { .. } => Code::Aborted,
            SegmentsError::Stopping | SegmentsError::HandedOver => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self { state: RwLock::default(), changed: watch::Sender::new(()) }
    }
}

impl Segments {
    /// Begins a load of these segments, which keeps their ids to itself until it is dropped. Where others load one of them
    /// it waits for their end; `None` where all are held.
    ///
    /// # Errors
    ///
    /// [`SegmentsError`] where one is held and is another, one is released meanwhile, or the node is stopping.
    ///
    /// # Cancel safety
    ///
    /// Nothing has begun where it is dropped.
    pub(crate) async fn begin(self: &Arc<Self>, wanted: Vec<SegmentInfo>) -> Result<Option<Load>, SegmentsError> {
        let mut changed = self.changed.subscribe();
        let mut load = self.enqueue(wanted);
        loop {
            changed.borrow_and_update();
            match self.claim(&mut load)? {
                Claimed::All => return Ok(Some(load)),
                Claimed::NothingToDo => return Ok(None),
                Claimed::NotYet => {}
            }
            // The sender is this very struct's.
            let _ = changed.changed().await;
        }
    }

    fn enqueue(self: &Arc<Self>, wanted: Vec<SegmentInfo>) -> Load {
        let mut state = self.write();
        let number = state.next_load;
        state.next_load += 1;
        let segment_ids = wanted.iter().map(|info| info.segment_id).collect();
        let ending = Ending::default();
        state.loads.insert(number, UnderWay { segment_ids, claimed: false, ending: ending.clone() });
        Load::new(Arc::clone(self), number, wanted, ending)
    }

    /// Leaves to the load what is not held, if nobody else loads any of it.
    fn claim(&self, load: &mut Load) -> Result<Claimed, SegmentsError> {
        load.ending.check()?;
        let mut state = self.write();
        if state.handed_over {
            return Err(SegmentsError::HandedOver);
        }
        for info in &load.infos {
            if let Some(segment) = state.held.get(&info.segment_id)
                && segment.info != *info
            {
                let (expected, found) = (describe(info), describe(&segment.info));
                return Err(SegmentsError::Differs { segment_id: info.segment_id, expected, found });
            }
        }
        let missing: BTreeSet<i64> =
            load.infos.iter().map(|info| info.segment_id).filter(|id| !state.held.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(Claimed::NothingToDo);
        }
        if state.phase != Phase::Serving {
            return Err(SegmentsError::Stopping);
        }
        let busy = |other: &UnderWay| other.claimed && !other.segment_ids.is_disjoint(&missing);
        if state.loads.values().any(busy) {
            return Ok(Claimed::NotYet);
        }
        load.infos.retain(|info| missing.contains(&info.segment_id));
        if let Some(under_way) = state.loads.get_mut(&load.number) {
            under_way.claimed = true;
            under_way.segment_ids = missing;
        }
        Ok(Claimed::All)
    }

    /// Adds all of these at once, unless the load was ended meanwhile.
    pub(crate) fn insert(&self, ending: &Ending, loaded: Vec<Segment>) -> Result<(), SegmentsError> {
        let mut state = self.write();
        // Under the lock: whoever ends a load has it too, and so can say that nothing of it comes later.
        ending.check()?;
        state.held.extend(loaded.into_iter().map(|segment| (segment.info.segment_id, Arc::new(segment))));
        Ok(())
    }

    /// Returns the reason when a load has been ended.
    pub(crate) async fn ended(&self, ending: &Ending) -> SegmentsError {
        let mut changed = self.changed.subscribe();
        loop {
            if let Err(reason) = ending.check() {
                return reason;
            }
            let _ = changed.changed().await;
        }
    }

    /// The load is not under way any more.
    pub(crate) fn forget(&self, number: u64) {
        self.write().loads.remove(&number);
        self.changed.send_replace(());
    }

    /// Removes these; the answer is how many were there. A search that runs on one keeps it until it ends. A load of one
    /// that is under way ends, and nothing of it is kept.
    ///
    /// # Errors
    ///
    /// Where another generation holds them by now: nothing has changed.
    pub(crate) fn release(&self, segment_ids: &[i64]) -> Result<usize, SegmentsError> {
        let mut state = self.write();
        if state.handed_over {
            return Err(SegmentsError::HandedOver);
        }
        for load in state.loads.values() {
            if let Some(id) = segment_ids.iter().find(|id| load.segment_ids.contains(id)) {
                load.ending.set(SegmentsError::Released { segment_id: *id });
            }
        }
        let released: Vec<_> = segment_ids.iter().filter_map(|id| state.held.remove(id)).collect();
        drop(state);
        self.changed.send_replace(());
        // The memory goes here, without the lock.
        Ok(released.len())
    }

    /// All segments, for another generation. From here on they stay as they are, until [`Self::go_on`].
    ///
    /// # Errors
    ///
    /// A node that is stopping gives nothing away: what it holds is being moved elsewhere.
    pub(crate) fn hand_over(&self) -> Result<Vec<Arc<Segment>>, SegmentsError> {
        let mut state = self.write();
        if state.phase != Phase::Serving {
            return Err(SegmentsError::Stopping);
        }
        state.handed_over = true;
        // The host has seen to it that there are none.
        for load in state.loads.values() {
            load.ending.set(SegmentsError::HandedOver);
        }
        let held = state.held.values().cloned().collect();
        drop(state);
        self.changed.send_replace(());
        Ok(held)
    }

    /// Holds these, which another generation has handed over, in place of what was held. What is the same stays as it is.
    ///
    /// # Errors
    ///
    /// Where they are more than the limit allows: then only what stayed is held.
    pub(crate) fn take_over(&self, received: Vec<Segment>, memory: &Arc<MemoryLimit>) -> Result<(), HandedError> {
        let mut state = self.write();
        let mut before = std::mem::take(&mut state.held);
        let mut new = Vec::new();
        for segment in received {
            let id = segment.info.segment_id;
            match before.remove(&id).filter(|held| held.is_same(&segment)) {
                Some(same) => drop(state.held.insert(id, same)),
                None => new.push(segment),
            }
        }
        drop(state);
        // First, so that it does not count any more; and without the lock.
        drop(before);
        for segment in &mut new {
            let needed = segment::memory_bytes(segment.info.num_rows, segment.dimension as u32);
            let segment_id = segment.info.segment_id;
            let share = memory.take(needed).map_err(|source| HandedError::Memory { segment_id, source })?;
            segment.share = Some(share);
        }
        self.write().held.extend(new.into_iter().map(|segment| (segment.info.segment_id, Arc::new(segment))));
        self.changed.send_replace(());
        Ok(())
    }

    /// What is held is this generation's own, and may change.
    pub(crate) fn go_on(&self) {
        self.write().handed_over = false;
    }

    /// From here on no more segments are taken; loads that are under way end.
    pub(crate) fn stop(&self) {
        let mut state = self.write();
        if state.phase == Phase::Serving {
            state.phase = Phase::Stopping;
        }
        for load in state.loads.values() {
            load.ending.set(SegmentsError::Stopping);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Lets all segments go; their memory goes where the answer is dropped.
    pub(crate) fn clear(&self) -> impl Send + 'static {
        let held = std::mem::take(&mut self.write().held);
        self.changed.send_replace(());
        held
    }

    /// A node that is stopping need not wait any longer.
    ///
    /// # Errors
    ///
    /// Where it is not stopping: nothing has changed.
    pub(crate) fn dismiss(&self) -> Result<(), SegmentsError> {
        let mut state = self.write();
        if state.phase == Phase::Serving {
            return Err(SegmentsError::NotStopping);
        }
        state.phase = Phase::Dismissed;
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Returns when the node is stopping.
    pub(crate) async fn stopping(&self) {
        self.wait_until(|state| state.phase != Phase::Serving).await;
    }

    /// Returns when all segments have been moved elsewhere, or will not be.
    pub(crate) async fn moved_away(&self) {
        self.wait_until(|state| state.phase == Phase::Dismissed || state.held.is_empty()).await;
    }

    async fn wait_until(&self, holds: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.read()) {
            let _ = changed.changed().await;
        }
    }

    /// All segments, of one collection where one is named, in the order of their ids.
    pub(crate) fn list(&self, collection_id: Option<i64>) -> Vec<Arc<Segment>> {
        let of_collection = |segment: &&Arc<Segment>| collection_id.is_none_or(|id| segment.info.collection_id == id);
        self.read().held.values().filter(of_collection).cloned().collect()
    }

    /// These segments, each once and all there; for none all of the collection, at least one.
    pub(crate) fn choose(&self, collection_id: i64, segment_ids: &[i64]) -> Result<Vec<Arc<Segment>>, SegmentsError> {
        if segment_ids.is_empty() {
            let all = self.list(Some(collection_id));
            return if all.is_empty() { Err(SegmentsError::NoneLoaded { collection_id }) } else { Ok(all) };
        }
        let state = self.read();
        let mut chosen = BTreeMap::new();
        for segment_id in segment_ids.iter().copied() {
            let segment = state.held.get(&segment_id).ok_or(SegmentsError::NotLoaded { segment_id })?;
            let found = segment.info.collection_id;
            if found != collection_id {
                return Err(SegmentsError::OtherCollection { segment_id, expected: collection_id, found });
            }
            chosen.insert(segment_id, Arc::clone(segment));
        }
        Ok(chosen.into_values().collect())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a try to begin.
enum Claimed {
    /// What is missing is the load's own now.
    All,
    /// Nothing is missing.
    NothingToDo,
    /// Others are at it.
    NotYet,
}

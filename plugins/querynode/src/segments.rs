//! The segments that this node holds, by id: the only state of a QueryNode.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use proto::rootcoord::v1::SegmentInfo;
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::segment::Segment;

/// The segments, behind a lock that is never held over an `await` or a search: a search takes its own `Arc`s.
#[derive(Default)]
pub(crate) struct Segments {
    held: RwLock<BTreeMap<i64, Arc<Segment>>>,
    /// What the end of a node's wait depends on has changed; a permit is kept where nobody waits.
    changed: Notify,
    dismissed: AtomicBool,
}

/// Why segments cannot be had.
#[derive(Debug, PartialEq, thiserror::Error)]
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
    #[error("segment {segment_id} is loaded already, from {found} and not from {expected}: release it first")]
    Differs { segment_id: i64, expected: String, found: String },
}

impl From<SegmentsError> for Status {
    fn from(error: SegmentsError) -> Self {
        let code = match error {
            SegmentsError::NotLoaded { .. } | SegmentsError::NoneLoaded { .. } => Code::NotFound,
            SegmentsError::OtherCollection { .. } => Code::InvalidArgument,
            SegmentsError::Differs { .. } => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}

impl Segments {
    /// Those of these that are not loaded yet.
    pub(crate) fn missing(&self, wanted: Vec<SegmentInfo>) -> Result<Vec<SegmentInfo>, SegmentsError> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        for info in &wanted {
            if let Some(segment) = held.get(&info.segment_id)
                && segment.info != *info
            {
                let describe =
                    |info: &SegmentInfo| format!("{} ({} rows from {})", info.path, info.num_rows, info.first_id);
                let (expected, found) = (describe(info), describe(&segment.info));
                return Err(SegmentsError::Differs { segment_id: info.segment_id, expected, found });
            }
        }
        Ok(wanted.into_iter().filter(|info| !held.contains_key(&info.segment_id)).collect())
    }

    /// Adds all of these at once.
    pub(crate) fn insert(&self, loaded: Vec<Segment>) {
        let loaded = loaded.into_iter().map(|segment| (segment.info.segment_id, Arc::new(segment)));
        self.held.write().unwrap_or_else(PoisonError::into_inner).extend(loaded);
    }

    /// Removes these; the answer is how many were there. A search that runs on one keeps it until it ends.
    pub(crate) fn release(&self, segment_ids: &[i64]) -> usize {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let released = segment_ids.iter().filter(|id| held.remove(id).is_some()).count();
        drop(held);
        self.changed.notify_one();
        released
    }

    /// QueryCoord has moved away what can be moved.
    pub(crate) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Returns when all segments have been moved elsewhere, or will not be.
    pub(crate) async fn moved_away(&self) {
        while !self.list(None).is_empty() && !self.dismissed.load(Ordering::Acquire) {
            self.changed.notified().await;
        }
    }

    /// All segments, of one collection where one is named, in the order of their ids.
    pub(crate) fn list(&self, collection_id: Option<i64>) -> Vec<Arc<Segment>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let of_collection = |segment: &&Arc<Segment>| collection_id.is_none_or(|id| segment.info.collection_id == id);
        held.values().filter(of_collection).cloned().collect()
    }

    /// These segments, each once and all there; for none all of the collection, at least one.
    pub(crate) fn choose(&self, collection_id: i64, segment_ids: &[i64]) -> Result<Vec<Arc<Segment>>, SegmentsError> {
        if segment_ids.is_empty() {
            let all = self.list(Some(collection_id));
            return if all.is_empty() { Err(SegmentsError::NoneLoaded { collection_id }) } else { Ok(all) };
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut chosen = BTreeMap::new();
        for segment_id in segment_ids.iter().copied() {
            let segment = held.get(&segment_id).ok_or(SegmentsError::NotLoaded { segment_id })?;
            let found = segment.info.collection_id;
            if found != collection_id {
                return Err(SegmentsError::OtherCollection { segment_id, expected: collection_id, found });
            }
            chosen.insert(segment_id, Arc::clone(segment));
        }
        Ok(chosen.into_values().collect())
    }
}

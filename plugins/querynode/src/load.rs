//! One load that is under way: what it is to load, and whether it is still wanted.

use std::sync::{Arc, OnceLock};

use proto::rootcoord::v1::SegmentInfo;

use crate::segment::Segment;
use crate::segments::{Segments, SegmentsError};

/// Why a load is not wanted any more; empty while it is. Seen by the thread that reads between two blocks.
#[derive(Clone, Default)]
pub(crate) struct Ending(Arc<OnceLock<Option<SegmentsError>>>);

impl Ending {
    /// It is not wanted, for this reason; the first one counts.
    pub(crate) fn set(&self, reason: SegmentsError) {
        let _ = self.0.set(Some(reason));
    }

    /// Nobody is there any more to hear a reason.
    fn abandon(&self) {
        let _ = self.0.set(None);
    }

    /// Is it wanted no more?
    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// The reason as an error.
    pub(crate) fn check(&self) -> Result<(), SegmentsError> {
        match self.0.get() {
            Some(Some(reason)) => Err(reason.clone()),
            Some(None) | None => Ok(()),
        }
    }
}

/// A load that is under way, until it is dropped; one that is dropped before its [`finish`](Self::finish) loads nothing.
pub(crate) struct Load {
    segments: Arc<Segments>,
    pub(crate) number: u64,
    /// What it is to load.
    pub(crate) infos: Vec<SegmentInfo>,
    pub(crate) ending: Ending,
}

impl Load {
    pub(crate) fn new(segments: Arc<Segments>, number: u64, infos: Vec<SegmentInfo>, ending: Ending) -> Self {
        Self { segments, number, infos, ending }
    }

    /// Returns when it is not wanted any more.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn ended(&self) -> SegmentsError {
        self.segments.ended(&self.ending).await
    }

    /// All has been read: from here on the segments are held.
    ///
    /// # Errors
    ///
    /// Where it is not wanted any more: none of them is.
    pub(crate) fn finish(self, loaded: Vec<Segment>) -> Result<(), SegmentsError> {
        self.segments.insert(&self.ending, loaded)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ending.abandon();
        self.segments.forget(self.number);
    }
}

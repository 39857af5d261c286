//! What searches go by.

use proto::records::{CollectionRecord, SegmentRecord};

/// What searches of a collection go by: which nodes hold which segment, for all that is known.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) collection: CollectionRecord,
    /// In the order of their ids; only those of a completed load.
    pub(crate) segments: Vec<Served>,
}

/// A segment and the nodes that hold it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) segment: SegmentRecord,
    /// Callable ones first, then stopping ones, then unreachable; empty: none is left.
    pub(crate) nodes: Vec<i64>,
    /// How many of these, the first ones, can be called.
    pub(crate) callable: usize,
}

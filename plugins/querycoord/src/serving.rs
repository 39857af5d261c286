//! What searches go by, and what people are shown: values that the engine makes and nobody changes.

use std::time::Duration;

use proto::records::{CollectionRecord, SegmentRecord};
use serde::{Deserialize, Serialize};

/// What searches of a collection go by: which nodes hold which segment, for all that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) collection: CollectionRecord,
    /// On how many nodes each segment is to be.
    pub(crate) replica_number: u32,
    /// Those of a completed load, in the order of their ids.
    pub(crate) segments: Vec<Served>,
}

/// A segment and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) segment: SegmentRecord,
    /// Those that can be called first, then those that are stopping, then those whose link is broken. None where none is left.
    pub(crate) nodes: Vec<i64>,
    /// How many of these, the first ones, can be called: searches take turns among them.
    pub(crate) callable: usize,
}

/// How a node stands. Its names are part of the state that a swap hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It can be called.
    Callable,
    /// It has said that it will stop, and still serves.
    Stopping,
    /// Its session lives and its link is broken, or is being made; or nobody has told of it yet.
    Unreachable,
    /// Its session lives, and no link to it could be made for long.
    GivenUp,
}

/// All that `GetDistribution` and `ShowLoadedCollections` tell, without asking anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// In the order of their ids. A node that is gone is not among them.
    pub(crate) nodes: Vec<NodeOverview>,
    /// Those of a completed load, in the order of their ids.
    pub(crate) collections: Vec<CollectionOverview>,
    /// How many segments are being loaded on one node while another still holds them.
    pub(crate) moves: u32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeOverview {
    pub(crate) id: i64,
    /// Empty where it is not known.
    pub(crate) address: String,
    pub(crate) standing: Standing,
    /// Why it has not told what it holds since it came; empty where it has.
    pub(crate) error: String,
    /// How many of its loads have failed since one last succeeded, and why the last did.
    pub(crate) failed_loads: u32,
    pub(crate) last_load_error: String,
    /// In what time it is given segments again.
    pub(crate) next_load: Option<Duration>,
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectionOverview {
    pub(crate) collection: CollectionRecord,
    pub(crate) replica_number: u32,
    /// In the order of their ids.
    pub(crate) segments: Vec<SegmentOverview>,
}

/// A segment of a completed load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentOverview {
    pub(crate) segment: SegmentRecord,
    /// In the order of the nodes' ids: all that are to hold it, do hold it, or failed to load it lately.
    pub(crate) copies: Vec<Copy>,
    /// How many nodes more it needs, and why it is not on more.
    pub(crate) lacking: Option<(u32, String)>,
}

/// A segment on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) node: i64,
    /// The node is to hold it.
    pub(crate) wanted: bool,
    /// The node holds it, for all that is known.
    pub(crate) held: bool,
    /// It is being loaded there.
    pub(crate) loading: bool,
    /// Why the last load of it there failed; empty where none has lately.
    pub(crate) error: String,
}

//! What a request has changed: all that a data directory has to keep of it.

use std::sync::Arc;

use crate::store::Entry;

/// One change of store and leases.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Keys were put and deleted.
    Changes(Arc<Entry>),
    /// A lease was granted.
    Grant {
        /// Its id.
        id: i64,
        /// What it lives, in seconds.
        ttl: i64,
    },
    /// A lease has ended.
    Revoke {
        /// Its id.
        id: i64,
        /// Its keys were deleted, where it had any.
        entry: Option<Arc<Entry>>,
    },
    /// Values before this revision are gone.
    Compaction(i64),
}

impl Effect {
    /// The revision that it has made.
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Changes(entry) | Self::Revoke { entry: Some(entry), .. } => Some(entry.revision),
            Self::Revoke { entry: None, .. } | Self::Grant { .. } | Self::Compaction(_) => None,
        }
    }

    /// The compaction that it is.
    pub fn compaction(&self) -> Option<i64> {
        match self {
            Self::Compaction(revision) => Some(*revision),
            Self::Changes(_) | Self::Grant { .. } | Self::Revoke { .. } => None,
        }
    }
}

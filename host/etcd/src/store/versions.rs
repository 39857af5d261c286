//! The versions of one key.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;

/// What a version takes beside its key and its value: its numbers, and its places in key and log.
const OVERHEAD: usize = 160;

/// A key after one change. Its `mod_revision` is the revision of that.
#[derive(Clone, Debug)]
pub struct Version {
    /// The key; of one that was deleted, its name and the revision alone, as etcd tells of it.
    pub kv: Arc<PbKeyValue>,
    /// It is gone.
    pub deleted: bool,
}

impl Version {
    /// About how many bytes it takes, with its places in key and log.
    pub fn bytes(&self) -> u64 {
        (self.kv.key.len() + self.kv.value.len() + OVERHEAD) as u64
    }
}

/// All versions that can still be read, oldest first.
#[derive(Debug, Default)]
pub(super) struct Versions(Vec<Version>);

impl Versions {
    /// The one that counts at a revision. Where a transaction puts a key and deletes it, the later change does.
    pub(super) fn at(&self, revision: i64) -> Option<&Version> {
        // Most reads want the present.
        let last = self.0.last()?;
        if last.kv.mod_revision <= revision {
            return Some(last);
        }
        let after = self.0.partition_point(|version| version.kv.mod_revision <= revision);
        self.0[..after].last()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Version> {
        self.0.iter()
    }

    pub(super) fn push(&mut self, version: Version) {
        self.0.push(version);
    }

    /// Keeps what is needed to read this revision and later ones. Returns about how many bytes the others took.
    pub(super) fn compact(&mut self, revision: i64) -> u64 {
        let after = self.0.partition_point(|version| version.kv.mod_revision <= revision);
        let Some(counts) = after.checked_sub(1) else { return 0 };
        // That a key is absent needs no version to say so.
        let first = if self.0[counts].deleted { after } else { counts };
        self.0.drain(..first).map(|version| version.bytes()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

//! The multi-version store, without I/O: every key's versions, and every revision's changes in their order.
//!
//! A revision is one request that changed something; the empty store is at revision 1, as etcd's is. All changes of one
//! request share its revision. Reads name the revision that they want; which one clients may see is not decided here, nor are
//! leases known beyond their ids. Written through [`Writing`] by `machine`, read by it and by `watch`.

mod interval;
mod versions;
mod writing;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use self::interval::{End, Interval};
pub use self::versions::Version;
pub use self::writing::Writing;

use self::versions::Versions;
use etcd_client::proto::PbKeyValue;

/// The revision of an empty store.
pub const FIRST_REVISION: i64 = 1;

/// What no compaction has touched, as etcd counts it: a first compaction of revision 0 is accepted.
pub const NEVER_COMPACTED: i64 = -1;

/// All changes of one revision.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The revision.
    pub revision: i64,
    /// In the order in which they were made.
    pub changes: Vec<Version>,
}

impl Entry {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.changes.iter().map(Version::bytes).sum()
    }
}

/// Keys with their versions.
#[derive(Debug)]
pub struct Store {
    keys: BTreeMap<Vec<u8>, Versions>,
    /// Revisions without a gap, up to the present one, from the one that was compacted on.
    log: VecDeque<Arc<Entry>>,
    revision: i64,
    compacted: i64,
    /// About how many bytes all versions take, and those that the log has.
    bytes: u64,
    logged: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            revision: FIRST_REVISION,
            compacted: NEVER_COMPACTED,
            bytes: 0,
            logged: 0,
        }
    }
}

impl Store {
    /// The present revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Values before this revision are gone, where they were not those that it had.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first revision of which later ones take no more than so many bytes; the present one at most.
    pub fn first_within(&self, bytes: u64) -> i64 {
        let mut left = bytes;
        let fits = |entry: &&Arc<Entry>| left.checked_sub(entry.bytes()).inspect(|rest| left = *rest).is_some();
        self.log.iter().rev().take_while(fits).last().map_or(self.revision, |entry| entry.revision)
    }

    /// About how many bytes the revisions take that a watch can begin with.
    pub fn logged(&self) -> u64 {
        self.logged
    }

    /// The keys of an interval as they were at a revision, in the order of their names.
    pub fn range<'a>(&'a self, interval: &'a Interval, revision: i64) -> impl Iterator<Item = &'a Arc<PbKeyValue>> {
        let one = match interval.end {
            End::Single => self.keys.get(&interval.start),
            _ => None,
        };
        let many = interval.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        one.into_iter().chain(many.into_iter().flatten().map(|(_, versions)| versions)).filter_map(move |versions| {
            let version = versions.at(revision)?;
            (!version.deleted).then_some(&version.kv)
        })
    }

    /// The key as it was at a revision.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&Arc<PbKeyValue>> {
        let version = self.keys.get(key)?.at(revision)?;
        (!version.deleted).then_some(&version.kv)
    }

    /// Revisions from this one on; those that were compacted are not among them.
    pub fn entries(&self, from: i64) -> impl Iterator<Item = &Arc<Entry>> {
        let first = self.log.front().map_or(0, |entry| entry.revision);
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(0).min(self.log.len());
        self.log.range(skipped..)
    }

    /// How many keys there are, deleted ones among them where their past is still kept.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.keys.len()
    }

    /// A request that may write: its reads see the present revision and its own changes, which become one revision. There is
    /// none where it has changed nothing.
    pub fn write<T>(&mut self, request: impl FnOnce(&mut Writing<'_>) -> T) -> (T, Option<Arc<Entry>>) {
        let mut writing = Writing::new(self);
        let answer = request(&mut writing);
        let changes = writing.into_changes();
        if changes.is_empty() {
            return (answer, None);
        }
        self.revision += 1;
        let entry = Arc::new(Entry { revision: self.revision, changes });
        self.log(Arc::clone(&entry));
        (answer, Some(entry))
    }

    /// Versions of revisions whose changes are not kept any more.
    pub fn older(&self) -> impl Iterator<Item = &Version> {
        let first = self.log.front().map_or(i64::MAX, |entry| entry.revision);
        let versions = self.keys.values().flat_map(Versions::iter);
        versions.filter(move |version| version.kv.mod_revision < first)
    }

    /// Takes one of those that a data directory has kept. They come before all others.
    pub fn restore_older(&mut self, version: Version) {
        self.keep(version);
    }

    fn keep(&mut self, version: Version) {
        self.bytes += version.bytes();
        self.keys.entry(version.kv.key.clone()).or_default().push(version);
    }

    fn log(&mut self, entry: Arc<Entry>) {
        self.logged += entry.bytes();
        self.log.push_back(entry);
    }

    /// Can a revision be restored now?
    pub fn is_next(&self, revision: i64) -> bool {
        // After older versions comes the revision that was compacted.
        revision == self.revision + 1 || self.log.is_empty()
    }

    /// Takes a revision's changes that a data directory has kept.
    pub fn restore(&mut self, entry: Entry) {
        for change in &entry.changes {
            self.keep(change.clone());
        }
        self.revision = entry.revision;
        self.log(Arc::new(entry));
    }

    /// Throws away what nobody can read from this revision on. The revision's own changes stay, for watches that begin there.
    pub fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
        let mut touched: Vec<Arc<Entry>> = Vec::new();
        while self.log.front().is_some_and(|entry| entry.revision < revision) {
            touched.extend(self.log.pop_front().inspect(|entry| self.logged -= entry.bytes()));
        }
        // Its own changes end earlier versions of their keys, too.
        touched.extend(self.log.front().filter(|entry| entry.revision == revision).cloned());
        for change in touched.iter().flat_map(|entry| &entry.changes) {
            if let Some(versions) = self.keys.get_mut(&change.kv.key) {
                self.bytes -= versions.compact(revision);
                if versions.is_empty() {
                    self.keys.remove(&change.kv.key);
                }
            }
        }
    }
}

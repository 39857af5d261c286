//! One request that may write: its changes are seen by its own reads at once, and have one revision together.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;

use super::{Interval, Store, Version};

/// Changes that are being made. They cannot be taken back: what may fail is checked before the first.
pub struct Writing<'a> {
    store: &'a mut Store,
    changes: Vec<Version>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(store: &'a mut Store) -> Self {
        Self { store, changes: Vec::new() }
    }

    /// The revision that its reads see, and that its answers name.
    pub fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.changes.is_empty())
    }

    /// The revision that its changes have.
    pub fn next(&self) -> i64 {
        self.store.revision + 1
    }

    /// The store as it is with the changes made so far.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The key as it is now.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<PbKeyValue>> {
        self.store.get(key, self.next())
    }

    /// Puts a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) {
        let revision = self.next();
        let (create_revision, version) = match self.get(&key) {
            Some(former) => (former.create_revision, former.version + 1),
            None => (revision, 1),
        };
        let kv = PbKeyValue { key, create_revision, mod_revision: revision, version, value, lease };
        self.change(Version { kv: Arc::new(kv), deleted: false });
    }

    /// Deletes all keys of an interval and returns them as they were.
    pub fn delete(&mut self, interval: &Interval) -> Vec<Arc<PbKeyValue>> {
        let revision = self.next();
        let former: Vec<_> = self.store.range(interval, revision).cloned().collect();
        for kv in &former {
            let kv = PbKeyValue { key: kv.key.clone(), mod_revision: revision, ..PbKeyValue::default() };
            self.change(Version { kv: Arc::new(kv), deleted: true });
        }
        former
    }

    fn change(&mut self, version: Version) {
        self.store.keep(version.clone());
        self.changes.push(version);
    }

    pub(super) fn into_changes(self) -> Vec<Version> {
        self.changes
    }
}

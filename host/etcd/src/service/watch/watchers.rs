//! The watches of one stream, and their ids.

use std::collections::BTreeMap;

use thiserror::Error;

use super::watcher::Watcher;

/// Why a watch is not made. The texts are etcd's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum NotMade {
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

#[derive(Default)]
pub(super) struct Watchers {
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// Whose turn it is.
    turn: i64,
}

impl Watchers {
    /// Adds a watch under the id that it has; 0 takes the next one that is free.
    pub(super) fn add(&mut self, mut watcher: Watcher) -> Result<i64, NotMade> {
        if watcher.interval.is_empty() {
            return Err(NotMade::EmptyRange);
        }
        if watcher.id == 0 {
            while self.watchers.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            watcher.id = self.next_id;
            self.next_id += 1;
        } else if self.watchers.contains_key(&watcher.id) {
            return Err(NotMade::DuplicateId);
        }
        let id = watcher.id;
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    /// Ends a watch; says whether there was one.
    pub(super) fn remove(&mut self, id: i64) -> bool {
        self.watchers.remove(&id).is_some()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Watcher> {
        self.watchers.values_mut()
    }

    /// Each once, beginning where the last turn was ended, until one is told that it is enough.
    pub(super) fn in_turn(&mut self, mut each: impl FnMut(&mut Watcher) -> bool) {
        let turn = self.turn;
        let (before, from): (Vec<_>, Vec<_>) = self.watchers.iter_mut().partition(|(id, _)| **id < turn);
        for (id, watcher) in from.into_iter().chain(before) {
            if !each(watcher) {
                self.turn = *id + 1;
                return;
            }
        }
    }

    /// Up to which revision all watches have told everything, where they could have told up to this one.
    pub(super) fn told_through(&self, revision: i64) -> i64 {
        let told = self.watchers.values().filter(|watcher| !watcher.ended).map(|watcher| watcher.next - 1);
        told.fold(revision, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::watch::watcher::Filters;
    use crate::store::Interval;

    #[test]
    fn whoever_was_not_told_is_told_first() {
        let mut watchers = Watchers::default();
        for _ in 0..5 {
            let (interval, filters) = (Interval::single(b"a".to_vec()), Filters::default());
            let watcher = Watcher {
                id: 0,
                interval,
                next: 1,
                filters,
                prev_kv: false,
                fragment: false,
                progress: false,
                quiet: true,
                live: false,
                ended: false,
            };
            watchers.add(watcher).expect("it has a key");
        }
        // Two at a time are enough.
        let told: Vec<_> = (0..3)
            .map(|_| {
                let mut told = Vec::new();
                watchers.in_turn(|watcher| {
                    told.push(watcher.id);
                    told.len() < 2
                });
                told
            })
            .collect();
        assert_eq!(told, [[0, 1], [2, 3], [4, 0]]);
    }
}

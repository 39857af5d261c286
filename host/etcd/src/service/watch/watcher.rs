//! One watch, without I/O: where it stands, and what it tells of the store's log.

#[cfg(test)]
mod tests;

use etcd_client::proto::{PbEvent, PbWatchResponse};

use crate::engine::Visible;
use crate::identity::Identity;
use crate::store::{Entry, Interval, Store, Version};

/// The most revisions that one answer tells of, as etcd has it.
const MAX_REVISIONS: usize = 1000;

/// An answer that has more bytes than this has no further revision; etcd has no such limit, and holds all of it in memory.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// A watch that is so many revisions behind is told many in one answer, like one that begins in the past.
const LIVE_WITHIN: i64 = 100;

const PUT: i32 = 0;
const DELETE: i32 = 1;

/// Which changes are not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    no_put: bool,
    no_delete: bool,
}

impl Filters {
    pub(super) fn of(filters: &[i32]) -> Self {
        Self { no_put: filters.contains(&0), no_delete: filters.contains(&1) }
    }
}

/// One watch of a stream.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) interval: Interval,
    /// The first revision that it has not told of.
    pub(super) next: i64,
    pub(super) filters: Filters,
    /// Events have the key as it was before.
    pub(super) prev_kv: bool,
    /// Large answers are told in pieces.
    pub(super) fragment: bool,
    /// It says from time to time that there is nothing to tell.
    pub(super) progress: bool,
    /// It has told nothing since it last said so.
    pub(super) quiet: bool,
    /// It has told all up to the present once: from then on each revision is an answer of its own.
    pub(super) live: bool,
    /// What it had to tell was compacted. Its id stays taken until it is cancelled.
    pub(super) ended: bool,
}

impl Watcher {
    /// Tells the next part of what has happened: nothing where there is nothing.
    pub(super) fn tell(&mut self, store: &Store, visible: Visible, identity: &Identity) -> Vec<PbWatchResponse> {
        if self.ended || self.next > visible.revision {
            self.live |= !self.ended;
            return Vec::new();
        }
        if self.next < visible.compacted {
            self.ended = true;
            let header = Some(identity.header(0));
            let compact_revision = visible.compacted;
            let ended = PbWatchResponse { canceled: true, compact_revision, ..PbWatchResponse::default() };
            return vec![PbWatchResponse { header, watch_id: self.id, ..ended }];
        }
        let live = self.live && visible.revision - self.next < LIVE_WITHIN;
        let entries = store.entries(self.next).take_while(|entry| entry.revision <= visible.revision);
        let mut told: Vec<PbWatchResponse> = Vec::new();
        let (mut revisions, mut bytes) = (0, 0);
        self.next = visible.revision + 1;
        for entry in entries {
            let events = self.events(store, entry, visible.compacted);
            if events.is_empty() {
                continue;
            }
            if revisions == MAX_REVISIONS || bytes > MAX_BYTES {
                self.next = entry.revision;
                break;
            }
            revisions += 1;
            bytes += events.iter().map(size).sum::<usize>();
            match told.last_mut() {
                Some(last) if !live => last.events.extend(events),
                _ => {
                    let header = Some(identity.header(if live { entry.revision } else { visible.revision }));
                    let answer = PbWatchResponse { header, watch_id: self.id, ..PbWatchResponse::default() };
                    told.push(PbWatchResponse { events, ..answer });
                }
            }
        }
        self.live |= self.next > visible.revision;
        self.quiet &= told.is_empty();
        told
    }

    fn events(&self, store: &Store, entry: &Entry, compacted: i64) -> Vec<PbEvent> {
        let wanted = |change: &&Version| {
            let filtered = if change.deleted { self.filters.no_delete } else { self.filters.no_put };
            !filtered && self.interval.contains(&change.kv.key)
        };
        let event = |change: &Version| {
            let before = entry.revision - 1;
            // What was deleted and put again in one revision has no former value, as etcd tells it.
            let is_new = change.kv.create_revision == change.kv.mod_revision;
            let former =
                (self.prev_kv && !is_new && before >= compacted).then(|| store.get(&change.kv.key, before)).flatten();
            PbEvent {
                r#type: if change.deleted { DELETE } else { PUT },
                kv: Some((*change.kv).clone()),
                prev_kv: former.map(|kv| (**kv).clone()),
            }
        };
        entry.changes.iter().filter(wanted).map(event).collect()
    }
}

/// About how many bytes an event takes.
pub(super) fn size(event: &PbEvent) -> usize {
    [&event.kv, &event.prev_kv].into_iter().flatten().map(|kv| kv.key.len() + kv.value.len()).sum()
}

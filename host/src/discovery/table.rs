//! The table of one role's peers, without I/O: lists and changes of keys come in, tables go out.
//!
//! An identity is its server id. A coordinator may have two keys, the active one and that of its standby: they are one peer,
//! which is gone when none of its keys is left. A key's former value is looked up here, never asked for. All changes of one
//! answer are applied before one table is published; what that costs depends on the changes, not on the table's size. The
//! driver is in `follow`.

mod guard;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Registration;

use self::guard::Guard;
use self::parse::parse;
use crate::cluster::{Confirmed, Farewells, GREATEST_COUNTED, Keys, PeerSessionEntry, PeerTable, SessionKey};
use crate::etcd::watch::{Change, Stored};

/// A value that is no session, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key.
    pub key: String,
    /// Why its value does not count.
    pub why: String,
    /// The revision at which it was put.
    pub revision: i64,
}

/// What has come of the keys of a role: puts and deletions, and all keys of each list, changed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Sessions, and their ends.
    pub valid: u64,
    /// Values that are no sessions.
    pub invalid: u64,
}

/// The keys of one role, and the table that follows from them.
#[derive(Clone, Debug)]
pub struct Table {
    role: Role,
    keys: Keys,
    held: BTreeMap<SessionKey, Held>,
    /// Keys whose value does not count, so that each value is told once.
    skipped: BTreeMap<SessionKey, Skipped>,
    values: Values,
    guard: Guard,
    highest: ServerId,
    published: Arc<PeerTable>,
}

/// A key that etcd has.
#[derive(Clone, Debug)]
struct Held {
    mod_revision: i64,
    /// What its value says; none where it does not count. Shared with the table where it is the same there.
    entry: Option<Arc<PeerSessionEntry>>,
}

impl Table {
    /// Of this role, before the first list. Whoever a list does not have is gone at once; see [`Table::guarded`].
    pub fn new(role: Role, keys: Keys) -> Self {
        let published = Arc::new(PeerTable::unknown(role.clone()));
        let (held, skipped, guard) = (BTreeMap::new(), BTreeMap::new(), Guard::new(Duration::ZERO));
        Self { role, keys, held, skipped, values: Values::default(), guard, highest: ServerId(0), published }
    }

    /// Where a later list misses more than half of three peers or more, keep them as suspects for so long.
    #[must_use]
    pub fn guarded(mut self, keep: Duration) -> Self {
        self.guard = Guard::new(keep);
        self
    }

    /// A published table that is not confirmed for longer than this is stale.
    #[must_use]
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        Arc::make_mut(&mut self.published).stale_after = stale_after;
        self
    }

    /// The table as it was last published.
    pub fn published(&self) -> &Arc<PeerTable> {
        &self.published
    }

    /// The keys whose values do not count now.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.values()
    }

    /// How many values have come so far.
    pub fn values(&self) -> Values {
        self.values
    }

    /// The peers that are kept though etcd does not have them.
    pub fn suspects(&self) -> impl Iterator<Item = ServerId> {
        self.guard.ids()
    }

    /// The highest server id that any session has ever had here, of those that a counter has given out; 0 before the first.
    pub fn highest_server_id(&self) -> ServerId {
        self.highest
    }

    /// Each key of the role that etcd has, as far as it is known here, with the revision of its last change.
    pub fn mod_revisions(&self) -> BTreeMap<SessionKey, i64> {
        self.held.iter().map(|(key, held)| (*key, held.mod_revision)).collect()
    }

    /// The same of a list: what is no key of the role is left out.
    pub fn mod_revisions_of(&self, entries: &[Stored]) -> BTreeMap<SessionKey, i64> {
        let ours = |stored: &Stored| Some((self.keys.classify(&self.role, &stored.key)?, stored.mod_revision));
        entries.iter().filter_map(ours).collect()
    }

    /// All keys as they are at a revision, in place of what was known. Returns the values that are skipped from now on.
    pub fn replace(&mut self, entries: &[Stored], revision: i64, now: Instant) -> Vec<Skipped> {
        let before = std::mem::take(&mut self.held);
        let told = std::mem::take(&mut self.skipped);
        let mut touched: BTreeSet<ServerId> = before.values().filter_map(Held::server_id).collect();
        for stored in entries {
            if let Some(key) = self.keys.classify(&self.role, &stored.key) {
                let former = before.get(&key).and_then(|held| held.entry.as_ref());
                touched.extend(self.put(key, stored, former));
            }
        }
        self.doubt_a_list(now);
        let new = self.skipped.iter().filter(|(key, skipped)| told.get(key) != Some(skipped));
        let new = new.map(|(_, skipped)| skipped.clone()).collect();
        self.publish(touched, revision, Some(now));
        new
    }

    /// All changes of one answer, in order; then one table. Returns the values that are skipped from now on.
    pub fn change(&mut self, changes: &[Change], now: Instant) -> Vec<Skipped> {
        let (mut new, mut touched) = (Vec::new(), BTreeSet::new());
        for change in changes {
            let (Change::Put(Stored { key, .. }) | Change::Delete(key, _)) = change;
            let Some(key) = self.keys.classify(&self.role, key) else { continue };
            // A deleted key has no value: what it was is known here.
            let former = self.held.remove(&key);
            self.skipped.remove(&key);
            touched.extend(former.as_ref().and_then(Held::server_id));
            let former = former.and_then(|held| held.entry);
            if let (Change::Delete(..), Some(former)) = (change, &former) {
                // Nobody may see it in between.
                self.farewells().went(former.server_id(), former.record.stopping);
            }
            if let Change::Put(stored) = change {
                let server_id = self.put(key, stored, former.as_ref());
                server_id.into_iter().for_each(|id| self.farewells().is_there(id));
                touched.extend(server_id);
                new.extend(self.skipped.get(&key).cloned());
            } else {
                self.values.valid += 1;
            }
        }
        let revision = changes.last().map_or(self.published.revision, Change::revision);
        self.publish(touched, revision, Some(now));
        new
    }

    /// Nothing has changed up to now.
    pub fn confirm(&self, now: Instant) {
        self.published.confirmed.again(now);
    }

    /// When suspects are to be let go, by [`Table::expire`].
    pub fn due(&self) -> Option<Instant> {
        self.guard.due()
    }

    /// Lets go the suspects whose time is over: they are gone as by a DELETE. Says who they were; a table is published where
    /// there were any.
    pub fn expire(&mut self, now: Instant) -> Vec<ServerId> {
        let over = self.guard.expire(now);
        if !over.is_empty() {
            // It says nothing of how fresh the table is.
            self.publish(over.iter().copied().collect(), self.published.revision, None);
        }
        over
    }

    /// Returns whose key it is.
    fn put(&mut self, key: SessionKey, stored: &Stored, former: Option<&Arc<PeerSessionEntry>>) -> Option<ServerId> {
        let Stored { mod_revision, create_revision, lease_id, .. } = *stored;
        let entry = match parse(key, &stored.value) {
            Ok(record) => {
                self.values.valid += 1;
                let standby = key != SessionKey::Active && record.exclusive;
                let registration = Registration { create_revision, lease_id };
                let entry = PeerSessionEntry { record, registration, standby, suspect: false, appeared: 0 };
                // The same session stays the same object.
                Some(
                    former
                        .filter(|former| former.is_the_same_session(&entry))
                        .cloned()
                        .unwrap_or_else(|| Arc::new(entry)),
                )
            }
            Err(why) => {
                self.values.invalid += 1;
                let text = String::from_utf8_lossy(&stored.key).into_owned();
                self.skipped.insert(key, Skipped { key: text, why, revision: mod_revision });
                // The key lives on: what it last said still holds, as long as it is the same registration.
                // A put without its lease, or with another, is not its owner's.
                let registration = Registration { create_revision, lease_id };
                former.filter(|former| former.registration == registration).cloned()
            }
        };
        let held = Held { mod_revision, entry };
        let server_id = held.server_id();
        if let Some(id) = server_id {
            if id <= GREATEST_COUNTED {
                self.highest = self.highest.max(id);
            }
            // It is there: what is said of it from now on is believed, a DELETE in the same answer too.
            self.guard.release(id);
        }
        self.held.insert(key, held);
        server_id
    }

    fn farewells(&mut self) -> &mut Farewells {
        &mut Arc::make_mut(&mut self.published).farewells
    }

    /// A list has been taken in: does it miss so many that they are kept?
    fn doubt_a_list(&mut self, now: Instant) {
        let peers = &self.published.sessions;
        let missing = peers.iter().filter(|(id, _)| self.in_etcd(**id).is_none()).map(|(_, entry)| Arc::clone(entry));
        let missing: Vec<_> = missing.collect();
        self.guard.missed(missing, peers.size(), now);
    }

    /// What etcd has of this identity: the active key decides where it has both.
    fn in_etcd(&self, id: ServerId) -> Option<(SessionKey, &Arc<PeerSessionEntry>)> {
        [SessionKey::Active, SessionKey::Member(id)].into_iter().find_map(|key| {
            let entry = self.held.get(&key)?.entry.as_ref()?;
            (entry.server_id() == id).then_some((key, entry))
        })
    }

    fn publish(&mut self, mut touched: BTreeSet<ServerId>, revision: i64, confirmed: Option<Instant>) {
        // Who holds the active key now has replaced who held it, kept or not.
        if let Some(holder) = self.held.get(&SessionKey::Active).and_then(Held::server_id) {
            touched.extend(self.guard.replaced(holder));
        }
        // The one before is left to its readers; what both have in common is shared.
        let table = Arc::make_mut(&mut self.published);
        table.touched.begin();
        table.revision = revision;
        table.confirmed = Confirmed::at(confirmed.or(table.confirmed_at()));
        for id in touched {
            self.touch(id);
        }
    }

    fn touch(&mut self, id: ServerId) {
        let before = self.published.sessions.get(&id).cloned();
        let number = self.published.touched.number();
        let now = match self.in_etcd(id) {
            Some((key, _)) => {
                let appeared = before.as_ref().map_or(number, |before| before.appeared);
                let entry = self.held.get_mut(&key).and_then(|held| held.entry.as_mut());
                entry.map(|entry| {
                    if entry.appeared != appeared {
                        // One that was just read is nobody else's yet: it is not copied.
                        Arc::make_mut(entry).appeared = appeared;
                    }
                    Arc::clone(entry)
                })
            }
            None => self.guard.get(id).cloned(),
        };
        let table = Arc::make_mut(&mut self.published);
        match now {
            // The same entry stays the same object, so that a reader can compare by address first.
            Some(entry) if before.as_ref() == Some(&entry) => {}
            Some(entry) => {
                table.sessions.insert_mut(id, entry);
                table.touched.push(id);
            }
            None if before.is_some() => {
                table.sessions.remove_mut(&id);
                table.touched.push(id);
            }
            None => {}
        }
    }
}

impl Held {
    fn server_id(&self) -> Option<ServerId> {
        self.entry.as_ref().map(|entry| entry.server_id())
    }
}

#[cfg(test)]
mod tests;

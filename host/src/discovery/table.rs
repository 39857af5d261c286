//! The table of one role's peers, without I/O: lists and changes of keys come in, tables go out.
//!
//! An identity is its server id. A coordinator may have two keys, the active one and that of its standby: they are one peer.
//! The driver is in `follow`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Registration;

use crate::cluster::{Keys, PeerSessionEntry, PeerTable, Record, SessionKey};
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

/// The keys of one role, and the table that follows from them.
#[derive(Clone, Debug)]
pub struct Table {
    role: Role,
    keys: Keys,
    sessions: BTreeMap<SessionKey, Known>,
    /// Keys whose value does not count, so that each value is told once.
    skipped: BTreeMap<SessionKey, Skipped>,
    /// For each identity ever seen: in how many runs of tables it was.
    appearances: BTreeMap<ServerId, u64>,
    published: Arc<PeerTable>,
}

/// A key with a value that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    record: Record,
    registration: Registration,
}

impl Table {
    /// Of this role, before the first list.
    pub fn new(role: Role, keys: Keys) -> Self {
        let published = Arc::new(PeerTable::unknown(role.clone()));
        let (sessions, skipped, appearances) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { role, keys, sessions, skipped, appearances, published }
    }

    /// The table as it was last published.
    pub fn published(&self) -> &Arc<PeerTable> {
        &self.published
    }

    /// The keys whose values do not count now.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.values()
    }

    /// All keys as they are at a revision, in place of what was known. Returns the values that are skipped from now on.
    pub fn replace(&mut self, entries: &[Stored], revision: i64, now: Instant) -> Vec<Skipped> {
        let before = std::mem::take(&mut self.sessions);
        let told = std::mem::take(&mut self.skipped);
        for stored in entries {
            if let Some(key) = self.keys.classify(&self.role, &stored.key) {
                self.put(key, stored, before.get(&key));
            }
        }
        let new = self.skipped.iter().filter(|(key, skipped)| told.get(key) != Some(skipped));
        let new = new.map(|(_, skipped)| skipped.clone()).collect();
        self.publish(revision, now);
        new
    }

    /// All changes of one answer, in order; then one table. Returns the values that are skipped from now on.
    pub fn change(&mut self, changes: &[Change], now: Instant) -> Vec<Skipped> {
        let mut new = Vec::new();
        for change in changes {
            match change {
                Change::Put(stored) => {
                    let Some(key) = self.keys.classify(&self.role, &stored.key) else { continue };
                    let before = self.sessions.remove(&key);
                    self.skipped.remove(&key);
                    self.put(key, stored, before.as_ref());
                    new.extend(self.skipped.get(&key).cloned());
                }
                // It has no value: what it was is known here.
                Change::Delete(key, _) => {
                    let Some(key) = self.keys.classify(&self.role, key) else { continue };
                    self.sessions.remove(&key);
                    self.skipped.remove(&key);
                }
            }
        }
        let revision = changes.last().map_or(self.published.revision, Change::revision);
        self.publish(revision, now);
        new
    }

    /// Nothing has changed up to now.
    pub fn confirm(&mut self, now: Instant) {
        Arc::make_mut(&mut self.published).confirmed_at = Some(now);
    }

    fn put(&mut self, key: SessionKey, stored: &Stored, before: Option<&Known>) {
        let registration = Registration { create_revision: stored.create_revision, lease_id: stored.lease_id };
        match parse(key, &stored.value) {
            Ok(record) => {
                self.sessions.insert(key, Known { record, registration });
            }
            Err(why) => {
                let (key_text, revision) = (String::from_utf8_lossy(&stored.key).into_owned(), stored.mod_revision);
                self.skipped.insert(key, Skipped { key: key_text, why, revision });
                // The key lives on: what it last said still holds, as long as it is the same registration.
                if let Some(known) =
                    before.filter(|known| known.registration.create_revision == registration.create_revision)
                {
                    self.sessions.insert(key, known.clone());
                }
            }
        }
    }

    fn publish(&mut self, revision: i64, now: Instant) {
        let mut sessions = BTreeMap::new();
        // The active key comes first, and with it what holds for an identity that has both.
        for (key, known) in &self.sessions {
            let id = ServerId(known.record.server_id);
            if sessions.contains_key(&id) {
                continue;
            }
            let standby = *key != SessionKey::Active && known.record.exclusive;
            let last = self.appearances.get(&id).copied().unwrap_or_default();
            let appearances = if self.published.sessions.contains_key(&id) { last } else { last + 1 };
            self.appearances.insert(id, appearances);
            let Known { record, registration } = known.clone();
            let entry = PeerSessionEntry { record, registration, standby, appearances };
            // The same entry stays the same object, so that a reader can compare by address first.
            let entry = match self.published.sessions.get(&id) {
                Some(published) if **published == entry => Arc::clone(published),
                _ => Arc::new(entry),
            };
            sessions.insert(id, entry);
        }
        let confirmed_at = Some(now);
        self.published = Arc::new(PeerTable { role: self.role.clone(), revision, confirmed_at, sessions });
    }
}

/// The record of a key, or why it does not count.
fn parse(key: SessionKey, value: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(value).map_err(|error| format!("it is no session: {error}"))?;
    if record.server_id <= 0 {
        return Err(format!("its ServerID is {}", record.server_id));
    }
    if record.address.is_empty() {
        return Err("it has no Address".to_owned());
    }
    match key {
        SessionKey::Member(ServerId(id)) if id != record.server_id => {
            Err(format!("its ServerID is {}, which is not the key's", record.server_id))
        }
        SessionKey::Member(_) | SessionKey::Active => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: &str = "by-dev/meta/session/querynode";

    fn table() -> Table {
        Table::new(Role::new("querynode").expect("a role"), Keys::new("by-dev", "meta"))
    }

    fn member(id: i64) -> String {
        format!("{ACTIVE}-{id}")
    }

    fn stored(key: &str, value: &str, create_revision: i64, mod_revision: i64) -> Stored {
        Stored { key: key.into(), value: value.into(), create_revision, mod_revision, lease_id: 5 }
    }

    fn session(key: &str, id: i64, address: &str, revision: i64) -> Stored {
        stored(key, &format!(r#"{{"ServerID":{id},"Address":"{address}"}}"#), revision, revision)
    }

    fn coordinator(key: &str, id: i64, revision: i64) -> Stored {
        stored(key, &format!(r#"{{"ServerID":{id},"Address":"a:{id}","Exclusive":true}}"#), revision, revision)
    }

    fn put(stored: Stored) -> Change {
        Change::Put(stored)
    }

    fn delete(key: &str, revision: i64) -> Change {
        Change::Delete(key.into(), revision)
    }

    fn ids(table: &Table) -> Vec<i64> {
        table.published().sessions.keys().map(|id| id.0).collect()
    }

    fn entry(table: &Table, id: i64) -> PeerSessionEntry {
        (**table.published().sessions.get(&ServerId(id)).expect("a peer")).clone()
    }

    #[test]
    fn keys_come_and_go() {
        let (mut table, now) = (table(), Instant::now());
        assert_eq!((table.published().revision, table.published().confirmed_at), (0, None));
        table.replace(
            &[session(&member(3), 3, "a:1", 7), session("by-dev/meta/session/querynodex-4", 4, "a:2", 8)],
            9,
            now,
        );
        assert_eq!((ids(&table), table.published().revision), (vec![3], 9));
        table.change(&[put(session(&member(5), 5, "a:3", 10)), delete(&member(3), 11)], now);
        assert_eq!((ids(&table), table.published().revision), (vec![5], 11));
        assert_eq!(table.published().confirmed_at, Some(now));
    }

    #[test]
    fn a_new_list_is_the_difference() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(1), 1, "a:1", 1), session(&member(2), 2, "a:2", 2)], 5, now);
        let two = Arc::clone(&table.published().sessions[&ServerId(2)]);
        table.replace(&[session(&member(2), 2, "a:2", 2), session(&member(3), 3, "a:3", 7)], 8, now);
        assert_eq!(ids(&table), [2, 3]);
        assert!(Arc::ptr_eq(&two, &table.published().sessions[&ServerId(2)]), "what stays is untouched");
    }

    #[test]
    fn a_registration_in_one_answer_has_no_gap() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        table.change(&[delete(&member(3), 8), put(session(&member(3), 3, "a:1", 9))], now);
        let entry = entry(&table, 3);
        assert_eq!((entry.registration.create_revision, entry.appearances), (9, 1));
    }

    #[test]
    fn a_registration_over_a_relist_has_no_gap() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        table.replace(&[session(&member(3), 3, "a:1", 20)], 21, now);
        let entry = entry(&table, 3);
        assert_eq!((entry.registration.create_revision, entry.appearances), (20, 1));
    }

    #[test]
    fn a_registration_after_its_delete_has_a_gap() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        table.change(&[delete(&member(3), 8)], now);
        assert_eq!(ids(&table), [0; 0]);
        table.change(&[put(session(&member(3), 3, "a:1", 9))], now);
        assert_eq!(entry(&table, 3).appearances, 2);
    }

    #[test]
    fn another_server_id_is_another_peer_even_at_the_same_address() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[coordinator(ACTIVE, 3, 7)], 7, now);
        table.change(&[put(stored(ACTIVE, r#"{"ServerID":4,"Address":"a:3","Exclusive":true}"#, 7, 8))], now);
        assert_eq!(ids(&table), [4]);
        assert_eq!(table.published().active().map(|entry| entry.server_id()), Some(ServerId(4)));
    }

    #[test]
    fn other_values_of_a_registration_are_an_update() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        let value = r#"{"ServerID":3,"Address":"a:1","Stopping":true}"#;
        table.change(&[put(stored(&member(3), value, 7, 8))], now);
        let entry = entry(&table, 3);
        assert!(entry.record.stopping);
        assert_eq!((entry.registration.create_revision, entry.appearances), (7, 1));
    }

    #[test]
    fn a_value_that_is_no_session_hides_nothing() {
        let (mut table, now) = (table(), Instant::now());
        let rubbish =
            ["", "{", "{\"ServerID\":\"x\"}", "{}", "{\"ServerID\":9}", "{\"ServerID\":9,\"Address\":\"a:1\"}"];
        let mut entries: Vec<_> = (10..).zip(rubbish).map(|(id, value)| stored(&member(id), value, id, id)).collect();
        entries.push(session(&member(3), 3, "a:1", 7));
        let skipped = table.replace(&entries, 20, now);
        assert_eq!((ids(&table), skipped.len()), (vec![3], rubbish.len()));
        assert_eq!(table.replace(&entries, 21, now), [], "each value is told once");
        assert_eq!(table.skipped().count(), rubbish.len());
        let again = table.change(&[put(stored(&member(10), "}", 10, 22))], now);
        assert_eq!(again.iter().map(|skipped| skipped.key.clone()).collect::<Vec<_>>(), [member(10)]);
        table.change(&[put(session(&member(10), 10, "a:2", 23)), delete(&member(11), 24)], now);
        assert_eq!((ids(&table), table.skipped().count()), (vec![3, 10], rubbish.len() - 2));
    }

    #[test]
    fn a_registration_outlives_an_update_that_is_not_understood() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        table.change(&[put(stored(&member(3), "{", 7, 8))], now);
        assert_eq!(entry(&table, 3).record.address, "a:1");
        table.change(&[put(stored(&member(3), "{", 9, 9))], now);
        assert_eq!(ids(&table), [0; 0], "another registration says nothing of the former");
    }

    #[test]
    fn both_keys_of_a_coordinator_are_one_peer() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[coordinator(ACTIVE, 3, 7), coordinator(&member(4), 4, 8)], 8, now);
        assert!(!entry(&table, 3).standby && entry(&table, 4).standby);
        let takeover = [delete(ACTIVE, 9), put(coordinator(ACTIVE, 4, 10)), delete(&member(4), 10)];
        table.change(&takeover, now);
        let new = entry(&table, 4);
        assert_eq!((ids(&table), new.standby, new.appearances), (vec![4], false, 1));
        table.change(&[put(coordinator(&member(4), 4, 11))], now);
        assert!(!entry(&table, 4).standby, "the active key decides");
        table.change(&[delete(ACTIVE, 12)], now);
        assert!(entry(&table, 4).standby, "gone only when no key is left");
    }

    #[test]
    fn a_confirmation_changes_the_age_only() {
        let (mut table, now) = (table(), Instant::now());
        table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
        let later = now + std::time::Duration::from_secs(5);
        table.confirm(later);
        assert_eq!((table.published().revision, table.published().confirmed_at), (7, Some(later)));
    }
}

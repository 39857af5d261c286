//! What must hold for every table that is published, and at rest. See the invariants in `simulation`.

use std::collections::{BTreeMap, BTreeSet};

use componenthost::cluster::{PeerSessionEntry, PeerTable};

use crate::simulation::model::Model;
use crate::simulation::model::history::Keys;
use crate::simulation::peers::sessions::{Session, place, read, sessions};

/// Follows the published tables.
#[derive(Default)]
pub struct Check {
    /// Of which history the last table was.
    era: usize,
    revision: i64,
    last: BTreeMap<i64, Session>,
    appearances: BTreeMap<i64, u64>,
}

impl Check {
    /// A table is published: made from all keys, or else from an answer's changes. `revision` is that of the list, or of the
    /// answer's last event.
    pub fn published(
        &mut self,
        table: &PeerTable,
        is_list: bool,
        era: usize,
        revision: i64,
        model: &Model,
    ) -> Result<(), String> {
        if table.revision != revision {
            return Err(format!("the table has revision {}, not {revision}", table.revision));
        }
        let later = if is_list { revision >= self.revision } else { revision > self.revision };
        if era == self.era && !later {
            return Err(format!("after the table of {} comes that of {revision}", self.revision));
        }
        let keys = model.history_of(era).at(revision).ok_or("etcd never had that revision")?;
        self.equals(table, keys, model, era)?;
        for (id, entry) in &table.sessions {
            let appearances = self.appearances.entry(id.0).or_default();
            if !self.last.contains_key(&id.0) {
                *appearances += 1;
            }
            if entry.appearances != *appearances {
                return Err(format!("{id} has appeared {appearances} times, the table says {}", entry.appearances));
            }
        }
        (self.era, self.revision) = (era, revision);
        self.last = table.sessions.iter().map(|(id, entry)| (id.0, session(entry))).collect();
        Ok(())
    }

    /// At rest: the table is etcd's present one.
    pub fn at_rest(&self, table: &PeerTable, model: &Model) -> Result<(), String> {
        if self.era != model.era() {
            return Err("the table is of a cluster that has gone".to_owned());
        }
        if table.revision > model.revision() {
            return Err(format!("the table is of {}, etcd of {}", table.revision, model.revision()));
        }
        self.equals(table, model.keys(), model, model.era())
    }

    fn equals(&self, table: &PeerTable, keys: &Keys, model: &Model, era: usize) -> Result<(), String> {
        let expected = sessions(keys);
        let found: BTreeMap<i64, Session> = table.sessions.iter().map(|(id, entry)| (id.0, session(entry))).collect();
        let ids: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
        for id in ids {
            let (expected, found) = (expected.get(&id), found.get(&id));
            if expected != found && !self.outlives(id, found, keys, model, era) {
                return Err(format!("at {}: {id} is {expected:?} in etcd, {found:?} in the table", table.revision));
            }
        }
        Ok(())
    }

    /// A registration outlives an update of its value that is none: its last value that was one counts, if it was seen. It is
    /// known to have been seen where the table before had it.
    fn outlives(&self, id: i64, found: Option<&Session>, keys: &Keys, model: &Model, era: usize) -> bool {
        let mut was_seen = false;
        let history = model.history_of(era);
        for (key, stored) in keys {
            let Some(place) = place(key) else { continue };
            if read(stored, place).is_some() {
                continue;
            }
            let earlier = (stored.created..stored.modified).rev().filter_map(|revision| history.at(revision));
            let mut earlier = earlier.filter_map(|keys| keys.get(key)).filter_map(|stored| read(stored, place));
            let Some((_, session)) =
                earlier.find(|(last, session)| *last == id && found.is_none_or(|found| found == session))
            else {
                continue;
            };
            if found.is_some() {
                return true;
            }
            was_seen |= era == self.era && self.last.get(&id).is_some_and(|known| known.created == session.created);
        }
        // Nobody has to remember what it did not see. What it saw, it may not forget.
        found.is_none() && !was_seen && !sessions(keys).contains_key(&id)
    }
}

fn session(entry: &PeerSessionEntry) -> Session {
    Session {
        address: entry.record.address.clone(),
        version: entry.record.version.clone(),
        stopping: entry.record.stopping,
        standby: entry.standby,
        created: entry.registration.create_revision,
        lease: entry.registration.lease_id,
    }
}

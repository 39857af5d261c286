//! What must hold for every table that is published, and at rest. See the invariants in `simulation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use componenthost::cluster::{PeerSessionEntry, PeerTable};

use crate::simulation::agenda::Moment;
use crate::simulation::model::Model;
use crate::simulation::model::history::{Event, Keys};
use crate::simulation::peers::sessions::{Session, place, read, sessions};

/// What a table was published for.
pub enum Cause<'a> {
    /// All keys were listed.
    List,
    /// An answer with these changes.
    Changes(Vec<&'a Event>),
    /// Suspects were let go.
    Expiry,
}

/// Follows the published tables.
pub struct Check {
    /// How long suspects are kept.
    keep: Duration,
    /// Events may be lost on their way, so that only what comes after is right.
    pub events_are_lost: bool,
    /// Of which history the last table was.
    era: usize,
    tables: Vec<Arc<PeerTable>>,
    last: BTreeMap<i64, Session>,
    /// Who is kept though etcd does not have it, and until when.
    suspects: BTreeMap<i64, (Session, Moment)>,
    /// With which number each identity appeared last.
    appeared: BTreeMap<i64, u64>,
}

impl Check {
    pub fn new(keep: Duration, events_are_lost: bool, first: Arc<PeerTable>) -> Self {
        let (last, suspects, appeared) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { keep, events_are_lost, era: 0, tables: vec![first], last, suspects, appeared }
    }

    /// A table is published. `revision` is that of the list, or of the answer's last event.
    pub fn published(
        &mut self,
        table: &Arc<PeerTable>,
        cause: &Cause<'_>,
        (era, revision): (usize, i64),
        model: &Model,
        now: Moment,
    ) -> Result<(), String> {
        if table.revision != revision {
            return Err(format!("the table has revision {}, not {revision}", table.revision));
        }
        let before = self.revision();
        let later = if matches!(cause, Cause::Changes(_)) { revision > before } else { revision >= before };
        if era == self.era && !later {
            return Err(format!("after the table of {before} comes that of {revision}"));
        }
        self.suspect(table, cause, now);
        if !self.events_are_lost {
            let keys = model.history_of(era).at(revision).ok_or("etcd never had that revision")?;
            self.equals(table, keys, model, era)?;
        }
        self.appearances(table)?;
        self.touched(table)?;
        self.era = era;
        self.tables.push(Arc::clone(table));
        self.last = found(table);
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
        if let Some(suspect) = self.suspects.keys().next() {
            return Err(format!("at rest {suspect} is still kept"));
        }
        self.equals(table, model.keys(), model, model.era())
    }

    /// The last table's history and revision.
    pub fn at(&self) -> (usize, i64) {
        (self.era, self.revision())
    }

    pub fn revision(&self) -> i64 {
        self.tables.last().map_or(0, |table| table.revision)
    }

    /// Who has to be kept from now on, and who not any more.
    fn suspect(&mut self, table: &PeerTable, cause: &Cause<'_>, now: Moment) {
        let in_etcd: BTreeMap<i64, bool> = (table.sessions.iter().filter(|(_, entry)| !entry.suspect))
            .map(|(id, entry)| (id.0, entry.record.exclusive && !entry.standby))
            .collect();
        match cause {
            Cause::List => {
                let missing = self.last.iter().filter(|(id, _)| !in_etcd.contains_key(*id));
                let missing: Vec<_> = missing.map(|(id, session)| (*id, session.clone())).collect();
                if !self.keep.is_zero() && self.last.len() >= 3 && missing.len() * 2 > self.last.len() {
                    for (id, session) in missing {
                        self.suspects.entry(id).or_insert((session, now + self.keep));
                    }
                }
            }
            // A DELETE is believed at once, also of who came back only for a moment.
            Cause::Changes(events) => {
                let spoken_of = events.iter().filter_map(|event| match (place(event.key())?, event) {
                    (Some(id), _) => Some(id),
                    (None, Event::Put(stored)) => read(stored, None).map(|(id, _)| id),
                    (None, Event::Delete { .. }) => None,
                });
                let spoken_of: Vec<_> = spoken_of.filter(|id| !in_etcd.contains_key(id)).collect();
                for id in spoken_of {
                    // One whose value is none, and of which nothing was known, was not spoken of.
                    if events.iter().any(|event| is_session_of(event, id)) {
                        self.suspects.remove(&id);
                    }
                }
            }
            Cause::Expiry => self.suspects.retain(|_, (_, until)| *until > now),
        }
        let holder = in_etcd.iter().find(|(_, active)| **active).map(|(id, _)| *id);
        self.suspects.retain(|id, (session, _)| {
            let replaced = session.exclusive && !session.standby && holder.is_some_and(|holder| holder != *id);
            !in_etcd.contains_key(id) && !replaced
        });
    }

    fn equals(&self, table: &PeerTable, keys: &Keys, model: &Model, era: usize) -> Result<(), String> {
        let mut expected: BTreeMap<i64, (Session, bool)> =
            self.suspects.iter().map(|(id, (session, _))| (*id, (session.clone(), true))).collect();
        expected.extend(sessions(keys).into_iter().map(|(id, session)| (id, (session, false))));
        let found: BTreeMap<i64, (Session, bool)> =
            table.sessions.iter().map(|(id, entry)| (id.0, (session(entry), entry.suspect))).collect();
        let ids: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
        for id in ids {
            let (expected, found) = (expected.get(&id), found.get(&id));
            if expected != found && !self.outlives(id, found.map(|(session, _)| session), keys, model, era) {
                return Err(format!("at {}: {id} should be {expected:?}, and is {found:?}", table.revision));
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
            let said = earlier.find(|(last, session)| *last == id && found.is_none_or(|found| found == session));
            let Some((_, session)) = said else { continue };
            if found.is_some() {
                return true;
            }
            was_seen |= era == self.era && self.last.get(&id).is_some_and(|known| known.created == session.created);
        }
        // Nobody has to remember what it did not see. What it saw, it may not forget.
        found.is_none() && !was_seen && !sessions(keys).contains_key(&id)
    }

    /// Tables differ in when an identity appeared if, and only if, one without it was between them.
    fn appearances(&mut self, table: &PeerTable) -> Result<(), String> {
        for (id, entry) in &table.sessions {
            let (stays, known) = (self.last.contains_key(&id.0), self.appeared.insert(id.0, entry.appeared));
            let right =
                if stays { known == Some(entry.appeared) } else { known.is_none_or(|last| last < entry.appeared) };
            if !right {
                return Err(format!(
                    "{id} was there before: {stays}; it appeared in {known:?}, now {}",
                    entry.appeared
                ));
            }
        }
        Ok(())
    }

    /// The table says what has changed since earlier ones: just that since the last, no less since any other.
    fn touched(&self, table: &PeerTable) -> Result<(), String> {
        let last = self.tables.len() - 1;
        for earlier in [last, last / 2] {
            let before = &self.tables[earlier];
            let told = table.touched.since(&before.touched).ok_or("it does not remember what has changed")?;
            let told: BTreeSet<i64> = told.map(|id| id.0).collect();
            let ids = before.sessions.keys().chain(table.sessions.keys());
            let changed = ids.filter(|id| before.sessions.get(*id) != table.sessions.get(*id));
            let changed: BTreeSet<i64> = changed.map(|id| id.0).collect();
            if !changed.is_subset(&told) || (earlier == last && changed != told) {
                return Err(format!("since {} {changed:?} have changed, {told:?} are told", before.revision));
            }
        }
        Ok(())
    }
}

fn is_session_of(event: &Event, id: i64) -> bool {
    match (place(event.key()), event) {
        (Some(place), Event::Put(stored)) => read(stored, place).is_some_and(|(of, _)| of == id),
        _ => false,
    }
}

fn found(table: &PeerTable) -> BTreeMap<i64, Session> {
    table.sessions.iter().map(|(id, entry)| (id.0, session(entry))).collect()
}

fn session(entry: &PeerSessionEntry) -> Session {
    Session {
        address: entry.record.address.clone(),
        version: entry.record.version.clone(),
        exclusive: entry.record.exclusive,
        stopping: entry.record.stopping,
        standby: entry.standby,
        created: entry.registration.create_revision,
        lease: entry.registration.lease_id,
    }
}

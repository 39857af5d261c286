//! What must hold for sessions, at every moment and at rest. See the invariants in `simulation`.

use std::collections::BTreeMap;

use componenthost::session::SessionStatus;
use plugin_api::peers::Registration;
use serde_json::Value;

use crate::simulation::keepers::process::{METADATA, Process, VOICES};
use crate::simulation::model::history::{Event, KeyValue};
use crate::simulation::model::leases::End;
use crate::simulation::world::World;

/// Where all sessions of the role are.
pub const SESSIONS: &str = "sim/meta/session/role";
/// The active key of the role.
pub const ACTIVE: &str = SESSIONS;

/// A process asks etcd for no more than this in a second, on an average over the whole run.
const MOST_REQUESTS: u64 = 25;

/// Follows the history.
pub struct Check {
    checked: i64,
}

impl Check {
    pub fn new(world: &World) -> Self {
        Self { checked: world.model.revision() }
    }

    /// At each moment.
    pub fn now(&mut self, processes: &[Process], world: &World) -> Result<(), String> {
        while self.checked < world.model.revision() {
            self.checked += 1;
            self.revision(self.checked, processes, world)?;
        }
        let mut certain = processes.iter().filter(|process| process.alive).filter_map(|process| {
            let (key, registration) = is_certain(process, world)?;
            Some((process, key, registration))
        });
        certain.try_for_each(|(process, key, registration)| is_there(process, &key, registration, world))
    }

    /// What a transaction did.
    fn revision(&self, revision: i64, processes: &[Process], world: &World) -> Result<(), String> {
        let history = world.model.history();
        let writer = world.writers.get(&(world.model.era(), revision)).map(|who| who / VOICES);
        for event in history.events(revision) {
            let Some(writer) = writer else { continue };
            let own = processes[writer].plan.id;
            let before = history.at(revision - 1).ok_or("a revision without one before it")?;
            if event.key() == METADATA {
                // A component's write is carried out only while the key is its own.
                let key = before.get(processes[writer].plan.key.as_str());
                if key.and_then(|key| id_of(key)) != Some(own) {
                    return Err(format!("at {revision}: {own} writes, but its key is {key:?}"));
                }
                continue;
            }
            if !event.key().starts_with(SESSIONS) {
                continue;
            }
            match event {
                Event::Put(key) => {
                    if id_of(key) != Some(own) {
                        return Err(format!("at {revision}: {own} registers as {:?}", id_of(key)));
                    }
                    if world.model.leases.owners.get(&key.lease) != Some(&own.unsigned_abs()) {
                        return Err(format!("at {revision}: {own} registers under lease {}", key.lease));
                    }
                }
                Event::Delete { .. } => {}
            }
            // Whatever was there before was its own, or of a process that is dead, or somebody else's rubbish.
            let former = before.get(event.key()).filter(|key| key.lease != 0).and_then(|key| id_of(key));
            let lives = |id: i64| processes.iter().any(|process| process.alive && process.plan.id == id);
            if former.is_some_and(|former| former != own && lives(former)) {
                return Err(format!("at {revision}: {own} takes the key of {former:?}, which lives: {event}"));
            }
        }
        Ok(())
    }

    /// At rest.
    pub fn at_rest(&self, processes: &[Process], world: &World) -> Result<(), String> {
        let mut registered = BTreeMap::new();
        let mut held = 0;
        let alive = || processes.iter().filter(|process| process.alive);
        for process in alive() {
            let id = process.plan.id;
            match process.lease.status() {
                SessionStatus::Held(kept) => {
                    held += 1;
                    registered.insert(kept.key.clone(), (id, kept.registration));
                }
                SessionStatus::StandBy(kept) => {
                    if world.model.keys().get(ACTIVE).and_then(|key| id_of(key)) != kept.holder.server_id.map(|id| id.0)
                    {
                        return Err(format!("at rest {id} stands by for {:?}", kept.holder));
                    }
                    registered.insert(kept.key.clone(), (id, kept.registration));
                }
                SessionStatus::HeldByOther { holder, .. } if process.plan.standby_key.is_none() => {
                    if world.model.keys().get(ACTIVE).and_then(|key| id_of(key)) != holder.server_id.map(|id| id.0) {
                        return Err(format!("at rest {id} waits for {holder:?}"));
                    }
                }
                other => return Err(format!("at rest {id} is {other:?}")),
            }
            let most = MOST_REQUESTS * (10 + world.now.as_secs());
            if process.requests > most {
                return Err(format!("{id} has asked {} times, more than {most}", process.requests));
            }
        }
        let exclusive = alive().any(|process| process.plan.key == ACTIVE);
        let expected = if exclusive { 1 } else { alive().count() };
        if held != expected {
            return Err(format!("at rest {held} are held, not {expected}"));
        }
        let keys = world.model.keys().values().filter(|key| key.key.starts_with(SESSIONS));
        let found: BTreeMap<_, _> = keys.map(|key| (key.key.to_string(), key)).collect();
        for (key, stored) in &found {
            let registration = Registration { create_revision: stored.created, lease_id: stored.lease };
            match registered.get(key) {
                Some((id, known)) if *known == registration && id_of(stored) == Some(*id) => {}
                known => return Err(format!("at rest {key} is {stored:?}, but {known:?} is registered")),
            }
        }
        if let Some(key) = registered.keys().find(|key| !found.contains_key(*key)) {
            return Err(format!("at rest {key} is not there"));
        }
        let leases = world.model.leases.live.keys();
        let needed = |lease: &i64| registered.values().any(|(_, registration)| registration.lease_id == *lease);
        match leases.copied().find(|lease| !needed(lease)) {
            Some(lease) => Err(format!("at rest lease {lease} is left over, and kept")),
            None => Ok(()),
        }
    }
}

/// What the process believes that etcd has, for certain.
fn is_certain(process: &Process, world: &World) -> Option<(String, Registration)> {
    let (key, registration, deadline) = match process.lease.status() {
        SessionStatus::Held(held) => (&held.key, held.registration, held.deadline),
        SessionStatus::StandBy(standby) => (&standby.key, standby.registration, standby.deadline),
        _ => return None,
    };
    (process.now(world) < deadline).then(|| (key.clone(), registration))
}

/// What is certain is so, unless somebody broke it by force. So no two are certain of the same key.
fn is_there(process: &Process, key: &str, registration: Registration, world: &World) -> Result<(), String> {
    let Registration { create_revision, lease_id } = registration;
    let stored = world.model.keys().get(key).filter(|stored| stored.created == create_revision);
    if stored.is_some_and(|stored| stored.lease == lease_id) {
        return Ok(());
    }
    let era = world.model.era();
    let removed = world.model.removed.get(&(era, key.to_owned(), create_revision));
    let ends = [removed.map(|(end, _)| end), world.model.leases.ended.get(&lease_id)];
    if ends.contains(&Some(&End::ByForce)) || stored.is_some_and(|stored| stored.lease == 0) {
        return Ok(());
    }
    // A standby key goes with the election, of whose end its process has not heard yet.
    let writer = removed.and_then(|(_, revision)| world.writers.get(&(era, *revision)));
    if key != ACTIVE && process.plan.key == ACTIVE && writer.map(|who| who / VOICES) == Some(process.number) {
        return Ok(());
    }
    Err(format!(
        "at {:?} {} is {:?}, but {key} is {stored:?}, removed {removed:?}, lease {:?}",
        process.now(world),
        process.plan.id,
        process.lease.status(),
        world.model.leases.ended.get(&lease_id),
    ))
}

/// Who says to be registered there.
pub fn id_of(stored: &KeyValue) -> Option<i64> {
    let value: Value = serde_json::from_slice(&stored.value).ok()?;
    value.get("ServerID")?.as_i64()
}

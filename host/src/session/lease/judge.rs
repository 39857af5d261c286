//! Whose are the keys, and what follows from it.

use plugin_api::peers::Registration;

use super::state::{Aim, State};
use super::{Key, Lease, Reading, Readings};
use crate::session::clock::BootTime;
use crate::session::takeover::{Found, Own, Owner};

impl Lease {
    /// Both keys were read at one revision.
    pub(super) fn judge(&mut self, readings: Readings, now: BootTime) {
        let Readings { main, standby, revision } = readings;
        let (standby, in_its_place) = match standby {
            Some(found) if self.is_of_present_lease(&found) => (Some(found), None),
            Some(found) if self.is_of_given_up_lease(&found) => return self.clear(Key::Standby, &found),
            // Rubbish, or of another process with our id.
            other => (None, other),
        };
        let Some(main) = main else {
            return self.aim(Aim::Put { standby: standby.map(|found| found.create_revision) });
        };
        match self.settings.own.owner_of(&main) {
            Owner::Us if self.is_of_present_lease(&main) => match standby {
                // What a transaction left whose answer was lost: one key is enough.
                Some(standby) => self.remove(Key::Standby, &standby),
                None => self.aim(Aim::Hold(main)),
            },
            Owner::Us if self.is_of_given_up_lease(&main) => self.clear(Key::Main, &main),
            Owner::OurFormerProcess => self.remove(Key::Main, &main),
            // Our id under a lease that was never ours: etcd has lost its data and given the id out again, and its holder
            // may be alive. Two keys of one id would be taken for one process: nothing is put.
            Owner::Us => self.block(&main, revision, now),
            Owner::Other => {
                if let Some(lease) = &mut self.lease
                    && lease.registered == Some(Key::Main)
                {
                    // It was put over, not deleted.
                    lease.registered = None;
                }
                if main.server_id.is_none() && self.settings.names_nobody_else() {
                    // Nobody else registers there: who waited for somebody to delete it would be lost for good.
                    return self.remove(Key::Main, &main);
                }
                match (standby, in_its_place) {
                    _ if self.settings.standby_key.is_none() => self.block(&main, revision, now),
                    (Some(own), _) => self.aim(Aim::StandBy { own, holder: main, revision }),
                    (None, Some(other)) => self.block(&other, revision, now),
                    (None, None) => self.aim(Aim::PutStandby { holder: main }),
                }
            }
        }
    }

    /// The watch shows a key. It may lag behind what is known, but never goes back.
    pub(super) fn see(&mut self, key: Key, reading: &Reading, now: BootTime) {
        match (&mut self.state, key) {
            (State::Held(kept), Key::Main) if reading.revision >= kept.registration.create_revision => {
                if let Some(cause) = self.settings.own.loss_of(kept.registration, reading) {
                    self.lose(cause, now);
                }
            }
            (State::StandingBy(standing), Key::Standby)
                if reading.revision >= standing.kept.registration.create_revision =>
            {
                if let Some(cause) = self.settings.own.loss_of(standing.kept.registration, reading) {
                    self.lose(cause, now);
                }
            }
            (State::StandingBy(standing), Key::Main) if reading.revision > standing.revision => match &reading.found {
                // The election, at once: whoever is first has the key.
                None => {
                    let standby = Some(standing.kept.registration.create_revision);
                    self.state = State::Putting(Aim::Put { standby });
                    self.not_before = now;
                }
                Some(found) if found.is_same_key_as(&standing.holder) => standing.revision = reading.revision,
                Some(_) => {
                    self.state = State::Reading;
                    self.not_before = now;
                }
            },
            (State::Blocked { revision, holder, .. }, Key::Main) if reading.revision > *revision => {
                let same = reading.found.as_ref().is_some_and(|found| found.lease_id == holder.lease_id);
                if !same {
                    self.state = State::Reading;
                    self.not_before = now;
                }
            }
            _ => {}
        }
    }

    /// Does what there is to do, once the lease is certain: an old one that etcd may have kept is asked for first, then
    /// nothing changes but the keys.
    fn aim(&mut self, aim: Aim) {
        self.state = if self.lease.is_some() { State::Asking(aim) } else { State::Granting(aim) };
    }

    /// A key under a lease that was given up, or lost its answer; or one without a lease, which no host makes.
    fn clear(&mut self, key: Key, found: &Found) {
        if let Some(lease) = &mut self.lease {
            // We remove it ourselves.
            lease.registered = None;
        }
        let lease_id = Some(found.lease_id).filter(|lease_id| *lease_id != 0);
        self.state = State::Clearing { key, lease_id, mod_revision: found.mod_revision };
    }

    /// Its lease stays: it is another's, or holds a key that is needed.
    fn remove(&mut self, key: Key, found: &Found) {
        self.state = State::Clearing { key, lease_id: None, mod_revision: found.mod_revision };
    }

    fn block(&mut self, found: &Found, revision: i64, now: BootTime) {
        let holder = found.holder();
        self.show_holder(&holder, now);
        self.state = match self.lease {
            Some(_) => State::Dropping(holder),
            None => State::Blocked { holder, revision, asked: false },
        };
    }

    fn is_of_present_lease(&self, found: &Found) -> bool {
        self.is_of_own_id(found) && self.lease.is_some_and(|lease| lease.id == found.lease_id)
    }

    fn is_of_given_up_lease(&self, found: &Found) -> bool {
        self.is_of_own_id(found) && (found.lease_id == 0 || self.granted.contains(&found.lease_id))
    }

    fn is_of_own_id(&self, found: &Found) -> bool {
        self.settings.own.owner_of(found) == Owner::Us
    }
}

impl Own {
    /// Why a key of ours is not any more as it was registered; `None` where it is.
    fn loss_of(&self, registration: Registration, reading: &Reading) -> Option<String> {
        match &reading.found {
            None => Some("its key was deleted".to_owned()),
            Some(found) if found.server_id != Some(self.server_id) => {
                Some(format!("its key was taken by {}", found.holder()))
            }
            // A put without the lease detaches the key from it.
            Some(found) if found.registration() != registration => {
                Some("its key was put anew by somebody else".to_owned())
            }
            Some(_) => None,
        }
    }
}

//! The life of a session, without I/O: what has happened comes in with its time, what is to be done next goes out.
//!
//! [`Lease::step`] says what to do now; what came of it, and what the watch of the key shows, is told by [`Lease::on`]. The
//! driver is in `keeper`. One thing is done at a time. Whatever goes wrong, the way back is the same: read the key, see whose
//! it is, ask for the old lease where there is one, and register again.
//! Longer than most files, because `step` and `on` are two halves of one table.

use std::collections::BTreeSet;
use std::time::Duration;

use plugin_api::peers::Registration;

use crate::session::clock::BootTime;
use crate::session::status::{Held, Holder, SessionStatus};
use crate::session::takeover::{Found, Own, Owner};

/// How often it is said who holds a key that this host wants.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Pauses after failures while nothing is held: doubled from the first to the last, each shortened by up to a half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// A key as it was read, with the revision of etcd at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Who has the key.
    pub found: Option<Found>,
    /// The revision at which this was so.
    pub revision: i64,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The leases of this host's former process are revoked.
    FormerCleared,
    /// The key was read.
    Read(Reading),
    /// A lease was granted.
    Granted {
        /// The lease.
        lease_id: i64,
        /// Its time to live, as etcd gave it.
        ttl: Duration,
        /// When it was asked for.
        sent: BootTime,
    },
    /// The key was put, at this revision.
    Put(i64),
    /// The key was there already, so that it was not put.
    NotPut(Reading),
    /// The key of nobody who lives was removed, or had changed meanwhile.
    Cleared,
    /// A lease that is not needed was revoked, or left to expire.
    Dropped,
    /// The lease was renewed.
    Renewed {
        /// Its time to live from the moment of the request.
        ttl: Duration,
        /// When it was asked for.
        sent: BootTime,
    },
    /// etcd does not know the lease.
    LeaseGone,
    /// The other holder's lease was asked for.
    HolderAsked(Option<Duration>),
    /// What was to be done failed.
    Failed(String),
    /// The watch of the key shows this.
    Seen(Reading),
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Revoke the leases that the former process of this host left behind.
    ClearFormer,
    /// Read the key.
    ReadKey,
    /// Get a lease.
    Grant,
    /// Put the key under this lease, if it is not there.
    Put(i64),
    /// Renew this lease.
    Renew {
        /// The lease.
        lease_id: i64,
        /// After so long without an answer it is asked for through another member as well.
        hedge_after: Duration,
        /// How long the answer may take.
        limit: Duration,
    },
    /// Revoke this lease, and remove the key if its last change is still this one.
    Clear {
        /// The lease, where it may be revoked.
        lease_id: Option<i64>,
        /// The key's last change.
        mod_revision: i64,
    },
    /// Revoke this lease; a failure does not matter.
    Drop(i64),
    /// Ask for the lease of the other holder.
    AskHolder(i64),
    /// Nothing, until then or until the watch shows something.
    Wait(BootTime),
}

/// A lease of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    id: i64,
    ttl: Duration,
    /// When the renewal was sent that etcd last answered: the lease's life is counted from here.
    confirmed: BootTime,
    /// When the next renewal is due.
    renew_at: BootTime,
}

/// Each state leads to the next one named, or back to `Reading`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// At the start → `Reading`.
    ClearingFormer,
    /// → `Granting`, `Asking`, `Clearing`, `Blocked`.
    Reading,
    /// → `Putting`.
    Granting,
    /// The old lease is asked for → `Held` where the key is still ours, else `Putting`; `Clearing` or `Granting` where the
    /// lease has gone.
    Asking(Option<Found>),
    /// → `Held`, or as the key was found.
    Putting,
    /// → `Reading`.
    Clearing { lease_id: Option<i64>, mod_revision: i64 },
    /// Another has the key and a lease of ours is left over → `Blocked`.
    Dropping(Holder),
    /// Another has the key → `Reading` when it goes, and every so often.
    Blocked { holder: Holder, revision: i64, asked: bool },
    /// The key is ours → `Reading` when the lease or the key is lost.
    Held(Registration),
}

/// The life of one session.
#[derive(Clone, Debug)]
pub struct Lease {
    own: Own,
    key: String,
    state: State,
    lease: Option<Granted>,
    /// All leases that this process was ever granted: a key of its id under any other one is not its own.
    granted: BTreeSet<i64>,
    /// Nothing is done before this moment.
    not_before: BootTime,
    failures: u32,
    random: fastrand::Rng,
    /// What others see; kept through the states between.
    status: SessionStatus,
}

impl Lease {
    /// A session that is to be registered under this key. The seed is that of the pauses' jitter.
    pub fn new(own: Own, key: String, now: BootTime, seed: u64) -> Self {
        Self {
            own,
            key,
            state: State::ClearingFormer,
            lease: None,
            granted: BTreeSet::new(),
            not_before: now,
            failures: 0,
            random: fastrand::Rng::with_seed(seed),
            status: SessionStatus::Registering { since: now, last_error: None },
        }
    }

    /// How the session stands.
    pub fn status(&self) -> &SessionStatus {
        &self.status
    }

    /// The lease that may be alive.
    pub fn lease_id(&self) -> Option<i64> {
        self.lease.map(|lease| lease.id)
    }

    /// What is to be done now.
    pub fn step(&mut self, now: BootTime) -> Step {
        if let (State::Held(_), Some(lease)) = (&self.state, self.lease)
            && lease.deadline() <= now
        {
            self.lose("etcd has not answered a renewal within the lease's time to live".to_owned(), now);
        }
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        match &self.state {
            State::ClearingFormer => Step::ClearFormer,
            State::Reading => Step::ReadKey,
            State::Granting => Step::Grant,
            State::Asking(_) => self.lease.map_or(Step::ReadKey, |lease| Step::Renew {
                lease_id: lease.id,
                hedge_after: lease.ttl / 6,
                limit: lease.ttl / 6,
            }),
            State::Putting => self.lease.map_or(Step::Grant, |lease| Step::Put(lease.id)),
            State::Clearing { lease_id, mod_revision } => {
                Step::Clear { lease_id: *lease_id, mod_revision: *mod_revision }
            }
            State::Dropping(holder) => {
                self.lease.map_or(Step::AskHolder(holder.lease_id), |lease| Step::Drop(lease.id))
            }
            State::Blocked { holder, asked: false, .. } => Step::AskHolder(holder.lease_id),
            // The watch tells when the key goes; a read every so often is the second sign.
            State::Blocked { .. } => Step::ReadKey,
            State::Held(_) => self.keep(now),
        }
    }

    fn keep(&self, now: BootTime) -> Step {
        match self.lease {
            Some(lease) if lease.renew_at <= now => Step::Renew {
                lease_id: lease.id,
                hedge_after: lease.ttl / 6,
                limit: (lease.ttl / 6).min(lease.deadline().since(now)),
            },
            Some(lease) => Step::Wait(lease.renew_at.min(lease.deadline())),
            None => Step::ReadKey,
        }
    }

    /// Something has happened.
    pub fn on(&mut self, event: Event, now: BootTime) {
        match event {
            Event::Failed(error) => return self.fail(error, now),
            Event::Seen(reading) => return self.see(&reading, now),
            _ => self.failures = 0,
        }
        match (std::mem::replace(&mut self.state, State::Reading), event) {
            (State::ClearingFormer, Event::FormerCleared) | (State::Clearing { .. }, Event::Cleared) => {}
            (State::Reading | State::Blocked { .. }, Event::Read(reading)) => self.judge(reading, now),
            (State::Granting, Event::Granted { lease_id, ttl, sent }) => {
                self.granted.insert(lease_id);
                self.lease = Some(Granted::new(lease_id, ttl, sent));
                self.state = State::Putting;
            }
            (State::Putting, Event::Put(create_revision)) => self.hold(create_revision, now),
            (State::Putting, Event::NotPut(reading)) => self.judge(reading, now),
            (State::Asking(found), Event::Renewed { ttl, sent }) => {
                self.renewed(ttl, sent);
                match found {
                    Some(found) => self.hold(found.create_revision, now),
                    None => self.state = State::Putting,
                }
            }
            (State::Asking(found), Event::LeaseGone) => {
                self.lease = None;
                self.state = match found {
                    // The lease has gone and its key will: nobody else may remove it.
                    Some(found) => State::Clearing { lease_id: None, mod_revision: found.mod_revision },
                    None => State::Granting,
                };
            }
            (State::Dropping(holder), Event::Dropped) => {
                self.lease = None;
                self.state = State::Blocked { holder, revision: 0, asked: false };
            }
            (State::Blocked { holder, revision, .. }, Event::HolderAsked(lease_left)) => {
                let holder = Holder { lease_left, ..holder };
                self.show_holder(&holder, now);
                self.not_before = now + REPORT_EVERY;
                self.state = State::Blocked { holder, revision, asked: true };
            }
            (State::Held(registration), Event::Renewed { ttl, sent }) => {
                self.renewed(ttl, sent);
                self.state = State::Held(registration);
                self.show_held(registration);
            }
            (State::Held(_), Event::LeaseGone) => {
                self.lease = None;
                self.lose("etcd does not know the lease any more".to_owned(), now);
            }
            // An answer to nothing that was asked: the same step comes again.
            (state, _) => self.state = state,
        }
    }

    /// Whose is the key?
    fn judge(&mut self, reading: Reading, now: BootTime) {
        let Some(found) = reading.found else {
            // An old lease that etcd may have kept is asked for first: then nothing changes but the key.
            self.state = if self.lease.is_some() { State::Asking(None) } else { State::Granting };
            return;
        };
        self.state = match self.own.owner_of(&found) {
            Owner::Us if self.lease.is_some_and(|lease| lease.id == found.lease_id) => State::Asking(Some(found)),
            // The put of a lease that was given up, or lost its answer; or one without a lease, which no host makes.
            Owner::Us if found.lease_id == 0 || self.granted.contains(&found.lease_id) => {
                State::Clearing { lease_id: Some(found.lease_id), mod_revision: found.mod_revision }
            }
            Owner::OurFormerProcess => State::Clearing { lease_id: None, mod_revision: found.mod_revision },
            // Our id under a lease that was never ours: etcd has lost its data and given the id out again, and its holder
            // may be alive.
            Owner::Us | Owner::Other => {
                let holder = found.holder();
                self.show_holder(&holder, now);
                match self.lease {
                    Some(_) => State::Dropping(holder),
                    None => State::Blocked { holder, revision: reading.revision, asked: false },
                }
            }
        };
    }

    /// The watch shows the key. It may lag behind what is known, but never goes back.
    fn see(&mut self, reading: &Reading, now: BootTime) {
        match &self.state {
            State::Held(registration) if reading.revision >= registration.create_revision => {
                let Registration { create_revision, lease_id } = *registration;
                match &reading.found {
                    None => self.lose("its key was deleted".to_owned(), now),
                    Some(found) if found.server_id != Some(self.own.server_id) => {
                        self.lose(format!("its key was taken by {}", found.holder()), now);
                    }
                    // A put without the lease detaches the key from it.
                    Some(found) if (found.create_revision, found.lease_id) != (create_revision, lease_id) => {
                        self.lose("its key was put anew by somebody else".to_owned(), now);
                    }
                    Some(_) => {}
                }
            }
            State::Blocked { revision, holder, .. } if reading.revision > *revision => {
                let same = reading.found.as_ref().is_some_and(|found| found.lease_id == holder.lease_id);
                if !same {
                    self.state = State::Reading;
                    self.not_before = now;
                }
            }
            _ => {}
        }
    }

    fn fail(&mut self, error: String, now: BootTime) {
        self.failures = self.failures.saturating_add(1);
        if let (State::Held(_), Some(lease)) = (&self.state, &mut self.lease) {
            // Another try soon: until the deadline the session is as good as before.
            lease.renew_at = now + jittered(&mut self.random, lease.ttl / 12);
            return;
        }
        match &mut self.status {
            SessionStatus::Registering { last_error, .. } => *last_error = Some(error),
            SessionStatus::Lost { cause, .. } => *cause = error,
            _ => {}
        }
        // etcd gives each lease its whole time again when it comes back: an old one is asked for before that is over.
        let last_pause = self.lease.map_or(LAST_PAUSE, |lease| LAST_PAUSE.min(lease.ttl / 6));
        let longest = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(last_pause);
        self.not_before = now + jittered(&mut self.random, longest);
        if !matches!(self.state, State::ClearingFormer) {
            self.state = State::Reading;
        }
    }

    fn lose(&mut self, cause: String, now: BootTime) {
        self.state = State::Reading;
        self.not_before = now;
        self.status = SessionStatus::Lost { since: now, cause };
    }

    fn hold(&mut self, create_revision: i64, now: BootTime) {
        let Some(lease) = self.lease else {
            self.state = State::Reading;
            return;
        };
        let registration = Registration { create_revision, lease_id: lease.id };
        self.not_before = now;
        self.state = State::Held(registration);
        self.show_held(registration);
    }

    fn renewed(&mut self, ttl: Duration, sent: BootTime) {
        if let Some(lease) = &mut self.lease {
            *lease = Granted::new(lease.id, ttl, sent);
        }
    }

    fn show_held(&mut self, registration: Registration) {
        if let Some(lease) = self.lease {
            self.status = SessionStatus::Held(Held { key: self.key.clone(), registration, deadline: lease.deadline() });
        }
    }

    fn show_holder(&mut self, holder: &Holder, now: BootTime) {
        let (since, lease_left) = match &self.status {
            SessionStatus::HeldByOther { since, holder: known } if known.lease_id == holder.lease_id => {
                (*since, known.lease_left)
            }
            _ => (now, None),
        };
        let holder = Holder { lease_left: holder.lease_left.or(lease_left), ..holder.clone() };
        self.status = SessionStatus::HeldByOther { since, holder };
    }
}

impl Granted {
    fn new(id: i64, ttl: Duration, sent: BootTime) -> Self {
        Self { id, ttl, confirmed: sent, renew_at: sent + ttl / 3 }
    }

    fn deadline(&self) -> BootTime {
        self.confirmed + self.ttl
    }
}

fn jittered(random: &mut fastrand::Rng, longest: Duration) -> Duration {
    longest.mul_f64(1.0 - random.f64() / 2.0)
}

#[cfg(test)]
mod tests;

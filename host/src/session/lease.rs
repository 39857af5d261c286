//! The life of a session, without I/O: what has happened comes in with its time, what is to be done next goes out.
//!
//! [`Lease::step`] says what to do now; what came of it, and what the watches of the keys show, is told by [`Lease::on`]. The
//! driver is in `keeper`. One thing is done at a time. Whatever goes wrong, the way back is the same: read the keys, see whose
//! they are (`judge`), ask for the old lease where there is one, and register again (`turn`).
//!
//! A node has one key. A coordinator that may stand by has two, of which one is there at a time: the active key, and, while
//! another holds that, its own standby key. One lease holds both, and is kept through every change of the two.

mod event;
mod judge;
mod state;
mod step;
mod turn;

use std::collections::BTreeSet;
use std::time::Duration;

pub use self::event::{Event, Key, Reading, Readings};
pub use self::step::Step;

use self::state::{Aim, Granted, Kept, Standing, State};
use crate::session::clock::BootTime;
use crate::session::settings::OnDeleted;
use crate::session::status::{Holder, SessionStatus};
use crate::session::takeover::Own;

/// How often it is asked and said who holds a key that this host wants.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Pauses after failures while nothing is held: doubled from the first to the last, each shortened by up to a half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// What is to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// This process.
    pub own: Own,
    /// The key that is to be held.
    pub key: String,
    /// The key for the time in which another holds that one; `None` where there is no standby.
    pub standby_key: Option<String>,
    /// What is done where somebody deletes the key.
    pub on_deleted: OnDeleted,
}

/// The life of one session.
#[derive(Clone, Debug)]
pub struct Lease {
    settings: LeaseSettings,
    state: State,
    lease: Option<Granted>,
    /// All leases that this process was ever granted: a key of its id under any other one is not its own.
    granted: BTreeSet<i64>,
    /// Nothing is done before this moment, but what keeps a registration.
    not_before: BootTime,
    /// Must the key's value say that the component stops?
    stopping: bool,
    /// When it is next tried to make it say so.
    mark_at: BootTime,
    /// In a row, since a registration was settled.
    failures: u32,
    random: fastrand::Rng,
    /// What others see; kept through the states between.
    status: SessionStatus,
}

impl Lease {
    /// A session that is to be registered. The seed is that of the pauses' jitter.
    pub fn new(settings: LeaseSettings, now: BootTime, seed: u64) -> Self {
        Self {
            settings,
            state: State::ClearingFormer,
            lease: None,
            granted: BTreeSet::new(),
            not_before: now,
            stopping: false,
            mark_at: now,
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

    /// Is a key registered whose value says that the component stops?
    pub fn says_stopping(&self) -> bool {
        match &self.state {
            State::Held(kept) | State::StandingBy(Standing { kept, .. }) => kept.stopping,
            _ => false,
        }
    }

    /// What is to be done now.
    pub fn step(&mut self, now: BootTime) -> Step {
        if self.status.deadline().is_some_and(|deadline| deadline <= now) {
            self.lose("etcd has not answered a renewal within the lease's time to live".to_owned(), now);
        }
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        match (&self.state, self.lease) {
            (State::ClearingFormer, _) => Step::ClearFormer,
            (State::Granting(_), _) => Step::Grant,
            (State::Clearing { key, lease_id, mod_revision }, _) => {
                Step::Clear { key: *key, lease_id: *lease_id, mod_revision: *mod_revision }
            }
            (State::Blocked { holder, asked: false, .. }, _) => Step::AskHolder(holder.lease_id),
            (State::Deleted, _) => Step::Wait(now + REPORT_EVERY),
            (State::Asking(_), Some(lease)) => renewal(&lease, lease.ttl / 3),
            (State::Putting(aim), Some(lease)) => self.put(aim, &lease),
            (State::Dropping(_), Some(lease)) => Step::Drop(lease.id),
            (State::Held(kept), Some(lease)) => self.keep(&lease, Key::Main, kept, None, now),
            (State::StandingBy(standing), Some(lease)) => {
                self.keep(&lease, Key::Standby, &standing.kept, Some(standing), now)
            }
            // The watch tells when another's key goes; a read every so often is the second sign.
            (State::Reading | State::Blocked { .. }, _)
            | (State::Asking(_) | State::Putting(_) | State::Dropping(_), None)
            | (State::Held(_) | State::StandingBy(_), None) => Step::ReadKey,
        }
    }

    fn put(&self, aim: &Aim, lease: &Granted) -> Step {
        let (lease_id, stopping) = (lease.id, self.stopping);
        match aim {
            Aim::Put { standby } => Step::Put { lease_id, stopping, standby: *standby },
            Aim::PutStandby { holder } => Step::PutStandby { lease_id, stopping, active: holder.create_revision },
            Aim::Hold(_) | Aim::StandBy { .. } => Step::ReadKey,
        }
    }

    /// What keeps a registration.
    fn keep(&self, lease: &Granted, key: Key, kept: &Kept, standing: Option<&Standing>, now: BootTime) -> Step {
        let to_be_marked = self.stopping && !kept.stopping;
        let ask_at = standing.map(|standing| standing.ask_at);
        if lease.renew_at <= now {
            renewal(lease, (lease.ttl / 3).min(lease.deadline().since(now)))
        } else if to_be_marked && self.mark_at <= now {
            let create_revision = kept.registration.create_revision;
            Step::Mark { key, lease_id: lease.id, create_revision }
        } else if let Some(standing) = standing.filter(|standing| standing.ask_at <= now) {
            Step::AskHolder(standing.holder.lease_id)
        } else {
            let mark_at = to_be_marked.then_some(self.mark_at);
            let due = [mark_at, ask_at].into_iter().flatten().fold(lease.renew_at, BootTime::min);
            Step::Wait(due.min(lease.deadline()))
        }
    }

    /// Something has happened.
    pub fn on(&mut self, event: Event, now: BootTime) {
        match event {
            Event::Failed(error) => return self.fail(error, now),
            Event::Seen(key, reading) => return self.see(key, &reading, now),
            Event::LeaseGone => return self.lose_lease(now),
            Event::HistoryLost => return self.forget_history(now),
            Event::Stopping => {
                self.stopping = true;
                return;
            }
            _ => {}
        }
        match (std::mem::replace(&mut self.state, State::Reading), event) {
            (State::ClearingFormer, Event::FormerCleared) | (State::Clearing { .. }, Event::Cleared) => {}
            (State::Reading | State::Blocked { .. }, Event::Read(readings))
            | (State::Putting(_), Event::NotPut(readings)) => self.judge(readings, now),
            (State::Granting(aim), Event::Granted { lease_id, ttl, sent }) => {
                self.granted.insert(lease_id);
                self.lease = Some(Granted::new(lease_id, ttl, sent));
                self.state = State::Putting(aim);
            }
            (State::Putting(aim), Event::Put { revision, stopping }) => self.was_put(aim, revision, stopping, now),
            (State::Asking(aim), Event::Renewed { ttl, sent }) => {
                self.renewed(ttl, sent);
                self.pursue(aim, now);
            }
            (State::Dropping(holder), Event::Dropped) => {
                self.lease = None;
                self.state = State::Blocked { holder, revision: 0, asked: false };
            }
            (State::Blocked { holder, revision, .. }, Event::HolderAsked(lease_left)) => {
                let holder = Holder { lease_left, ..holder };
                self.show_holder(&holder, now);
                self.failures = 0;
                self.not_before = now + REPORT_EVERY;
                self.state = State::Blocked { holder, revision, asked: true };
            }
            (State::StandingBy(standing), Event::HolderAsked(lease_left)) => {
                self.state = State::StandingBy(Standing { lease_left, ask_at: now + REPORT_EVERY, ..standing });
                self.show();
            }
            (state @ (State::Held(_) | State::StandingBy(_)), Event::Renewed { ttl, sent }) => {
                self.renewed(ttl, sent);
                self.failures = 0;
                self.state = state;
                self.show();
            }
            (State::Held(kept), Event::Marked) => self.state = State::Held(Kept { stopping: true, ..kept }),
            (State::StandingBy(standing), Event::Marked) => {
                let kept = Kept { stopping: true, ..standing.kept };
                self.state = State::StandingBy(Standing { kept, ..standing });
            }
            // Not marked: somebody else was at it before the watch has shown it.
            (State::Held(_) | State::StandingBy(_), Event::NotPut(readings)) => {
                self.lose("its key was changed by somebody else".to_owned(), now);
                self.judge(readings, now);
            }
            // An answer to nothing that was asked: the same step comes again.
            (state, _) => self.state = state,
        }
    }
}

fn renewal(lease: &Granted, limit: Duration) -> Step {
    Step::Renew { lease_id: lease.id, hedge_after: lease.ttl / 6, limit }
}

fn jittered(random: &mut fastrand::Rng, longest: Duration) -> Duration {
    longest.mul_f64(1.0 - random.f64() / 2.0)
}

#[cfg(test)]
mod tests;

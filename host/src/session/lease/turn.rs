//! The turns that a session takes: held, in standby, lost, and how each is shown.

use std::time::Duration;

use plugin_api::peers::Registration;

use super::state::{Aim, Kept, Standing, State};
use super::{FIRST_PAUSE, Key, LAST_PAUSE, Lease, jittered};
use crate::session::clock::BootTime;
use crate::session::settings::OnDeleted;
use crate::session::status::{Held, Holder, SessionStatus, StandBy};
use crate::session::takeover::Found;

impl Lease {
    /// The lease is certain.
    pub(super) fn pursue(&mut self, aim: Aim, now: BootTime) {
        let deleted = self.lease.is_some_and(|lease| lease.has_lost_its_key(&aim));
        if deleted && self.settings.on_deleted == OnDeleted::Stop {
            self.state = State::Deleted;
            self.status = SessionStatus::Deleted { since: now };
            return;
        }
        match aim {
            Aim::Hold(found) => self.hold(found.create_revision, found.stopping, now),
            Aim::StandBy { own, holder, revision } => {
                self.stand_by(own.create_revision, own.stopping, holder, revision, now);
            }
            Aim::Put { .. } | Aim::PutStandby { .. } => self.state = State::Putting(aim),
        }
    }

    /// What was to be put was put, at this revision.
    pub(super) fn was_put(&mut self, aim: Aim, revision: i64, stopping: bool, now: BootTime) {
        match aim {
            Aim::PutStandby { holder } => self.stand_by(revision, stopping, holder, revision, now),
            _ => self.hold(revision, stopping, now),
        }
    }

    fn hold(&mut self, create_revision: i64, stopping: bool, now: BootTime) {
        if let Some(registration) = self.settle(Key::Main, create_revision, now) {
            self.state = State::Held(Kept { registration, stopping });
            self.show();
        }
    }

    fn stand_by(&mut self, create_revision: i64, stopping: bool, holder: Found, revision: i64, now: BootTime) {
        if let Some(registration) = self.settle(Key::Standby, create_revision, now) {
            let kept = Kept { registration, stopping };
            let since = match &self.status {
                SessionStatus::StandBy(known) => known.since,
                _ => now,
            };
            self.state = State::StandingBy(Standing { kept, holder, revision, ask_at: now, since, lease_left: None });
            self.show();
        }
    }

    fn settle(&mut self, key: Key, create_revision: i64, now: BootTime) -> Option<Registration> {
        let lease = self.lease.as_mut()?;
        lease.registered = Some(key);
        (self.failures, self.not_before, self.mark_at) = (0, now, now);
        Some(Registration { create_revision, lease_id: lease.id })
    }

    /// The registration is not certain any more. The lease may live: it is asked for first.
    pub(super) fn lose(&mut self, cause: String, now: BootTime) {
        self.state = State::Reading;
        self.not_before = now;
        self.status = SessionStatus::Lost { since: now, cause };
    }

    /// etcd does not know the lease, and its keys go with it.
    pub(super) fn lose_lease(&mut self, now: BootTime) {
        match (&self.state, &self.status) {
            (State::ClearingFormer | State::Blocked { .. } | State::Deleted, _) => {}
            (_, SessionStatus::Held(_) | SessionStatus::StandBy(_)) => {
                self.lease = None;
                self.lose("etcd does not know the lease any more".to_owned(), now);
            }
            _ => {
                self.lease = None;
                self.state = State::Reading;
            }
        }
    }

    /// etcd is not the one that it was: no revision that was known means anything.
    pub(super) fn forget_history(&mut self, now: BootTime) {
        if let Some(lease) = &mut self.lease {
            // Nobody deleted the key: etcd forgot it.
            lease.registered = None;
        }
        match (&self.state, &self.status) {
            (State::ClearingFormer | State::Deleted, _) => {}
            (_, SessionStatus::Held(_) | SessionStatus::StandBy(_)) => {
                self.lose("etcd has lost its data".to_owned(), now)
            }
            _ => {
                self.state = State::Reading;
                self.not_before = now;
            }
        }
    }

    pub(super) fn fail(&mut self, error: String, now: BootTime) {
        self.failures = self.failures.saturating_add(1);
        if let (State::Held(_) | State::StandingBy(_), Some(lease)) = (&self.state, &mut self.lease) {
            // Another try soon: until the deadline the session is as good as before.
            lease.renew_at = now + jittered(&mut self.random, lease.ttl / 12);
            self.mark_at = lease.renew_at;
            return;
        }
        match &mut self.status {
            SessionStatus::Registering { last_error, .. } => *last_error = Some(error),
            SessionStatus::Lost { cause, .. } => *cause = error,
            // These say all that counts.
            SessionStatus::HeldByOther { .. }
            | SessionStatus::Held(_)
            | SessionStatus::StandBy(_)
            | SessionStatus::Deleted { .. }
            | SessionStatus::Revoked => {}
        }
        // etcd gives each lease its whole time again when it comes back: an old one is asked for before that is over.
        let last_pause = self.lease.map_or(LAST_PAUSE, |lease| LAST_PAUSE.min(lease.ttl / 6));
        let longest = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(last_pause);
        self.not_before = now + jittered(&mut self.random, longest);
        if !matches!(self.state, State::ClearingFormer | State::Deleted) {
            self.state = State::Reading;
        }
    }

    pub(super) fn renewed(&mut self, ttl: Duration, sent: BootTime) {
        if let Some(lease) = &mut self.lease {
            lease.renew(ttl, sent);
        }
    }

    /// Shows the state in which the lease is kept, with its present deadline.
    pub(super) fn show(&mut self) {
        let Some(lease) = self.lease else { return };
        let deadline = lease.deadline();
        match &self.state {
            State::Held(kept) => {
                let key = self.settings.key.clone();
                self.status = SessionStatus::Held(Held { key, registration: kept.registration, deadline });
            }
            State::StandingBy(Standing { kept, holder, lease_left, since, .. }) => {
                let key = self.settings.standby_key.clone().unwrap_or_default();
                let holder = Holder { lease_left: *lease_left, ..holder.holder() };
                let (registration, since) = (kept.registration, *since);
                self.status = SessionStatus::StandBy(StandBy { key, registration, deadline, since, holder });
            }
            _ => {}
        }
    }

    pub(super) fn show_holder(&mut self, holder: &Holder, now: BootTime) {
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

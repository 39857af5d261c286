//! The states of a [`Lease`](super::Lease), and what each of them knows.

use std::time::Duration;

use plugin_api::peers::Registration;

use super::Key;
use crate::session::clock::BootTime;
use crate::session::status::Holder;
use crate::session::takeover::Found;

/// A lease of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) id: i64,
    pub(super) ttl: Duration,
    /// When the renewal was sent that etcd last answered: the lease's life is counted from here.
    confirmed: BootTime,
    /// When the next renewal is due.
    pub(super) renew_at: BootTime,
    /// Which key was registered under it, so that it can have been deleted.
    pub(super) registered: Option<Key>,
}

/// What is done as soon as the lease is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Nobody has the key: put it. The own standby key, of this create revision, goes in the same transaction.
    Put { standby: Option<i64> },
    /// Another has the active key: put the standby key.
    PutStandby { holder: Found },
    /// The key is there already and ours.
    Hold(Found),
    /// The standby key is there already and ours, and another has the active key.
    StandBy { own: Found, holder: Found, revision: i64 },
}

/// A key that is there and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) registration: Registration,
    /// Does its value say that the component stops?
    pub(super) stopping: bool,
}

/// Our standby key, and the active key of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) kept: Kept,
    pub(super) holder: Found,
    /// At this revision it was so.
    pub(super) revision: i64,
    /// When the holder's lease is asked for.
    pub(super) ask_at: BootTime,
    /// How long it lives unless it is renewed, as the last answer had it.
    pub(super) lease_left: Option<Duration>,
    /// Since when we stand by, whoever the holder is.
    pub(super) since: BootTime,
}

/// Each state leads to the next ones named, or back to `Reading`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// At the start → `Reading`.
    ClearingFormer,
    /// → `Granting`, `Asking`, `Clearing`, `Dropping`, `Blocked`.
    Reading,
    /// → `Putting`.
    Granting(Aim),
    /// The old lease is asked for → `Putting`, `Held`, `StandingBy`, or `Deleted`.
    Asking(Aim),
    /// → `Held`, `StandingBy`, or as the keys were found.
    Putting(Aim),
    /// → `Reading`.
    Clearing { key: Key, lease_id: Option<i64>, mod_revision: i64 },
    /// Another has the key and a lease of ours is left over → `Blocked`.
    Dropping(Holder),
    /// Another has the key → `Reading` when it goes, and every so often.
    Blocked { holder: Holder, revision: i64, asked: bool },
    /// The standby key is ours → `Putting`, the election, when the active key goes.
    StandingBy(Standing),
    /// The key is ours → `Reading` when the lease or the key is lost.
    Held(Kept),
    /// Somebody deleted the key, and that is a sign to stop. No way out.
    Deleted,
}

impl Granted {
    pub(super) fn new(id: i64, ttl: Duration, sent: BootTime) -> Self {
        Self { id, ttl, confirmed: sent, renew_at: sent + ttl / 3, registered: None }
    }

    /// etcd has answered a renewal that was sent then.
    pub(super) fn renew(&mut self, ttl: Duration, sent: BootTime) {
        *self = Self { registered: self.registered, ..Self::new(self.id, ttl, sent) };
    }

    pub(super) fn deadline(&self) -> BootTime {
        self.confirmed + self.ttl
    }

    /// Was a key deleted under this living lease, if this is still to be done? A key that another put over was not.
    pub(super) fn has_lost_its_key(&self, aim: &Aim) -> bool {
        match aim {
            Aim::Put { standby: None } => self.registered.is_some(),
            Aim::PutStandby { .. } => self.registered == Some(Key::Standby),
            Aim::Put { standby: Some(_) } | Aim::Hold(_) | Aim::StandBy { .. } => false,
        }
    }
}

//! What a [`Lease`](super::Lease) is told.

use std::time::Duration;

use crate::session::clock::BootTime;
use crate::session::takeover::Found;

/// Which of a session's keys it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The one that is to be held: a coordinator's active key, a node's own.
    Main,
    /// A coordinator's own key, while another holds the active one.
    Standby,
}

/// A key as it was read, with the revision of etcd at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Who has the key.
    pub found: Option<Found>,
    /// The revision at which this was so.
    pub revision: i64,
}

/// Both keys as one transaction read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// Who has the key that is to be held.
    pub main: Option<Found>,
    /// What lies at this process's standby key; `None` where it has no such key.
    pub standby: Option<Found>,
    /// The revision at which this was so.
    pub revision: i64,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The leases of this host's former process are revoked.
    FormerCleared,
    /// The keys were read.
    Read(Readings),
    /// A lease was granted.
    Granted {
        /// The lease.
        lease_id: i64,
        /// Its time to live, as etcd gave it.
        ttl: Duration,
        /// When it was asked for.
        sent: BootTime,
    },
    /// The key that was to be put was put.
    Put {
        /// At this revision.
        revision: i64,
        /// Does its value say that the component stops? As the step said.
        stopping: bool,
    },
    /// What was to be put was not, because the keys are not what it depends on, but so.
    NotPut(Readings),
    /// The key's value says now that the component stops.
    Marked,
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
    /// etcd does not know the lease, whatever it was that it was needed for.
    LeaseGone,
    /// The other holder's lease was asked for; `None` where that is not known.
    HolderAsked(Option<Duration>),
    /// What was to be done failed.
    Failed(String),
    /// The watch of this key shows it so.
    Seen(Key, Reading),
    /// The component stops: each registration from now on has to say so, the present one too.
    Stopping,
    /// etcd has lost its data: what was known of its revisions means nothing any more.
    HistoryLost,
}

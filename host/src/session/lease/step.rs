//! What a [`Lease`](super::Lease) asks for.

use std::time::Duration;

use super::Key;
use crate::session::clock::BootTime;

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Revoke the leases that the former process of this host left behind.
    ClearFormer,
    /// Read the key, and the standby key where there is one, in one transaction.
    ReadKey,
    /// Get a lease.
    Grant,
    /// Put the key, if it is not there; in the same transaction the own standby key goes. With a standby key this is the
    /// election.
    Put {
        /// The lease.
        lease_id: i64,
        /// Must the value say that the component stops?
        stopping: bool,
        /// The create revision that the standby key must have; `None` where there is none.
        standby: Option<i64>,
    },
    /// Put the standby key, if it is not there and the active key is still that one: late, it does nothing.
    PutStandby {
        /// The lease.
        lease_id: i64,
        /// Must the value say that the component stops?
        stopping: bool,
        /// The active key's create revision.
        active: i64,
    },
    /// Put this key again with a value that says that the component stops, if it is still the one of this create revision.
    Mark {
        /// Which key.
        key: Key,
        /// The lease.
        lease_id: i64,
        /// Its create revision.
        create_revision: i64,
    },
    /// Renew this lease.
    Renew {
        /// The lease.
        lease_id: i64,
        /// After so long without an answer it is asked for through another member as well.
        hedge_after: Duration,
        /// How long all of it may take.
        limit: Duration,
    },
    /// Revoke this lease, and remove the key if its last change is still this one.
    Clear {
        /// Which key.
        key: Key,
        /// The lease, where it may be revoked.
        lease_id: Option<i64>,
        /// The key's last change.
        mod_revision: i64,
    },
    /// Revoke this lease; a failure does not matter.
    Drop(i64),
    /// Ask for the lease of the other holder.
    AskHolder(i64),
    /// Nothing, until then or until a watch shows something.
    Wait(BootTime),
}

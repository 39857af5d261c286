//! Leases, as etcd keeps them: a lease lives for its TTL from the last renewal that the leader has answered, and no less; its
//! keys are removed, all in one transaction, up to half a second after. A new leader gives every lease its whole TTL again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::simulation::agenda::Moment;

/// Whoever was granted a lease, as the simulation names it.
pub type Owner = u64;

/// A lease that has not ended.
#[derive(Clone, Debug)]
pub struct Lease {
    pub ttl: Duration,
    pub expires: Moment,
    pub keys: BTreeSet<String>,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was not renewed in time.
    RanOut,
    /// Its owner, or whoever took its place, revoked it.
    Revoked,
    /// Somebody else did, or a leader that was none any more, or the data was lost: no promise of etcd's holds against that.
    ByForce,
}

/// All leases, and how those that are no more have ended.
#[derive(Default)]
pub struct Leases {
    pub live: BTreeMap<i64, Lease>,
    pub ended: BTreeMap<i64, End>,
    /// To whom each lease was granted, also those that are no more.
    pub owners: BTreeMap<i64, Owner>,
    granted: i64,
}

impl Leases {
    pub fn grant(&mut self, owner: Owner, ttl: Duration, now: Moment) -> i64 {
        self.granted += 1;
        // Ids are not in the order of their grants.
        let id = 1000 + (self.granted * 7919) % 100_003;
        self.live.insert(id, Lease { ttl, expires: now + ttl, keys: BTreeSet::new() });
        self.owners.insert(id, owner);
        id
    }

    /// The TTL of the renewed lease; none where there is none, or none any more though its keys may still be there.
    pub fn renew(&mut self, id: i64, now: Moment) -> Option<Duration> {
        let lease = self.live.get_mut(&id).filter(|lease| now < lease.expires)?;
        lease.expires = now + lease.ttl;
        Some(lease.ttl)
    }

    /// Whose time has run out.
    pub fn expired(&self, now: Moment) -> Vec<i64> {
        self.live.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| *id).collect()
    }

    /// A new leader.
    pub fn extend_all(&mut self, now: Moment) {
        for lease in self.live.values_mut() {
            lease.expires = lease.expires.max(now + lease.ttl);
        }
    }

    /// The keys that go with it.
    pub fn end(&mut self, id: i64, end: End) -> Option<BTreeSet<String>> {
        let lease = self.live.remove(&id)?;
        self.ended.insert(id, end);
        Some(lease.keys)
    }

    /// The key is held by this lease from now on, and by no other; 0 for none.
    pub fn attach(&mut self, key: &str, id: i64) {
        for lease in self.live.values_mut() {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.live.get_mut(&id) {
            lease.keys.insert(key.to_owned());
        }
    }
}

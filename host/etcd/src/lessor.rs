//! Leases, without I/O: who lives until when, and which keys go with whom. The time is handed in.
//!
//! Which keys a lease has follows from the store's changes ([`Lessor::follow`]), whether they come from a request or from a
//! data directory. To revoke is to forget the lease and to delete its keys; `machine` does the latter, because it makes a
//! revision of it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::refusal::Refusal;
use crate::store::Entry;

/// The least that a lease lives: one and a half of etcd's default election timeout of 1 s, in whole seconds.
pub const MIN_TTL: i64 = 2;

/// The most, as etcd has it, so that no clock overflows.
pub const MAX_TTL: i64 = 9_000_000_000;

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What was granted, in seconds.
    pub ttl: i64,
    /// When it ends unless it is renewed.
    pub deadline: Instant,
    /// The keys that end with it.
    pub keys: BTreeSet<Vec<u8>>,
}

/// All leases.
#[derive(Debug)]
pub struct Lessor {
    min_ttl: i64,
    leases: BTreeMap<i64, Lease>,
    /// By their ends.
    deadlines: BTreeSet<(Instant, i64)>,
    /// The lease that a key has now.
    holders: HashMap<Vec<u8>, i64>,
}

impl Default for Lessor {
    fn default() -> Self {
        Self { min_ttl: MIN_TTL, leases: BTreeMap::new(), deadlines: BTreeSet::new(), holders: HashMap::new() }
    }
}

fn deadline(now: Instant, ttl: i64) -> Instant {
    now + Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Lessor {
    /// Sets what each lease lives at least, in seconds.
    pub fn set_min_ttl(&mut self, ttl: i64) {
        self.min_ttl = ttl;
    }

    /// Grants a lease. What it lives in seconds is returned, which may be more than was asked for.
    ///
    /// # Errors
    ///
    /// The id is taken, or the time too long.
    pub fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<i64, Refusal> {
        if ttl > MAX_TTL {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(self.min_ttl);
        self.restore(id, ttl, now);
        Ok(ttl)
    }

    /// Takes a lease that is there already, at an etcd that starts again. See [`Lessor::begin`].
    pub fn restore(&mut self, id: i64, ttl: i64, now: Instant) {
        let deadline = deadline(now, ttl);
        self.deadlines.insert((deadline, id));
        self.leases.insert(id, Lease { ttl, deadline, keys: BTreeSet::new() });
    }

    /// Lets all leases live their whole time from now on, as etcd does at a start.
    pub fn begin(&mut self, now: Instant) {
        self.deadlines.clear();
        for (id, lease) in &mut self.leases {
            lease.deadline = deadline(now, lease.ttl);
            self.deadlines.insert((lease.deadline, *id));
        }
    }

    /// Lets a lease live its whole time again, which is returned. One whose time is over is not there any more.
    pub fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.deadline > now)?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = deadline(now, lease.ttl);
        self.deadlines.insert((lease.deadline, id));
        Some(lease.ttl)
    }

    /// Forgets a lease; its keys are there until they are deleted.
    pub fn remove(&mut self, id: i64) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.deadlines.remove(&(lease.deadline, id));
        Some(lease)
    }

    /// The lease of this id.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Their ids, those that end first before others.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.deadlines.iter().map(|(_, id)| *id)
    }

    /// Those whose time is over.
    pub fn expired(&self, now: Instant) -> Vec<i64> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }

    /// When the next one ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the changes of a revision: a key has the lease with which it was put last.
    pub fn follow(&mut self, entry: &Entry) {
        for change in &entry.changes {
            let kv = &change.kv;
            if let Some(former) = self.holders.remove(&kv.key)
                && let Some(lease) = self.leases.get_mut(&former)
            {
                lease.keys.remove(&kv.key);
            }
            if let Some(lease) = self.leases.get_mut(&kv.lease) {
                lease.keys.insert(kv.key.clone());
                self.holders.insert(kv.key.clone(), kv.lease);
            }
        }
    }
}

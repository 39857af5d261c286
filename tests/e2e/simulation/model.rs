//! A model of etcd, written from its documents (API guarantees, watch and lease of the API reference, and the known faults of
//! its releases). It shares no code with the host.
//!
//! One linear history that all members agree upon, and leases that the leader keeps. Requests are answered as of now
//! (linearizable); what watches show is a member's matter, which may lag behind: see [`server`].

pub mod history;
pub mod leases;
pub mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::agenda::Moment;
use crate::simulation::model::history::{History, Keys, Write};
use crate::simulation::model::leases::{End, Leases, Owner};

/// The leader looks for leases that have run out this often.
pub const EXPIRY_EVERY: Duration = Duration::from_millis(500);

/// What a transaction compares.
#[derive(Clone, Debug)]
pub enum Compare {
    /// The revision at which the key was created; 0 where it must not be there.
    Created(String, i64),
    /// The revision of the key's last change.
    Modified(String, i64),
}

/// Why etcd refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A put names a lease that is not there.
    NoSuchLease,
    /// Nobody leads.
    NoLeader,
}

/// etcd.
pub struct Model {
    /// The present history comes last; those before it were lost.
    histories: Vec<History>,
    pub leases: Leases,
    has_leader: bool,
    /// How, and at which revision, a key of this history and create revision was removed: for the checks.
    pub removed: BTreeMap<(usize, String, i64), (End, i64)>,
}

impl Model {
    /// Without keys, at this revision.
    pub fn new(first: i64) -> Self {
        let histories = vec![History::new(1, first)];
        Self { histories, leases: Leases::default(), has_leader: true, removed: BTreeMap::new() }
    }

    pub fn history(&self) -> &History {
        self.histories.last().expect("there is a present history")
    }

    /// The number of the present history.
    pub fn era(&self) -> usize {
        self.histories.len() - 1
    }

    /// A history that may be lost by now.
    pub fn history_of(&self, era: usize) -> &History {
        &self.histories[era]
    }

    pub fn keys(&self) -> &Keys {
        self.history().keys()
    }

    pub fn revision(&self) -> i64 {
        self.history().revision()
    }

    pub fn has_leader(&self) -> bool {
        self.has_leader
    }

    fn present(&mut self) -> &mut History {
        self.histories.last_mut().expect("there is a present history")
    }

    pub fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Created(key, revision) => {
                self.keys().get(key.as_str()).map_or(0, |stored| stored.created) == *revision
            }
            Compare::Modified(key, revision) => {
                self.keys().get(key.as_str()).map_or(0, |stored| stored.modified) == *revision
            }
        }
    }

    /// One transaction: these writes if all of this holds. Returns whether it did.
    pub fn transact(&mut self, compares: &[Compare], writes: &[Write], end: End) -> Result<bool, Refusal> {
        if !self.has_leader {
            return Err(Refusal::NoLeader);
        }
        if !compares.iter().all(|compare| self.holds(compare)) {
            return Ok(false);
        }
        let has = |lease: i64| lease == 0 || self.leases.live.contains_key(&lease);
        if writes.iter().any(|write| matches!(write, Write::Put { lease, .. } if !has(*lease))) {
            return Err(Refusal::NoSuchLease);
        }
        self.write(writes, end);
        Ok(true)
    }

    fn write(&mut self, writes: &[Write], end: End) {
        let (era, revision) = (self.era(), self.revision() + 1);
        for write in writes {
            match write {
                Write::Put { key, lease, .. } => self.leases.attach(key, *lease),
                Write::Delete { key } => {
                    if let Some(stored) = self.keys().get(key.as_str()) {
                        self.removed.insert((era, key.clone(), stored.created), (end, revision));
                    }
                    self.leases.attach(key, 0);
                }
            }
        }
        self.present().commit(writes);
    }

    pub fn grant(&mut self, owner: Owner, ttl: Duration, now: Moment) -> Result<i64, Refusal> {
        if !self.has_leader {
            return Err(Refusal::NoLeader);
        }
        Ok(self.leases.grant(owner, ttl, now))
    }

    /// Its TTL; `None` where there is no such lease.
    pub fn renew(&mut self, lease: i64, now: Moment) -> Result<Option<Duration>, Refusal> {
        if !self.has_leader {
            return Err(Refusal::NoLeader);
        }
        Ok(self.leases.renew(lease, now))
    }

    /// Ends a lease, and its keys in one transaction. False where there is no such lease.
    pub fn revoke(&mut self, lease: i64, end: End) -> Result<bool, Refusal> {
        if !self.has_leader {
            return Err(Refusal::NoLeader);
        }
        let Some(keys) = self.leases.end(lease, end) else { return Ok(false) };
        let writes: Vec<_> = keys.into_iter().map(|key| Write::Delete { key }).collect();
        self.write(&writes, end);
        Ok(true)
    }

    /// The leader removes what has run out. Returns these leases.
    pub fn expire(&mut self, now: Moment) -> Vec<i64> {
        if !self.has_leader {
            return Vec::new();
        }
        let expired = self.leases.expired(now);
        for lease in &expired {
            self.revoke(*lease, End::RanOut).expect("there is a leader");
        }
        expired
    }

    pub fn compact(&mut self, revision: i64) {
        if self.has_leader {
            self.present().compact(revision);
        }
    }

    pub fn lose_leader(&mut self) {
        self.has_leader = false;
    }

    pub fn elect(&mut self, now: Moment) {
        if !self.has_leader {
            self.has_leader = true;
            self.leases.extend_all(now);
        }
    }

    /// All data is lost: another cluster, or the same one at an earlier revision.
    pub fn lose_data(&mut self, cluster: u64, first: i64) {
        let leases: Vec<_> = self.leases.live.keys().copied().collect();
        for lease in leases {
            self.leases.end(lease, End::ByForce);
        }
        self.histories.push(History::new(cluster, first));
    }
}

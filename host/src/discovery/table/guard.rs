//! Peers that a list misses while it misses most of the role: more likely etcd has lost their keys than they their lives.
//!
//! etcd says *gone* of one peer by a DELETE, and that is believed at once. A list after an outage that has lost more than half
//! of a role is another matter: leases may have run out while nobody could renew them, or etcd came back without its data.
//! Those peers are kept for as long as a session may need to register again; whether they still answer is for
//! `connections` to find out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::identity::ServerId;

use crate::cluster::PeerSessionEntry;

/// Fewer peers are no crowd: half of two is one.
const LEAST_PEERS: usize = 3;

/// The peers that are kept though etcd does not have them.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// For how long; zero: nobody is kept.
    keep: Duration,
    suspects: BTreeMap<ServerId, Suspect>,
}

#[derive(Clone, Debug)]
struct Suspect {
    entry: Arc<PeerSessionEntry>,
    until: Instant,
}

impl Guard {
    pub fn new(keep: Duration) -> Self {
        Self { keep, suspects: BTreeMap::new() }
    }

    /// A list misses these of so many peers.
    pub fn missed(&mut self, missing: Vec<Arc<PeerSessionEntry>>, of: usize, now: Instant) {
        if self.keep.is_zero() || of < LEAST_PEERS || missing.len() * 2 <= of {
            // Those that are kept already stay until their time is over: this list says nothing new of them.
            return;
        }
        for entry in missing {
            let suspect = || Suspect {
                entry: Arc::new(PeerSessionEntry { suspect: true, ..(*entry).clone() }),
                until: now + self.keep,
            };
            self.suspects.entry(entry.server_id()).or_insert_with(suspect);
        }
    }

    /// The peer as it is kept.
    pub fn get(&self, server_id: ServerId) -> Option<&Arc<PeerSessionEntry>> {
        self.suspects.get(&server_id).map(|suspect| &suspect.entry)
    }

    /// Its key is there again, or its place is taken: it is not kept any more.
    pub fn release(&mut self, server_id: ServerId) {
        self.suspects.remove(&server_id);
    }

    /// Another holds the active key: who held it is replaced, and has no place to keep. Says who that was.
    pub fn replaced(&mut self, holder: ServerId) -> Vec<ServerId> {
        let was_active = |entry: &PeerSessionEntry| entry.record.exclusive && !entry.standby;
        let replaced = |(id, suspect): &(&ServerId, &Suspect)| **id != holder && was_active(&suspect.entry);
        let replaced: Vec<ServerId> = self.suspects.iter().filter(replaced).map(|(id, _)| *id).collect();
        for id in &replaced {
            self.suspects.remove(id);
        }
        replaced
    }

    /// Lets those go whose time is over. Says who they were.
    pub fn expire(&mut self, now: Instant) -> Vec<ServerId> {
        let over: Vec<ServerId> =
            self.suspects.iter().filter(|(_, suspect)| suspect.until <= now).map(|(id, _)| *id).collect();
        for id in &over {
            self.suspects.remove(id);
        }
        over
    }

    /// When the first time is over.
    pub fn due(&self) -> Option<Instant> {
        self.suspects.values().map(|suspect| suspect.until).min()
    }

    /// Who is kept.
    pub fn ids(&self) -> impl Iterator<Item = ServerId> {
        self.suspects.keys().copied()
    }
}

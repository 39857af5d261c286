//! What is known of a followed role beside its table, for people.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use plugin_api::identity::{Role, ServerId};
use serde::Serialize;
use tokio::sync::watch;

use crate::cluster::PeerTable;
use crate::discovery::table::{Skipped, Values};
use crate::etcd::watch::{Cause, Interruption};

/// How many restarts of a watch are kept for people.
const RESTARTS_KEPT: usize = 32;

/// What the task of a role counts.
#[derive(Default)]
pub(super) struct Record {
    pub(super) skipped_values: u64,
    pub(super) skipped_now: Vec<Skipped>,
    pub(super) reconciliations: u64,
    pub(super) corrections: u64,
    pub(super) resets: u64,
    /// etcd answers, as far as is known.
    pub(super) connected: bool,
    pub(super) values: Values,
    restarts: [u64; Cause::ALL.len()],
    last_restarts: VecDeque<Restart>,
}

/// A watch that had to be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What kind of thing it was.
    pub reason: &'static str,
    /// Why.
    pub why: String,
}

/// A followed role, as the admin answers show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FollowView {
    /// The role.
    pub role: Role,
    /// The etcd revision that the table reflects; 0 before the first list.
    pub revision: i64,
    /// How long ago etcd proved that the table is fresh; none before the first list.
    pub age_ms: Option<u64>,
    /// That is longer ago than it should be: the table is the last that was known.
    pub stale: bool,
    /// The role is followed: etcd answered, and no watch has broken since.
    pub connected: bool,
    /// How many sessions it has.
    pub sessions: usize,
    /// Those of them that etcd's last list did not have, and that are kept for a while.
    pub suspects: Vec<ServerId>,
    /// How often the watch had to be made again.
    pub restarts: u64,
    /// The same by what kind of thing it was.
    pub restarts_by_reason: BTreeMap<&'static str, u64>,
    /// The last of these.
    pub last_restarts: Vec<Restart>,
    /// How many values and deletions were taken so far, those of lists too, changed or not.
    pub valid_values: u64,
    /// How many values were no sessions so far, those of lists too, changed or not.
    pub invalid_values: u64,
    /// How many values were skipped so far, each once.
    pub skipped_values: u64,
    /// The keys whose values are skipped now, each with its reason.
    pub skipped_now: Vec<(String, String)>,
    /// How often the table was compared with a list of etcd's.
    pub reconciliations: u64,
    /// How many keys were found wrong by that: events that the watch has missed.
    pub corrections: u64,
    /// How often etcd was another than before, or had lost its data.
    pub resets: u64,
}

/// One followed role.
pub(super) struct Followed {
    pub(super) table: watch::Receiver<Arc<PeerTable>>,
    pub(super) record: Arc<Mutex<Record>>,
}

impl Record {
    pub(super) fn restarted(&mut self, interruption: Interruption) {
        let Interruption { cause, why } = interruption;
        self.connected = false;
        self.restarts[cause as usize] += 1;
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let at_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        self.last_restarts.push_back(Restart { at_ms, reason: cause.as_str(), why });
        if self.last_restarts.len() > RESTARTS_KEPT {
            self.last_restarts.pop_front();
        }
    }

    fn restarts_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Cause::ALL.iter().map(|cause| (cause.as_str(), self.restarts[*cause as usize]))
    }
}

impl Followed {
    pub(super) fn view(&self) -> FollowView {
        let table = Arc::clone(&*self.table.borrow());
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        FollowView {
            role: table.role.clone(),
            revision: table.revision,
            age_ms: table.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            stale: table.is_stale(),
            sessions: table.sessions.size(),
            suspects: table.sessions.iter().filter(|(_, entry)| entry.suspect).map(|(id, _)| *id).collect(),
            connected: record.connected,
            restarts: record.restarts.iter().sum(),
            restarts_by_reason: record.restarts_by_reason().collect(),
            valid_values: record.values.valid,
            invalid_values: record.values.invalid,
            last_restarts: record.last_restarts.iter().cloned().collect(),
            skipped_values: record.skipped_values,
            skipped_now: record.skipped_now.iter().map(|skipped| (skipped.key.clone(), skipped.why.clone())).collect(),
            reconciliations: record.reconciliations,
            corrections: record.corrections,
            resets: record.resets,
        }
    }
}

//! The task that follows one role: feeds its [`Table`] from etcd and publishes what comes of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use plugin_api::identity::Role;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::PeerTable;
use crate::discovery::table::{Skipped, Table};
use crate::etcd::Etcd;
use crate::etcd::watch::{Keys, Patience, Update, Watch};

/// How many restarts of a watch are kept for people.
const RESTARTS_KEPT: usize = 32;

/// What is known of a followed role beside its table.
#[derive(Default)]
pub(super) struct Record {
    restarts: u64,
    last_restarts: VecDeque<Restart>,
    skipped_values: u64,
    skipped_now: Vec<Skipped>,
}

/// A watch that had to be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
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
    /// How many sessions it has.
    pub sessions: usize,
    /// How often the watch had to be made again.
    pub restarts: u64,
    /// The last of these.
    pub last_restarts: Vec<Restart>,
    /// How many values were skipped so far.
    pub skipped_values: u64,
    /// The keys whose values are skipped now, each with its reason.
    pub skipped_now: Vec<(String, String)>,
}

/// One followed role.
pub(super) struct Followed {
    pub(super) table: watch::Receiver<Arc<PeerTable>>,
    pub(super) record: Arc<Mutex<Record>>,
}

/// Follows the role until it is told to stop.
pub(super) async fn follow(
    etcd: Etcd,
    role: Role,
    patience: Patience,
    tables: watch::Sender<Arc<PeerTable>>,
    record: Arc<Mutex<Record>>,
    stop: CancellationToken,
) {
    let keys = Keys::Prefix(etcd.keys().active_session(&role));
    let mut table = Table::new(role, etcd.keys().clone());
    let mut watch = Watch::new(etcd, keys, patience);
    loop {
        let update = tokio::select! {
            () = stop.cancelled() => return,
            update = watch.next() => update,
        };
        take(&mut table, update, &tables, &record);
    }
}

fn take(table: &mut Table, update: Update, tables: &watch::Sender<Arc<PeerTable>>, record: &Mutex<Record>) {
    let now = Instant::now();
    let role = table.published().role.clone();
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let skipped = match update {
        Update::Table { entries, revision, .. } => table.replace(&entries, revision, now),
        Update::Changes(changes) => table.change(&changes, now),
        Update::Fresh => {
            table.confirm(now);
            // Stored, so that the age is right; nobody needs to wake for it.
            tables.send_if_modified(|published| {
                published.clone_from(table.published());
                false
            });
            return;
        }
        Update::Interrupted(why) => {
            tracing::warn!(%role, why, "the watch of a role's sessions is made again");
            record.restarted(why);
            return;
        }
    };
    for Skipped { key, why, .. } in &skipped {
        tracing::warn!(%role, key, why, "a session's value is skipped");
    }
    record.skipped_values += skipped.len() as u64;
    record.skipped_now = table.skipped().cloned().collect();
    // Whoever reads the table then finds its record.
    drop(record);
    tables.send_replace(Arc::clone(table.published()));
}

impl Record {
    fn restarted(&mut self, why: String) {
        self.restarts += 1;
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let at_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        self.last_restarts.push_back(Restart { at_ms, why });
        if self.last_restarts.len() > RESTARTS_KEPT {
            self.last_restarts.pop_front();
        }
    }
}

impl Followed {
    pub(super) fn view(&self) -> FollowView {
        let table = Arc::clone(&*self.table.borrow());
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let age =
            table.confirmed_at.map(|confirmed| u64::try_from(confirmed.elapsed().as_millis()).unwrap_or(u64::MAX));
        FollowView {
            role: table.role.clone(),
            revision: table.revision,
            age_ms: age,
            sessions: table.sessions.len(),
            restarts: record.restarts,
            last_restarts: record.last_restarts.iter().cloned().collect(),
            skipped_values: record.skipped_values,
            skipped_now: record.skipped_now.iter().map(|skipped| (skipped.key.clone(), skipped.why.clone())).collect(),
        }
    }
}

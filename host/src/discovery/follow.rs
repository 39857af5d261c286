//! The task that follows one role: feeds its [`Table`] from etcd, publishes what comes of it, and looks now and then whether
//! it is right.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plugin_api::identity::{Role, ServerId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{PeerTable, SessionKey};
use crate::discovery::reconcile::Reconcile;
use crate::discovery::record::Record;
use crate::discovery::table::{Skipped, Table};
use crate::etcd::watch::resume::{Listed, Moment, Reset};
use crate::etcd::watch::{Interruption, Keys, Patience, Update, Watch};
use crate::etcd::{Etcd, EtcdError};
use crate::trouble::Trouble;

/// How many keys are named in one line of the log.
const NAMED: usize = 20;

/// How each role is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FollowSettings {
    /// When a silent watch is dead.
    pub patience: Patience,
    /// How often the table is compared with a list.
    pub reconcile_every: Duration,
    /// How long suspects are kept.
    pub suspect_for: Duration,
}

/// What a task writes for others.
#[derive(Clone)]
pub(super) struct Outlets {
    /// The role's tables.
    pub tables: watch::Sender<Arc<PeerTable>>,
    /// What people can see beside them.
    pub record: Arc<Mutex<Record>>,
    /// The highest server id of any role's table.
    pub highest: Arc<AtomicI64>,
}

/// One role that is followed.
pub(super) struct Follower {
    etcd: Etcd,
    keys: Keys,
    settings: FollowSettings,
    watch: Watch,
    table: Table,
    reconcile: Reconcile,
    trouble: Trouble,
    outlets: Outlets,
    listing: Option<Listing>,
}

/// A list for comparison. It must not hold up the watch.
type Listing = Pin<Box<dyn Future<Output = Result<Listed, EtcdError>> + Send>>;

impl Follower {
    pub(super) fn new(etcd: Etcd, role: Role, settings: FollowSettings, outlets: Outlets) -> Self {
        let keys = Keys::Prefix(etcd.keys().active_session(&role));
        let FollowSettings { patience, reconcile_every, suspect_for } = settings;
        let limit = patience.limit();
        Self {
            watch: Watch::new(etcd.clone(), keys.clone(), patience),
            table: Table::new(role, etcd.keys().clone()).guarded(suspect_for).stale_after(limit),
            // Longer than a watch that is dead takes to be found out.
            reconcile: Reconcile::new(reconcile_every, limit + patience.answer_within, moment()),
            trouble: Trouble::default(),
            listing: None,
            etcd,
            keys,
            settings,
            outlets,
        }
    }

    /// Follows the role until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let (expiry, look) = (self.table.due(), self.next_look());
            tokio::select! {
                () = stop.cancelled() => return,
                update = self.watch.next() => self.take(update),
                listed = maybe(self.listing.as_mut()) => {
                    self.listing = None;
                    self.compare(listed);
                }
                () = sleep_until(look) => self.look(),
                () = sleep_until(expiry) => self.expire(),
            }
        }
    }

    /// When the table is to be compared with a list: not before there is one, nor while nothing is heard of etcd.
    fn next_look(&self) -> Option<Instant> {
        let follows = self.table.published().confirmed_at().is_some() && !self.trouble.is_there();
        (follows && self.listing.is_none()).then(|| self.reconcile.due())
    }

    fn take(&mut self, update: Update) {
        let now = Instant::now();
        if let Update::Interrupted(interruption) = update {
            return self.broke(interruption, now);
        }
        if let Some(over) = self.trouble.works(now) {
            let lasted = humantime::format_duration(Duration::from_secs(over.lasted.as_secs()));
            tracing::info!(role = %self.role(), failures = over.failures, %lasted, "a role's sessions are followed again");
        }
        let skipped = match update {
            Update::Table { entries, revision, reset } => {
                if let Some(reset) = reset {
                    self.reset(reset);
                }
                let before = self.table.suspects().count();
                let skipped = self.table.replace(&entries, revision, now);
                self.tell_of_suspects(before);
                skipped
            }
            Update::Changes(changes) => self.table.change(&changes, now),
            Update::Fresh | Update::Interrupted(_) => {
                self.table.confirm(now);
                self.record().connected = true;
                return;
            }
        };
        for Skipped { key, why, .. } in &skipped {
            tracing::warn!(role = %self.role(), key, why, "a session's value is skipped");
        }
        let mut record = self.record();
        record.connected = true;
        record.values = self.table.values();
        record.skipped_values += skipped.len() as u64;
        record.skipped_now = self.table.skipped().cloned().collect();
        // Whoever reads the table then finds its record.
        drop(record);
        self.publish();
    }

    fn broke(&mut self, interruption: Interruption, now: Instant) {
        if let Some(failures) = self.trouble.failed(now) {
            let (reason, why) = (interruption.cause.as_str(), &interruption.why);
            tracing::warn!(role = %self.role(), reason, why, failures, "the watch of a role's sessions is made again");
        }
        self.record().restarted(interruption);
        self.listing = None;
        self.reconcile.abandon(now);
    }

    fn reset(&self, Reset { before, now }: Reset) {
        tracing::error!(
            role = %self.role(),
            cluster_before = format_args!("{:x}", before.cluster_id),
            cluster_now = format_args!("{:x}", now.cluster_id),
            revision_before = before.revision,
            revision_now = now.revision,
            "etcd is not the one that it was: it has lost its data, or another is in its place"
        );
        self.record().resets += 1;
    }

    fn tell_of_suspects(&self, before: usize) {
        let suspects = self.table.suspects().count();
        if suspects > before {
            let (of, kept) =
                (self.table.published().sessions.size(), humantime::format_duration(self.settings.suspect_for));
            tracing::warn!(role = %self.role(), suspects, of, %kept, "etcd's list misses most peers of a role: they are kept");
        }
    }

    fn look(&mut self) {
        let (etcd, keys) = (self.etcd.clone(), self.keys.clone());
        self.listing = Some(Box::pin(async move { etcd.list_keys(&keys).await }));
    }

    fn compare(&mut self, listed: Result<Listed, EtcdError>) {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(role = %self.role(), error = error.chain(), "no list to compare the table with");
                return self.reconcile.abandon(Instant::now());
            }
        };
        let (etcd, table) = (self.table.mod_revisions_of(&listed.entries), self.table.mod_revisions());
        let wrong = self.reconcile.compare(&etcd, &table, moment());
        let mut record = self.record();
        record.reconciliations += 1;
        record.corrections += wrong.len() as u64;
        drop(record);
        if !wrong.is_empty() {
            let keys: Vec<String> = wrong.iter().take(NAMED).map(|wrong| self.name(wrong.key)).collect();
            let (count, keys) = (wrong.len(), keys.join(", "));
            tracing::warn!(role = %self.role(), count, keys, "the watch has missed changes: the table is made again");
            self.watch.list_again();
        }
    }

    fn expire(&mut self) {
        let gone: Vec<String> = self.table.expire(Instant::now()).iter().map(ToString::to_string).collect();
        if !gone.is_empty() {
            tracing::warn!(role = %self.role(), gone = gone.join(", "), "suspects have not registered again: they are gone");
            self.publish();
        }
    }

    fn publish(&self) {
        self.outlets.highest.fetch_max(self.table.highest_server_id().0, Ordering::Relaxed);
        self.outlets.tables.send_replace(Arc::clone(self.table.published()));
    }

    fn name(&self, key: SessionKey) -> String {
        match key {
            SessionKey::Active => self.role().to_string(),
            SessionKey::Member(ServerId(id)) => format!("{}-{id}", self.role()),
        }
    }

    fn role(&self) -> &Role {
        &self.table.published().role
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.outlets.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moment() -> Moment {
    Moment { now: Instant::now(), chance: fastrand::f64() }
}

async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

//! The peers' sessions, followed in etcd: for each role one task, and its table as a watch.
//!
//! Readers never hold the task up: a late one gets the table as it is, a slow one the latest, and the counts in it tell what
//! was between. What a change of the table means for links and components is not decided here; `connections` and `admin` read
//! the tables. The rules of the table are in [`table`], without I/O.

mod follow;
pub mod reconcile;
mod record;
pub mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_api::identity::{Role, ServerId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::PeerTable;
use crate::discovery::follow::{FollowSettings, Follower, Outlets};
use crate::discovery::record::{Followed, Record};
use crate::etcd::Etcd;
use crate::etcd::watch::Patience;

pub use crate::discovery::record::{FollowView, Restart};

/// How long suspects are kept where nobody says otherwise: the default TTL of a session.
const SUSPECT_FOR: Duration = Duration::from_secs(15);

/// Section `[discovery]`: how the sessions of peers are followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// After so long without a word from etcd a watch asks for a sign of life. It bounds how old a table can be unnoticed.
    /// Default 5 s.
    #[serde(with = "humantime_serde")]
    pub ask_after: Duration,
    /// How long etcd may take to give the sign of life; then the watch is made again, at the next member. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub answer_within: Duration,
    /// About how often the table is compared with a full list, by which events are found that a watch has missed: etcd has had
    /// such faults. Default 5 min: one request for each host and role in that time.
    #[serde(with = "humantime_serde")]
    pub reconcile_every: Duration,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            ask_after: Duration::from_secs(5),
            answer_within: Duration::from_secs(3),
            reconcile_every: Duration::from_mins(5),
        }
    }
}

impl DiscoveryConfig {
    /// Less is a burden on etcd, not a gain.
    const LEAST: Duration = Duration::from_millis(100);

    /// The same for a watch of etcd.
    pub fn patience(&self) -> Patience {
        Patience { ask_after: self.ask_after, answer_within: self.answer_within }
    }

    /// All values that are out of range, as key and text.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let times = [
            ("ask_after", self.ask_after),
            ("answer_within", self.answer_within),
            ("reconcile_every", self.reconcile_every),
        ];
        times
            .into_iter()
            .filter(|(_, value)| *value < Self::LEAST)
            .map(|(key, value)| (key, format!("{} is less than 100ms", humantime::format_duration(value))))
            .collect()
    }
}

/// Follows the sessions of peers. Cheap to clone; all clones share the tasks.
#[derive(Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

struct Shared {
    etcd: Etcd,
    settings: FollowSettings,
    highest: Arc<AtomicI64>,
    followed: Mutex<BTreeMap<Role, Followed>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Discovery {
    /// Follows nothing yet. Suspects are kept for the default TTL of a session.
    pub fn new(etcd: Etcd, config: &DiscoveryConfig) -> Self {
        Self::with_ttl(etcd, config, SUSPECT_FOR)
    }

    /// Follows nothing yet. Where a list after an outage misses most peers of a role, they are kept as suspects for `ttl`, in
    /// which those that live register again.
    pub fn with_ttl(etcd: Etcd, config: &DiscoveryConfig, ttl: Duration) -> Self {
        let settings =
            FollowSettings { patience: config.patience(), reconcile_every: config.reconcile_every, suspect_for: ttl };
        let shared = Shared {
            etcd,
            settings,
            highest: Arc::default(),
            followed: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The table of this role, now and after each change. Before the first list it is [`PeerTable::unknown`]. The first who
    /// asks starts the task, on the present runtime; all others share it. After [`Discovery::stop`] it does not change any
    /// more.
    pub fn follow(&self, role: &Role) -> watch::Receiver<Arc<PeerTable>> {
        let mut followed = self.shared.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = followed.entry(role.clone()).or_insert_with(|| self.start(role));
        followed.table.clone()
    }

    fn start(&self, role: &Role) -> Followed {
        let (sender, table) = watch::channel(Arc::new(PeerTable::unknown(role.clone())));
        let record: Arc<Mutex<Record>> = Arc::default();
        let Shared { etcd, settings, highest, tasks, stop, .. } = &*self.shared;
        let outlets = Outlets { tables: sender, record: Arc::clone(&record), highest: Arc::clone(highest) };
        tasks.spawn(Follower::new(etcd.clone(), role.clone(), *settings, outlets).run(stop.clone()));
        Followed { table, record }
    }

    /// The highest server id that any table has ever had here; 0 before the first. An etcd that lost its data must not give
    /// out any up to this one again.
    pub fn highest_server_id(&self) -> ServerId {
        ServerId(self.shared.highest.load(Ordering::Relaxed))
    }

    /// Ends all tasks. The tables stay as they are.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Each followed role, as the admin answers show it.
    pub fn view(&self) -> Vec<FollowView> {
        let followed = self.shared.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.values().map(Followed::view).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last clone has gone, and nobody is left who could stop the tasks.
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patience_is_checked() {
        assert_eq!(DiscoveryConfig::default().mistakes(), []);
        let none = Duration::ZERO;
        let none = DiscoveryConfig { ask_after: none, answer_within: none, reconcile_every: none };
        assert_eq!(none.mistakes().len(), 3);
    }
}

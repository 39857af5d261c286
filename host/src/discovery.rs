//! The peers' sessions, followed in etcd: for each role one task, and its table as a watch.
//!
//! Readers never hold the task up: a late one gets the table as it is, a slow one the latest, and the counts in it tell what
//! was between. What a change of the table means for links and components is not decided here; `connections` and `admin` read
//! the tables. The rules of the table are in [`table`], without I/O.

mod follow;
pub mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_api::identity::Role;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::PeerTable;
use crate::discovery::follow::{Followed, Record, follow};
use crate::etcd::Etcd;
use crate::etcd::watch::Patience;

pub use crate::discovery::follow::{FollowView, Restart};

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
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(5), answer_within: Duration::from_secs(3) }
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
        [("ask_after", self.ask_after), ("answer_within", self.answer_within)]
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
    patience: Patience,
    followed: Mutex<BTreeMap<Role, Followed>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Discovery {
    /// Follows nothing yet.
    pub fn new(etcd: Etcd, config: &DiscoveryConfig) -> Self {
        let (patience, followed, tasks) = (config.patience(), Mutex::new(BTreeMap::new()), TaskTracker::new());
        Self { shared: Arc::new(Shared { etcd, patience, followed, tasks, stop: CancellationToken::new() }) }
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
        let record = Arc::new(Mutex::new(Record::default()));
        let Shared { etcd, patience, tasks, stop, .. } = &*self.shared;
        tasks.spawn(follow(etcd.clone(), role.clone(), *patience, sender, Arc::clone(&record), stop.clone()));
        Followed { table, record }
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
        let none = DiscoveryConfig { ask_after: Duration::ZERO, answer_within: Duration::ZERO };
        assert_eq!(none.mistakes().len(), 2);
    }
}

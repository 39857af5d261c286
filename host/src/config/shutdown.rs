//! `[shutdown]`: how long a stop may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// The most that a stop takes from the signal to the exit, whatever hangs. 30 s is what init systems and container
    /// runtimes commonly allow before they kill.
    #[serde(with = "humantime_serde")]
    pub limit: Duration,
    /// The most that components get to let their work move elsewhere while they still serve. A component whose work has
    /// moved ends it sooner.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The most that running calls get to end once new ones are refused. The rest of the limit is for `deactivate`, `stop`
    /// and giving up the session.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { limit: Duration::from_secs(30), grace: Duration::from_secs(15), drain: Duration::from_secs(5) }
    }
}

impl ShutdownConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let shown = humantime::format_duration;
        let used = self.grace.saturating_add(self.drain);
        if used < self.limit {
            return Vec::new();
        }
        let (used, limit) = (shown(used), shown(self.limit));
        vec![("limit", format!("expected more than shutdown.grace + shutdown.drain ({used}), found {limit}"))]
    }
}

//! `[supervision]`: how a failed component is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Backoff and quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisionConfig {
    /// The wait before the first restart of a failed component; each further one doubles it.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    /// The most that a wait grows to: half a minute spares what the component depends on, and comes back soon enough.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// How many failures within `quarantine_window` put the component in quarantine: it is not started again by itself, and
    /// its session is given up, so that a standby takes over.
    pub quarantine_after: u32,
    /// The time in which failures are counted.
    #[serde(with = "humantime_serde")]
    pub quarantine_window: Duration,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            quarantine_after: 5,
            quarantine_window: Duration::from_secs(600),
        }
    }
}

impl SupervisionConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let shown = humantime::format_duration;
        let mut mistakes = Vec::new();
        if self.backoff_min.is_zero() {
            mistakes.push(("backoff_min", "expected more than 0s, found 0s".to_owned()));
        }
        if self.backoff_max < self.backoff_min {
            let (least, found) = (shown(self.backoff_min), shown(self.backoff_max));
            mistakes
                .push(("backoff_max", format!("expected at least supervision.backoff_min ({least}), found {found}")));
        }
        if self.quarantine_after == 0 {
            mistakes.push(("quarantine_after", "expected at least 1, found 0".to_owned()));
        }
        if self.quarantine_window.is_zero() {
            mistakes.push(("quarantine_window", "expected more than 0s, found 0s".to_owned()));
        }
        mistakes
    }
}

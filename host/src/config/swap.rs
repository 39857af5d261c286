//! `[swap]`: how long the phases of a swap may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwapConfig {
    /// How long a new generation is made ready for a component that is busy: one that is just starting, or waits for its key.
    #[serde(with = "humantime_serde")]
    pub wait_limit: Duration,
    /// How long running calls of gated methods may take to end. Callers of others wait meanwhile, so it is short.
    #[serde(with = "humantime_serde")]
    pub gate_timeout: Duration,
    /// The most that `snapshot` and `restore` may take, each.
    #[serde(with = "humantime_serde")]
    pub hand_over_timeout: Duration,
    /// How long a call of a gated method may be held; then the swap is refused, and the call goes to the former generation as
    /// soon as what was done is undone: that takes no longer than the limits of the methods that it calls.
    #[serde(with = "humantime_serde")]
    pub hold_limit: Duration,
    /// How long the former generation is kept, where a swap does not say it itself: a new one that fails is rolled back.
    #[serde(with = "humantime_serde")]
    pub probation: Duration,
    /// How long the former generation's calls may take to end once the new one stays; then they are cut.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for SwapConfig {
    fn default() -> Self {
        Self {
            wait_limit: Duration::from_secs(60),
            gate_timeout: Duration::from_secs(5),
            hand_over_timeout: Duration::from_secs(5),
            hold_limit: Duration::from_secs(10),
            probation: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

impl SwapConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let limits = [
            ("wait_limit", self.wait_limit),
            ("gate_timeout", self.gate_timeout),
            ("hand_over_timeout", self.hand_over_timeout),
            ("hold_limit", self.hold_limit),
        ];
        let none = limits.into_iter().filter(|(_, limit)| limit.is_zero());
        none.map(|(key, _)| (key, "expected more than 0s, found 0s".to_owned())).collect()
    }
}

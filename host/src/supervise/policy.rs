//! When a failed component is started again, and when it is held: pure, time passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::SupervisionConfig;

/// A component's failures.
pub struct Policy {
    config: SupervisionConfig,
    /// When it failed, within the window, oldest first.
    failures: VecDeque<Instant>,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after so long.
    Restart(Duration),
    /// It failed too often: hold it.
    Quarantine,
}

impl Policy {
    /// No failures yet.
    pub fn new(config: SupervisionConfig) -> Self {
        Self { config, failures: VecDeque::new() }
    }

    /// It has failed now.
    pub fn failed(&mut self, now: Instant) -> Decision {
        self.failures.push_back(now);
        let window = self.config.quarantine_window;
        self.failures.retain(|failure| now.duration_since(*failure) <= window);
        let count = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if count >= self.config.quarantine_after {
            return Decision::Quarantine;
        }
        let doubled = self.config.backoff_min.saturating_mul(2_u32.saturating_pow(count - 1));
        Decision::Restart(doubled.min(self.config.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new(SupervisionConfig {
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(3),
            quarantine_after: 5,
            quarantine_window: Duration::from_secs(600),
        })
    }

    #[test]
    fn the_backoff_grows_to_its_limit_and_then_it_is_held() {
        let (mut policy, now) = (policy(), Instant::now());
        let decisions: Vec<Decision> = (0..5).map(|_| policy.failed(now)).collect();
        let restart = |seconds| Decision::Restart(Duration::from_secs(seconds));
        assert_eq!(decisions, [restart(1), restart(2), restart(3), restart(3), Decision::Quarantine]);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut policy, begin) = (policy(), Instant::now());
        for minute in (0..60).step_by(11) {
            let now = begin + Duration::from_secs(minute * 60);
            assert_eq!(policy.failed(now), Decision::Restart(Duration::from_secs(1)));
        }
    }
}

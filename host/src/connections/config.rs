//! `[connections]`: how peers are dialled, and for how long calls wait.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What users set of the connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    /// How long one try lasts: a window in which a peer is dialled with backoff. Default 30 s, as the three tries of thirty
    /// seconds are what operators of such clusters expect.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How many windows may fail before a peer is given up until etcd tells of it again. Default 3.
    pub windows: u32,
    /// The pause after a window's first failed dial. Default 100 ms: a server that comes up is found soon.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    /// The longest pause between two dials. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// By how much each pause is longer than the one before. Default 1.6.
    pub backoff_factor: f64,
    /// By how much of itself a pause is longer or shorter by chance, so that many hosts do not dial one peer at the same
    /// moment. Default 0.2.
    pub jitter: f64,
    /// How often a peer that was given up is dialled all the same; `0s` never. Default 60 s: if only the way to it was cut,
    /// etcd has nothing to tell.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
    /// How long one dial may last: TCP, HTTP/2 and the peer's answer who it is. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How many dials may begin at once. Default 64; one that has been silent for a quarter of a second does not count.
    pub max_parallel_dials: usize,
    /// How many HTTP/2 connections a link has, 1 to 64. Default 1; more help where many large calls run to one peer at once.
    pub per_peer: usize,
    /// How often a link is asked for a sign of life, calls or not; `0s` never. Default 5 s: less is refused by servers of
    /// Milvus.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// How long that sign may take before the link counts as broken. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// How long a call without a deadline waits at most for its peer, however long it asks for. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub wait_cap: Duration,
    /// How long calls go on at a peer that said that it was stopping, after its session has gone. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub drain_limit: Duration,
    /// Must a peer say who it is? Default "": yes where callers must show certificates (`tls.mutual`), else no.
    pub require_identity: RequireIdentity,
}

/// What is done with a foreign server, which cannot say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequireIdentity {
    /// As TLS is: under mutual TLS it is not called.
    #[default]
    #[serde(rename = "")]
    UnderMutualTls,
    /// It is not called.
    Yes,
    /// It is called, and shown as not verified.
    No,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            windows: 3,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            backoff_factor: 1.6,
            jitter: 0.2,
            probe_interval: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            max_parallel_dials: 64,
            per_peer: 1,
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(2),
            wait_cap: Duration::from_secs(5),
            drain_limit: Duration::from_secs(30),
            require_identity: RequireIdentity::UnderMutualTls,
        }
    }
}

/// No duration needs to be longer, and the clock's arithmetic is safe with it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl ConnectionsConfig {
    /// The values that are out of range: key and text of each.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let durations = [
            ("window", self.window, true),
            ("backoff_min", self.backoff_min, true),
            ("backoff_max", self.backoff_max, true),
            ("probe_interval", self.probe_interval, false),
            ("connect_timeout", self.connect_timeout, true),
            ("keepalive_interval", self.keepalive_interval, false),
            ("keepalive_timeout", self.keepalive_timeout, true),
            ("wait_cap", self.wait_cap, false),
            ("drain_limit", self.drain_limit, false),
        ];
        for (key, value, must_be_some) in durations {
            if value > LONGEST {
                mistakes.push((key, format!("must be at most {}", humantime::format_duration(LONGEST))));
            } else if must_be_some && value.is_zero() {
                mistakes.push((key, "must be more than zero".to_owned()));
            }
        }
        if self.windows == 0 {
            mistakes.push(("windows", "must be at least 1".to_owned()));
        }
        if self.backoff_max < self.backoff_min {
            mistakes.push(("backoff_max", "must be at least backoff_min".to_owned()));
        }
        if !(1.0..=10.0).contains(&self.backoff_factor) {
            mistakes.push(("backoff_factor", "must be from 1 to 10".to_owned()));
        }
        if !(0.0..=0.9).contains(&self.jitter) {
            mistakes.push(("jitter", "must be from 0 to 0.9".to_owned()));
        }
        if !(1..=65_536).contains(&self.max_parallel_dials) {
            mistakes.push(("max_parallel_dials", "must be from 1 to 65536".to_owned()));
        }
        if !(1..=64).contains(&self.per_peer) {
            mistakes.push(("per_peer", "must be from 1 to 64".to_owned()));
        }
        mistakes
    }

    /// Must a peer say who it is, where callers must show certificates, or need not?
    pub(super) fn requires_identity(&self, mutual: bool) -> bool {
        match self.require_identity {
            RequireIdentity::UnderMutualTls => mutual,
            RequireIdentity::Yes => true,
            RequireIdentity::No => false,
        }
    }

    /// The pause after so many failed dials and one more; `chance` is from −1 to 1.
    pub(super) fn backoff(&self, dials: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(dials).unwrap_or(i32::MAX);
        let longest = self.backoff_max.as_secs_f64();
        let pause = (self.backoff_min.as_secs_f64() * self.backoff_factor.powi(exponent)).min(longest);
        Duration::from_secs_f64(pause * (1.0 + self.jitter * chance).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_jitter_stays_in_its_bounds() {
        let config = ConnectionsConfig::default();
        let pause = |dials, chance| config.backoff(dials, chance).as_millis();
        assert_eq!([0, 1, 2, 3].map(|dials| pause(dials, 0.0)), [100, 160, 256, 409]);
        assert_eq!([100, u32::MAX].map(|dials| pause(dials, 0.0)), [3000, 3000]);
        assert_eq!([-1.0, 1.0].map(|chance| pause(100, chance)), [2400, 3600]);
    }

    #[test]
    fn who_is_called_must_say_who_it_is_by_default_where_callers_show_certificates() {
        let required = |require_identity, mutual| {
            ConnectionsConfig { require_identity, ..Default::default() }.requires_identity(mutual)
        };
        assert!(required(RequireIdentity::default(), true) && !required(RequireIdentity::default(), false));
        assert!(required(RequireIdentity::Yes, false) && !required(RequireIdentity::No, true));
    }

    #[test]
    fn every_mistake_is_reported() {
        assert_eq!(ConnectionsConfig::default().mistakes(), vec![]);
        let nothing = Duration::ZERO;
        let wrong = ConnectionsConfig {
            window: nothing,
            windows: 0,
            backoff_min: Duration::from_secs(4),
            backoff_factor: f64::NAN,
            jitter: 1.0,
            connect_timeout: nothing,
            max_parallel_dials: 0,
            per_peer: 0,
            keepalive_timeout: nothing,
            wait_cap: LONGEST * 2,
            ..Default::default()
        };
        let mut keys: Vec<_> = wrong.mistakes().into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        let expected = [
            "backoff_factor",
            "backoff_max",
            "connect_timeout",
            "jitter",
            "keepalive_timeout",
            "max_parallel_dials",
            "per_peer",
            "wait_cap",
            "window",
            "windows",
        ];
        assert_eq!(keys, expected);
    }
}

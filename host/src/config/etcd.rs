//! `[etcd]`: where the registry is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where etcd is and where our keys lie in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// The members' client addresses.
    pub endpoints: Vec<String>,
    /// The first part of all keys.
    pub root_path: String,
    /// The second part of all keys.
    pub meta_sub_path: String,
    /// The most that connecting to a member may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The most that one request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            root_path: "componenthost".to_owned(),
            meta_sub_path: "meta".to_owned(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
        }
    }
}

impl EtcdConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        if self.endpoints.is_empty() { vec![("endpoints", "expected at least one".to_owned())] } else { Vec::new() }
    }
}

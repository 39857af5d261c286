//! `[cluster]`: which cluster this host belongs to.

use serde::{Deserialize, Serialize};

/// The cluster's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The name that every call carries, so that a host of another cluster refuses it. Empty is `etcd.root_path`: two
    /// clusters in one etcd differ in it anyway.
    pub name: String,
}

impl ClusterConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        // It travels in a header of every call.
        let travels = self.name.trim() == self.name && !self.name.contains(char::is_control);
        let text = || format!("expected no control characters and no spaces around it, found {:?}", self.name);
        if travels { Vec::new() } else { vec![("name", text())] }
    }
}

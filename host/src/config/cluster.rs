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
        let visible = self.name.bytes().all(|byte| byte.is_ascii_graphic());
        let text = || format!("expected visible ASCII characters without spaces, found {:?}", self.name);
        if visible { Vec::new() } else { vec![("name", text())] }
    }
}

//! The read-only answers over HTTP: how each component and each link stands.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The listener of the read-only answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The address that is bound, `ip:port`; a loopback one, because nobody is asked who they are. Port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9091) }
    }
}

impl AdminConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        if self.listen.ip().is_loopback() {
            return Vec::new();
        }
        vec![("listen", format!("expected a loopback address such as 127.0.0.1:9091, found {}", self.listen))]
    }
}

//! `[server]`: the listener that serves the components.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where this host listens, and how others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address that is bound, `ip:port`. Port 0 takes a free one, so that many hosts start from one file.
    pub listen: SocketAddr,
    /// `host:port` that is registered in etcd for others to call. Empty is the address that was bound.
    #[serde(with = "super::optional")]
    pub advertise: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), advertise: None }
    }
}

impl ServerConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        match &self.advertise {
            None if self.listen.ip().is_unspecified() => {
                let text =
                    format!("is needed, as host:port: others cannot call {}, which server.listen binds", self.listen);
                vec![("advertise", text)]
            }
            Some(address) if !is_callable(address) => {
                vec![("advertise", format!("expected host:port that others can call, found \"{address}\""))]
            }
            _ => Vec::new(),
        }
    }
}

/// Is it a host and a port, neither of which means "any"?
fn is_callable(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let named = match host.parse::<IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        Err(_) => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    named && port.parse::<u16>().is_ok_and(|port| port > 0)
}

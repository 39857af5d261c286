//! What a session is made of: the section `[session]`, and what the host adds to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use serde::{Deserialize, Serialize};

use crate::cluster::{Keys, Record};
use crate::session::version::Version;

/// Section `[session]`: how the host's own sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// How long a session lives in etcd without a renewal, in whole seconds: so long after a host's death its peers learn of
    /// it. etcd may raise it. Default 15 s; at least 2 s, and below 3 s only where a lost packet may cost the session.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// What is done where somebody deletes the key of a session whose lease lives. Default `register`: a registration must
    /// not be lost for good by a mistake.
    pub on_deleted: OnDeleted,
}

/// What is done where somebody deletes the key of a session whose lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeleted {
    /// It is put again under the same lease.
    #[default]
    Register,
    /// The host stops in good order: deleting the key is a way to tell it so.
    Stop,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(15), on_deleted: OnDeleted::Register }
    }
}

impl SessionConfig {
    /// The least TTL: under it a renewal at a third of it has no time left for a second try.
    const LEAST_TTL: Duration = Duration::from_secs(2);
    /// The greatest: for so long a dead host's peers would believe in it.
    const MOST_TTL: Duration = Duration::from_secs(3600);

    /// All values that are out of range, as key and text.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let ttl = humantime::format_duration(self.ttl);
        if self.ttl < Self::LEAST_TTL || self.ttl > Self::MOST_TTL {
            mistakes.push(("ttl", format!("{ttl} is not between 2s and 1h")));
        } else if self.ttl.subsec_nanos() != 0 {
            mistakes.push(("ttl", format!("{ttl} is not in whole seconds, which is all that etcd can count")));
        }
        mistakes
    }
}

/// What is registered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The role.
    pub role: Role,
    /// This host process.
    pub server_id: ServerId,
    /// A coordinator has the role's active key, a node one of its own.
    pub kind: Kind,
    /// Where peers reach this host, `host:port`; never an unspecified address.
    pub address: String,
    /// What this host's listener is bound to. A key of the same address and machine is taken over only if its port is ours.
    pub bound: SocketAddr,
    /// The component's version.
    pub version: Version,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The machine's name.
    pub host_name: String,
    /// The lease's time to live that is asked for.
    pub ttl: Duration,
    /// Does a coordinator stand by, under a key of its own, while another holds the active key? Else it waits without one.
    pub standby: bool,
    /// What is done where somebody deletes its key.
    pub on_deleted: OnDeleted,
}

impl SessionSettings {
    /// The key that is to be held.
    pub fn key(&self, keys: &Keys) -> String {
        match self.kind {
            Kind::Coordinator => keys.active_session(&self.role),
            Kind::Node => keys.member_session(&self.role, self.server_id),
        }
    }

    /// The key for the time in which another holds that one, where there is such a time.
    pub fn standby_key(&self, keys: &Keys) -> Option<String> {
        let stands_by = self.standby && self.kind == Kind::Coordinator;
        stands_by.then(|| keys.member_session(&self.role, self.server_id))
    }

    /// The value of either key under this lease.
    pub(super) fn value(&self, lease_id: i64, stopping: bool) -> Vec<u8> {
        let record = Record {
            server_id: self.server_id.0,
            server_name: self.role.to_string(),
            address: self.address.clone(),
            exclusive: self.kind == Kind::Coordinator,
            stopping,
            version: self.version.get(),
            lease_id,
            host_name: self.host_name.clone(),
            server_labels: self.labels.clone().into(),
        };
        serde_json::to_vec(&record).expect("a record has nothing that JSON cannot hold")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_is_checked() {
        let mistakes = |ttl| SessionConfig { ttl, ..SessionConfig::default() }.mistakes().len();
        assert_eq!(mistakes(SessionConfig::default().ttl), 0);
        assert_eq!(mistakes(Duration::from_secs(2)), 0);
        for bad in [Duration::ZERO, Duration::from_secs(1), Duration::from_millis(2500), Duration::from_secs(3601)] {
            assert_eq!(mistakes(bad), 1, "{bad:?}");
        }
    }
}

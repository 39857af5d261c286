//! Shared words: a session's record and keys in etcd, and the table of a role's peers.
//!
//! Leaf module: `session` writes these, `discovery` reads them and publishes tables, `connections` and `admin` follow the
//! tables. Keys and values are Milvus' own, so that its tools and ours can read one another's sessions.

mod confirmed;
mod farewells;
mod labels;
mod touched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Registration;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

/// No counter of server ids comes as far as this. A greater one was made up by whoever wrote it; a counter that went on from
/// there would come to its end.
pub const GREATEST_COUNTED: ServerId = ServerId(i64::MAX / 2);

/// The value of a session's key. Field names are Milvus'; unknown ones are ignored, absent ones take their default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Record {
    /// The id of the host process.
    #[serde(rename = "ServerID")]
    pub server_id: i64,
    /// The role.
    pub server_name: String,
    /// `host:port`.
    pub address: String,
    /// One active in a cluster.
    pub exclusive: bool,
    /// It will stop.
    pub stopping: bool,
    /// The component's version (semver).
    pub version: String,
    /// The lease that holds the key.
    #[serde(rename = "LeaseID")]
    pub lease_id: i64,
    /// The machine's name.
    pub host_name: String,
    /// Free labels, from the configuration.
    pub server_labels: Labels,
}

pub use self::confirmed::Confirmed;
pub use self::farewells::Farewells;
pub use self::labels::Labels;
pub use self::touched::Touched;

/// Where things lie in etcd: `<root_path>/<meta_sub_path>/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// The keys of one cluster.
    pub fn new(root_path: &str, meta_sub_path: &str) -> Self {
        Self { base: format!("{root_path}/{meta_sub_path}") }
    }

    /// The counter of server ids.
    pub fn next_server_id(&self) -> String {
        format!("{}/session/id", self.base)
    }

    /// The key of an exclusive role's active holder; also the prefix of all keys of the role.
    pub fn active_session(&self, role: &Role) -> String {
        format!("{}/session/{role}", self.base)
    }

    /// The key of a node, or of a coordinator in standby.
    pub fn member_session(&self, role: &Role, server_id: ServerId) -> String {
        format!("{}/session/{role}-{server_id}", self.base)
    }

    /// The prefix of a role's metadata, with its closing slash.
    pub fn metadata(&self, role: &Role) -> String {
        format!("{}/component/{role}/", self.base)
    }

    /// What a followed key is for this role: its active holder, one of its members, or nothing of its own
    /// (`querynode-3` is nothing of the role `query`).
    pub fn classify(&self, role: &Role, key: &[u8]) -> Option<SessionKey> {
        let of_session = key.strip_prefix(self.base.as_bytes())?.strip_prefix(b"/session/")?;
        let rest = std::str::from_utf8(of_session.strip_prefix(role.as_str().as_bytes())?).ok()?;
        if rest.is_empty() {
            return Some(SessionKey::Active);
        }
        let digits = rest.strip_prefix('-')?;
        // One key for each id: `-03` and `-+3` would be taken for `-3`, and their ends for its end.
        let is_plain = digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| digits.parse().ok().map(|id| SessionKey::Member(ServerId(id)))).flatten()
    }
}

/// Which of a role's keys it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionKey {
    /// The active holder of an exclusive role.
    Active,
    /// A node, or a coordinator in standby.
    Member(ServerId),
}

/// Sessions by server id. Tables share what they have in common: one change costs the same in a table of ten and of ten
/// thousand.
pub type Sessions = RedBlackTreeMapSync<ServerId, Arc<PeerSessionEntry>>;

/// All sessions of one role, as etcd had them at one revision.
#[derive(Clone, Debug)]
pub struct PeerTable {
    /// The role.
    pub role: Role,
    /// The etcd revision that the table reflects; 0 before the first list.
    pub revision: i64,
    /// When etcd last proved that the table is fresh; of this table and its clones.
    pub confirmed: Confirmed,
    /// A table that has not been confirmed for longer is stale.
    pub stale_after: Duration,
    /// Its sessions by server id.
    pub sessions: Sessions,
    /// Which of them have changed lately.
    pub touched: Touched,
    /// Who of those that have gone had said that it was stopping.
    pub farewells: Farewells,
}

impl PeerTable {
    /// The table of a role before the first list.
    pub fn unknown(role: Role) -> Self {
        Self {
            role,
            revision: 0,
            confirmed: Confirmed::default(),
            stale_after: Duration::MAX,
            sessions: Sessions::new_sync(),
            touched: Touched::default(),
            farewells: Farewells::default(),
        }
    }

    /// The active holder of an exclusive role.
    pub fn active(&self) -> Option<&Arc<PeerSessionEntry>> {
        self.sessions.values().find(|session| !session.standby && session.record.exclusive)
    }

    /// When etcd last proved that it is fresh; none before the first list.
    pub fn confirmed_at(&self) -> Option<Instant> {
        self.confirmed.moment()
    }

    /// How old it is; none before the first list.
    pub fn age(&self) -> Option<Duration> {
        self.confirmed_at().map(|confirmed| confirmed.elapsed())
    }

    /// Is it older than etcd's signs of life allow? Its sessions are then the last that was known of them.
    pub fn is_stale(&self) -> bool {
        self.age().is_none_or(|age| age > self.stale_after)
    }
}

/// One session in a [`PeerTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSessionEntry {
    /// The value of its key.
    pub record: Record,
    /// Which registration it is.
    pub registration: Registration,
    /// Only the key of a coordinator in standby is there.
    pub standby: bool,
    /// A list did not have it when it missed so many others that etcd is doubted, not the peers: it is kept for a while.
    pub suspect: bool,
    /// The number of the table with which this identity came. Tables that differ in it have one without it between them, also
    /// for a reader that missed that one.
    pub appeared: u64,
}

impl PeerSessionEntry {
    /// The id of the peer's host process.
    pub fn server_id(&self) -> ServerId {
        ServerId(self.record.server_id)
    }

    /// Does it say the same of the same registration, whenever it appeared and whoever doubts it?
    pub fn is_the_same_session(&self, other: &Self) -> bool {
        (&self.record, self.registration, self.standby) == (&other.record, other.registration, other.standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_seen_in_the_wild_parses() {
        let text = r#"{"ServerID":1,"ServerName":"indexnode","Address":"172.18.0.4:21121","TriggerKill":true,
            "Version":"2.3.7","IndexEngineVersion":{},"LeaseID":7587876367135244822,"HostName":"582ed5546221","EnableDisk":true}"#;
        let record: Record = serde_json::from_str(text).expect("Milvus' own value");
        assert_eq!((record.server_id, record.address.as_str()), (1, "172.18.0.4:21121"));
        assert_eq!(record.lease_id, 7_587_876_367_135_244_822);
        assert!(!record.exclusive && !record.stopping);
    }

    #[test]
    fn a_role_sees_its_own_keys_only() {
        let keys = Keys::new("by-dev", "meta");
        let role = Role::new("query").expect("a role");
        let classify = |key: &str| keys.classify(&role, key.as_bytes());
        assert_eq!(classify("by-dev/meta/session/query"), Some(SessionKey::Active));
        assert_eq!(classify("by-dev/meta/session/query-3"), Some(SessionKey::Member(ServerId(3))));
        for other in ["querynode", "querynode-3", "query-", "query-3a", "query-+3", "query-03", "query--3", "query-3/x"]
        {
            assert_eq!(classify(&format!("by-dev/meta/session/{other}")), None, "{other}");
        }
    }
}

//! Who is registered in etcd, read once.

use std::fmt;
use std::time::{Duration, Instant};

use etcd_client::GetOptions;
use plugin_api::identity::{Role, ServerId};

use super::failure::CallError;
use crate::cluster::{Keys, Record, SessionKey};
use crate::etcd::{Etcd, EtcdConfig};

/// How often etcd is asked again while a role is waited for.
const POLL: Duration = Duration::from_millis(200);

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The role.
    pub role: String,
    /// The id of the host process.
    pub server_id: ServerId,
    /// Where it is reached.
    pub address: String,
    /// `standby`, `stopping`, or nothing.
    pub remark: &'static str,
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (server id {}) at {}", self.role, self.server_id, self.address)?;
        if self.remark.is_empty() { Ok(()) } else { write!(formatter, ", {}", self.remark) }
    }
}

/// The host to call; where none is registered, etcd is asked again until then.
pub(super) async fn find(
    etcd: &EtcdConfig,
    role: &Role,
    server_id: Option<ServerId>,
    until: Instant,
) -> Result<Found, CallError> {
    loop {
        match choose(sessions(etcd).await?, etcd, role, server_id) {
            Err(CallError::NoSuchRole { .. } | CallError::NoSuchServer { .. }) if Instant::now() + POLL < until => {
                tokio::time::sleep(POLL).await;
            }
            chosen => return chosen,
        }
    }
}

/// All sessions of the cluster, with their keys.
async fn sessions(etcd: &EtcdConfig) -> Result<Vec<(Vec<u8>, Record)>, CallError> {
    let options = GetOptions::new().with_prefix();
    let answer = Etcd::connect(etcd).await?.get("list the sessions", prefix(etcd), Some(options)).await?;
    // What is no session (the counter of ids, foreign values) is passed over: it must not hide the others.
    let records = answer.kvs().iter().filter_map(|kv| {
        let record: Record = serde_json::from_slice(kv.value()).ok()?;
        (!record.address.is_empty()).then(|| (kv.key().to_vec(), record))
    });
    Ok(records.collect())
}

fn choose(
    sessions: Vec<(Vec<u8>, Record)>,
    etcd: &EtcdConfig,
    role: &Role,
    server_id: Option<ServerId>,
) -> Result<Found, CallError> {
    let keys = keys(etcd);
    let of_role: Vec<(SessionKey, &Record)> =
        sessions.iter().filter_map(|(key, record)| Some((keys.classify(role, key)?, record))).collect();
    if of_role.is_empty() {
        let registered = sessions.iter().map(|(_, record)| found(record, false)).collect();
        return Err(CallError::NoSuchRole { role: role.clone(), prefix: prefix(etcd), registered });
    }
    let active = of_role.iter().find(|(key, _)| *key == SessionKey::Active);
    // A coordinator without the active key stands by, also where nobody has it.
    let standby =
        |key: SessionKey, record: &Record| key != SessionKey::Active && (active.is_some() || record.exclusive);
    let all = || of_role.iter().map(|(key, record)| found(record, standby(*key, record))).collect::<Vec<_>>();
    if let Some(server_id) = server_id {
        let chosen = of_role.iter().find(|(_, record)| record.server_id == server_id.0);
        let missing = || CallError::NoSuchServer { role: role.clone(), server_id, registered: all() };
        return chosen.map(|(key, record)| found(record, standby(*key, record))).ok_or_else(missing);
    }
    match (active, of_role.as_slice()) {
        (Some((_, record)), _) | (None, [(_, record)]) => Ok(found(record, false)),
        (None, _) => Err(CallError::Several { role: role.clone(), registered: all() }),
    }
}

fn found(record: &Record, standby: bool) -> Found {
    let remark = match () {
        () if record.stopping => "stopping",
        () if standby => "standby",
        () => "",
    };
    let address = record.address.clone();
    Found { role: record.server_name.clone(), server_id: ServerId(record.server_id), address, remark }
}

fn keys(etcd: &EtcdConfig) -> Keys {
    Keys::new(&etcd.root_path, &etcd.meta_sub_path)
}

/// The prefix of all sessions' keys.
fn prefix(etcd: &EtcdConfig) -> String {
    format!("{}/{}/session/", etcd.root_path, etcd.meta_sub_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(key: &str, server_id: i64) -> (Vec<u8>, Record) {
        let role = key.split('-').next().unwrap_or_default().to_owned();
        let record = Record { server_id, server_name: role, address: format!("h:{server_id}"), ..Record::default() };
        (format!("componenthost/meta/session/{key}").into_bytes(), record)
    }

    fn chosen(sessions: &[(&str, i64)], role: &str, server_id: Option<i64>) -> Result<i64, String> {
        let sessions = sessions.iter().map(|(key, id)| session(key, *id)).collect();
        let role = Role::new(role).expect("a role");
        let found = choose(sessions, &EtcdConfig::default(), &role, server_id.map(ServerId));
        found.map(|found| found.server_id.0).map_err(|error| error.to_string())
    }

    #[test]
    fn the_active_one_goes_before_its_standbys() {
        let sessions = [("root-2", 2), ("root", 1), ("rootcoord", 5)];
        assert_eq!(chosen(&sessions, "root", None), Ok(1));
        assert_eq!(chosen(&sessions, "root", Some(2)), Ok(2));
        let error = chosen(&sessions, "root", Some(5)).expect_err("another role's");
        assert!(error.ends_with(":\n  root (server id 2) at h:2, standby\n  root (server id 1) at h:1"), "{error}");
    }

    #[test]
    fn where_nobody_is_active_standbys_are_called_so() {
        let exclusive = |(key, record)| (key, Record { exclusive: true, ..record });
        let sessions = [("root-2", 2), ("root-3", 3)].map(|(key, id)| exclusive(session(key, id)));
        let role = Role::new("root").expect("a role");
        let chosen = choose(sessions.to_vec(), &EtcdConfig::default(), &role, None);
        let error = chosen.expect_err("two").to_string();
        assert!(
            error.ends_with(":\n  root (server id 2) at h:2, standby\n  root (server id 3) at h:3, standby"),
            "{error}"
        );
    }

    #[test]
    fn several_nodes_have_to_be_told_apart() {
        let sessions = [("querynode-3", 3), ("querynode-4", 4)];
        assert_eq!(chosen(&sessions[..1], "querynode", None), Ok(3));
        assert_eq!(chosen(&sessions, "querynode", Some(4)), Ok(4));
        let error = chosen(&sessions, "querynode", None).expect_err("two");
        assert!(error.contains("--server-id:\n  querynode (server id 3) at h:3\n"), "{error}");
    }

    #[test]
    fn an_unknown_role_lists_those_that_there_are() {
        let error = chosen(&[("querynode-3", 3)], "rootcoord", None).expect_err("nobody");
        assert!(error.contains("componenthost/meta/session/; registered are:\n  querynode (server id 3)"), "{error}");
        assert!(chosen(&[], "rootcoord", None).expect_err("nobody").ends_with("registered are: none"));
    }
}

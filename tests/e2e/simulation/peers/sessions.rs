//! Sessions as hosts put them into etcd, and what a reader has to make of them: written and read here by themselves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::simulation::model::history::{KeyValue, Keys};

/// The role that is followed.
pub const ROLE: &str = "worker";
/// Its active key, and the prefix of all its keys.
pub const ACTIVE: &str = "sim/meta/session/worker";

/// A session of the role, as its key and value say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub address: String,
    pub version: String,
    pub exclusive: bool,
    pub stopping: bool,
    pub standby: bool,
    pub created: i64,
    pub lease: i64,
}

pub fn member(id: i64) -> String {
    format!("{ACTIVE}-{id}")
}

/// A value that is a session.
pub fn value(id: i64, address: &str, version: u32, exclusive: bool, stopping: bool) -> Vec<u8> {
    let value = json!({
        "ServerID": id, "ServerName": ROLE, "Address": address, "Exclusive": exclusive, "Stopping": stopping,
        "Version": format!("0.{version}.0"), "HostName": "somewhere", "TriggerKill": true,
    });
    value.to_string().into_bytes()
}

/// Values that are none, wherever they are put.
pub const RUBBISH: &[&[u8]] = &[
    b"",
    b"{",
    b"null",
    b"[]",
    b"17",
    b"\xff\xfe",
    b"{}",
    b"{\"ServerID\":\"3\",\"Address\":\"a:1\"}",
    b"{\"ServerID\":0,\"Address\":\"a:1\"}",
    b"{\"ServerID\":-4,\"Address\":\"a:1\"}",
    b"{\"ServerID\":3}",
    b"{\"ServerID\":3,\"Address\":\"\"}",
    b"{\"ServerID\":3,\"Address\":7}",
    b"{\"ServerID\":3,\"Address\":\"a:1\",\"Stopping\":\"yes\"}",
];

/// Keys that look like the role's and are not.
pub const FOREIGN: &[&str] = &["x", "x-3", "-", "-3a", "-+3", "--3", "-3/x", "/3", "-03", "-99999999999999999999"];

/// What the followed keys say, by server id.
pub fn sessions(keys: &Keys) -> BTreeMap<i64, Session> {
    let mut sessions = BTreeMap::new();
    for stored in keys.values() {
        let Some(place) = place(&stored.key) else { continue };
        let Some((id, session)) = read(stored, place) else { continue };
        // The active key decides where an identity has both.
        if place.is_none() || !sessions.contains_key(&id) {
            sessions.insert(id, session);
        }
    }
    sessions
}

/// `Some(None)` is the active key, `Some(Some(3))` that of member 3.
pub fn place(key: &str) -> Option<Option<i64>> {
    let rest = key.strip_prefix(ACTIVE)?;
    if rest.is_empty() {
        return Some(None);
    }
    let id: i64 = rest.strip_prefix('-')?.parse().ok()?;
    (member(id) == key && id >= 0).then_some(Some(id))
}

/// The session of a key; `None` where its value is none.
pub fn read(stored: &KeyValue, place: Option<i64>) -> Option<(i64, Session)> {
    let value: Value = serde_json::from_slice(&stored.value).ok()?;
    let value = value.as_object()?;
    let id = value.get("ServerID")?.as_i64().filter(|id| *id > 0)?;
    let address = value.get("Address")?.as_str().filter(|address| !address.is_empty())?.to_owned();
    let flag = |name: &str| value.get(name).map_or(Some(false), Value::as_bool);
    let (exclusive, stopping) = (flag("Exclusive")?, flag("Stopping")?);
    let version = value.get("Version").map_or(Some(""), Value::as_str)?.to_owned();
    if place.is_some_and(|place| place != id) {
        return None;
    }
    let standby = place.is_some() && exclusive;
    let KeyValue { created, lease, .. } = *stored;
    Some((id, Session { address, version, exclusive, stopping, standby, created, lease }))
}

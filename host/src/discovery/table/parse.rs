//! From a key's value to a session, or why it is none.

use plugin_api::identity::ServerId;

use crate::cluster::{Record, SessionKey};

/// The record of a key, or why it does not count.
pub(super) fn parse(key: SessionKey, value: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(value).map_err(|error| format!("it is no session: {error}"))?;
    if record.server_id <= 0 {
        return Err(format!("its ServerID is {}", record.server_id));
    }
    if record.address.is_empty() {
        return Err("it has no Address".to_owned());
    }
    match key {
        SessionKey::Member(ServerId(id)) if id != record.server_id => {
            Err(format!("its ServerID is {}, which is not the key's", record.server_id))
        }
        SessionKey::Member(_) | SessionKey::Active => Ok(record),
    }
}

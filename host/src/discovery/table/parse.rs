//! From a key's value to a session, or why it is none.

use plugin_api::identity::ServerId;

use crate::cluster::{Record, SessionKey};

/// The parser's error can have a text of the value in it, and a value can be of a megabyte.
const LONGEST_REASON: usize = 200;

/// The record of a key, or why it does not count.
pub(super) fn parse(key: SessionKey, value: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(value).map_err(no_session)?;
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

fn no_session(error: serde_json::Error) -> String {
    let (error, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    let text = error.strip_suffix(&place).unwrap_or(&error);
    if text.chars().count() <= LONGEST_REASON {
        return format!("it is no session: {error}");
    }
    format!("it is no session: {text:.LONGEST_REASON$}…{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(value: &str) -> String {
        parse(SessionKey::Active, value.as_bytes()).expect_err("no session")
    }

    #[test]
    fn a_reason_does_not_repeat_a_great_value() {
        assert_eq!(why("["), "it is no session: EOF while parsing a list at line 1 column 1");
        let great = why(&format!(r#"{{"ServerID":"{}"}}"#, "é".repeat(1 << 19)));
        assert!(great.starts_with("it is no session: invalid type: string \"éé") && great.len() < 600, "{great}");
        assert!(great.ends_with("… at line 1 column 1048590"), "{great}");
    }
}

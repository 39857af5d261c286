//! The state of a second version: that of the first with a field more, which a first version ignores.

use plugin_api::Snapshot;
use serde_json::{Map, Value, json};

/// The format's number.
pub const STATE_VERSION: u32 = 2;

/// The field.
const FIELD: &str = "handed_on";

/// How often a state has been handed to a second version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HandedOn(pub u64);

/// A state that is not what the components' states are.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is no JSON object.
    #[error("a state of the format {version} is no JSON object")]
    NoObject {
        /// The number of the format that it says it has.
        version: u32,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The first version's state as the second version writes it.
///
/// # Errors
///
/// [`StateError`].
pub fn second(snapshot: Snapshot, handed_on: HandedOn) -> Result<Snapshot, StateError> {
    let mut fields = read(&snapshot)?;
    fields.insert(FIELD.to_owned(), json!(handed_on.0));
    let bytes = Value::from(fields).to_string().into_bytes();
    Ok(Snapshot { state_version: STATE_VERSION, bytes, ..snapshot })
}

/// What the field holds; 0 in a state of a first version, which does not have it.
///
/// # Errors
///
/// [`StateError`].
pub fn handed_on(snapshot: &Snapshot) -> Result<HandedOn, StateError> {
    Ok(HandedOn(read(snapshot)?.get(FIELD).and_then(Value::as_u64).unwrap_or_default()))
}

fn read(snapshot: &Snapshot) -> Result<Map<String, Value>, StateError> {
    let no_object = |source| StateError::NoObject { version: snapshot.state_version, source };
    serde_json::from_slice(&snapshot.bytes).map_err(no_object)
}

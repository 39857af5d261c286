//! What one generation of a component hands to another in a swap: its state, with who can read it.
//!
//! A [`Snapshot`] counts the versions of a state, and either side of a swap may be the newer. So the bytes are an envelope, as
//! JSON: the state, and the oldest version that can read it. Who restores takes its own version, every older one (what that
//! did not have is defaulted, so each field that is added later has `#[serde(default)]`), and a newer one that says that it
//! can be read. What it does not know of it is ignored. All else is refused, with what was found and what can be read.
//!
//! A change that an older version would misunderstand, such as another meaning of a field, raises both numbers of
//! [`Format`]; a field that it can do without raises `version` alone.
//!
//! A newer version may also be a thin crate around an older one. In its `snapshot` it adds fields of its own to what the
//! component gave ([`Format::add`]); in its `restore` it takes them ([`Format::added`], nothing of an older version) and hands
//! the snapshot on as it came: the component within reads it, as it says that it can be read.

use plugin_api::Snapshot;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a version of a component writes its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The version of the state; the first is 1.
    pub version: u32,
    /// The oldest version that can read what this one writes.
    pub readable_from: u32,
}

/// Why a state cannot be given or taken.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes are something else, or cut off.
    #[error("what was handed over (version {found}, {bytes} bytes) is no state")]
    Garbage {
        /// The version that it came with.
        found: u32,
        /// How many bytes there were.
        bytes: usize,
        /// Where they are not as they should be.
        source: serde_json::Error,
    },
    /// It was written by a newer version, which does not say that this one can read it.
    #[error(
        "the state has version {found}, which versions from {readable_from} on can read; this one has version {own}"
    )]
    Newer {
        /// The version that was found.
        found: u32,
        /// The oldest that can read it.
        readable_from: u32,
        /// The version that this component writes.
        own: u32,
    },
    /// The envelope is one, and its content is not what its version has.
    #[error("the state of version {found} is not as version {own} reads it")]
    Content {
        /// The version that was found.
        found: u32,
        /// The version that this component writes.
        own: u32,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It cannot be written as JSON.
    #[error("the state cannot be written")]
    Write(#[source] serde_json::Error),
}

/// The bytes of a snapshot.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    readable_from: u32,
    state: T,
}

impl Format {
    /// A state as this version writes it; the files are added by whoever has some.
    ///
    /// # Errors
    ///
    /// Where it cannot be written as JSON.
    pub fn write(&self, state: &impl Serialize) -> Result<Snapshot, StateError> {
        let envelope = Envelope { readable_from: self.readable_from, state };
        let bytes = serde_json::to_vec(&envelope).map_err(StateError::Write)?;
        Ok(Snapshot { state_version: self.version, bytes, files: Vec::new() })
    }

    /// The state in a snapshot of this version, of an older one, or of a newer one that this one can read.
    ///
    /// # Errors
    ///
    /// [`StateError`], where it is none of these.
    pub fn read<T: DeserializeOwned>(&self, snapshot: &Snapshot) -> Result<T, StateError> {
        let (found, own) = (snapshot.state_version, self.version);
        let Envelope { readable_from, state } = envelope::<Value>(snapshot)?;
        if found > own && readable_from > own {
            return Err(StateError::Newer { found, readable_from, own });
        }
        serde_json::from_value(state).map_err(|source| StateError::Content { found, own, source })
    }

    /// The same snapshot in this format, with a field more: for a wrapper of the component that has given it.
    ///
    /// # Errors
    ///
    /// Where the snapshot is none of this module's, or the value cannot be written as JSON.
    pub fn add(&self, snapshot: Snapshot, field: &str, value: &impl Serialize) -> Result<Snapshot, StateError> {
        let mut state = envelope::<Map<String, Value>>(&snapshot)?.state;
        state.insert(field.to_owned(), serde_json::to_value(value).map_err(StateError::Write)?);
        Ok(Snapshot { files: snapshot.files, ..self.write(&state)? })
    }

    /// A field that [`Self::add`] has added, in this version or a newer one that this one can read; `None` where it is not
    /// there.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn added<T: DeserializeOwned>(&self, snapshot: &Snapshot, field: &str) -> Result<Option<T>, StateError> {
        let (found, own) = (snapshot.state_version, self.version);
        let value = self.read::<Map<String, Value>>(snapshot)?.remove(field);
        value.map(serde_json::from_value).transpose().map_err(|source| StateError::Content { found, own, source })
    }
}

fn envelope<T: DeserializeOwned>(snapshot: &Snapshot) -> Result<Envelope<T>, StateError> {
    let (found, bytes) = (snapshot.state_version, snapshot.bytes.len());
    serde_json::from_slice(&snapshot.bytes).map_err(|source| StateError::Garbage { found, bytes, source })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const ONE: Format = Format { version: 1, readable_from: 1 };
    const TWO: Format = Format { version: 2, readable_from: 1 };
    const THREE: Format = Format { version: 3, readable_from: 3 };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct First {
        id: i64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Second {
        id: i64,
        #[serde(default)]
        name: String,
    }

    #[test]
    fn either_side_may_be_the_newer() {
        let second = Second { id: i64::MIN, name: "n".to_owned() };
        let old = ONE.write(&First { id: i64::MAX }).unwrap();
        let new = TWO.write(&second).unwrap();
        assert_eq!((old.state_version, new.state_version), (1, 2));
        assert_eq!(TWO.read::<Second>(&old).unwrap(), Second { id: i64::MAX, name: String::new() });
        assert_eq!(ONE.read::<First>(&new).unwrap(), First { id: i64::MIN });
        assert_eq!(TWO.read::<Second>(&new).unwrap(), second);
        assert_eq!(THREE.read::<First>(&old).unwrap(), First { id: i64::MAX });
    }

    #[test]
    fn a_newer_state_that_does_not_say_that_it_can_be_read_is_refused() {
        let new = THREE.write(&First { id: 1 }).unwrap();
        let error = TWO.read::<First>(&new).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the state has version 3, which versions from 3 on can read; this one has version 2"
        );
        assert!(THREE.read::<First>(&new).is_ok());
    }

    #[test]
    fn what_is_no_state_is_refused_with_where() {
        let whole = ONE.write(&First { id: 1 }).unwrap().bytes;
        let cut = whole[..whole.len() - 1].to_vec();
        for (bytes, text) in [(vec![], "0 bytes"), (b"\xff\x00".to_vec(), "2 bytes"), (cut, "bytes) is no state")] {
            let error = ONE.read::<First>(&Snapshot { state_version: 1, bytes, files: Vec::new() }).unwrap_err();
            assert!(error.to_string().contains(text) && error.source().is_some(), "{error}");
        }
        let other = ONE.write(&"text").unwrap();
        let error = ONE.read::<First>(&other).unwrap_err();
        assert_eq!(error.to_string(), "the state of version 1 is not as version 1 reads it");
    }

    #[test]
    fn a_wrapper_adds_a_field_that_the_component_within_does_not_mind() {
        let within = ONE.write(&First { id: 7 }).unwrap();
        assert_eq!(TWO.added::<String>(&within, "name").unwrap(), None);
        let wrapped = TWO.add(within, "name", &"n").unwrap();
        assert_eq!(wrapped.state_version, 2);
        assert_eq!(TWO.added::<String>(&wrapped, "name").unwrap(), Some("n".to_owned()));
        assert_eq!(ONE.read::<First>(&wrapped).unwrap(), First { id: 7 });
        assert!(TWO.added::<u64>(&wrapped, "name").is_err());
    }
}

//! A password, which is never shown.
//!
//! Not `secrecy`'s: that one wipes its memory, which is of little use for what the environment, the file and the parsed
//! configuration hold as well, and can neither be compared nor written as the configuration's parts are.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A password, or none. Neither `Debug` nor serde shows it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

/// What stands in a password's place wherever it would be shown.
const HIDDEN: &str = "***";

impl Password {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To be sent to etcd, and for nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(password: &str) -> Self {
        Self(password.to_owned())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() { "none" } else { HIDDEN })
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::EtcdConfig;

    #[test]
    fn it_is_never_shown() {
        let config = EtcdConfig { password: Password::from("hunter2"), ..EtcdConfig::default() };
        let json = serde_json::to_string(&config).expect("it is JSON");
        for shown in [format!("{config:?}"), format!("{config:#?}"), json] {
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{shown}");
        }
    }
}

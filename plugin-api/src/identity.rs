//! Who a component is: its role, the id of its host process, its cluster. Never its address.
//!
//! Leaf module: the words that every other part uses. What is known of another component is in [`crate::peers`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of server, such as `querynode`: a lower-case letter, then at most 31 lower-case letters or digits; not `id`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(String);

impl Role {
    /// The most characters that a role may have.
    pub const MAX_LENGTH: usize = 32;

    /// The role of that name.
    ///
    /// # Errors
    ///
    /// [`InvalidRole`] where the name breaks the rule in [`Role`]'s own description.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidRole> {
        let name = name.into();
        let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        let goes_on_well = name.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit());
        if starts_well && goes_on_well && name.len() <= Self::MAX_LENGTH && name != "id" {
            Ok(Self(name))
        } else {
            Err(InvalidRole(name))
        }
    }

    /// The role's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<String> for Role {
    type Error = InvalidRole;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.0
    }
}

/// A name that cannot be a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no role: a role is a lower-case letter followed by at most 31 lower-case letters or digits, and not 'id'"
)]
pub struct InvalidRole(pub String);

/// The number of one host process in its cluster: given out by etcd, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for ServerId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A component's own identity, with what its host knows when it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's name (`cluster.name`).
    pub cluster: String,
    /// The role that this component plays.
    pub role: Role,
    /// The id of the host process.
    pub server_id: ServerId,
    /// Where peers reach this host: `host:port`, as it is registered in etcd.
    pub address: String,
    /// Which loaded copy of the plugin this is, counted from 1 in each host process.
    pub generation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_checked() {
        for good in ["a", "querynode", "q2", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(Role::new(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "id", "2q", "Query", "query-node", "query_node", "abcdefghijklmnopqrstuvwxyz0123456", "é"] {
            assert_eq!(Role::new(bad), Err(InvalidRole(bad.to_owned())));
        }
    }
}

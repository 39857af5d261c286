//! The channel to a peer: an ordinary `tower` service over a link that the host owns.

use serde::{Deserialize, Serialize};

use crate::identity::{Role, ServerId};

/// Whom a channel calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The active coordinator of a role; of a node role any peer that is ready, in turn.
    Role(Role),
    /// One peer, by its identity.
    Server(Role, ServerId),
}

impl Target {
    /// The role that is called.
    pub fn role(&self) -> &Role {
        match self {
            Self::Role(role) | Self::Server(role, _) => role,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(role) => role.fmt(formatter),
            Self::Server(role, server_id) => write!(formatter, "{role}-{server_id}"),
        }
    }
}

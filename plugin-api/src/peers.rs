//! What a component is told of its peers: how they stand, and each change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{Role, ServerId};
use crate::refusal::Reason;

/// How a peer's session stands in etcd: the first of the two signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerSession {
    /// Its key is there.
    Live,
    /// Its key is there and says that it is stopping.
    Stopping,
    /// Its key is not there any more.
    Gone,
}

impl PeerSession {
    /// The name on the wire and in the admin answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        }
    }
}

/// How the link to a peer stands: the second signal, never mixed with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLink {
    /// No dial of this round has failed yet.
    Connecting,
    /// Proved: the peer has answered who it is.
    Ready,
    /// The connection is going away (GOAWAY, or another address); a new one is made first.
    Draining,
    /// The last dial failed; a window of tries is open.
    Retrying,
    /// Three windows have failed. A change of its key in etcd starts it again.
    GivenUp,
}

impl PeerLink {
    /// The name on the wire and in the admin answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Retrying => "retrying",
            Self::GivenUp => "given_up",
        }
    }
}

/// One version of a session: an identity may register again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registration {
    /// The etcd revision at which the session's key was created.
    pub create_revision: i64,
    /// The lease that holds the key.
    pub lease_id: i64,
}

/// A component's session that one of ours depends on, as it is known now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The peer's role.
    pub role: Role,
    /// The peer's server id.
    pub server_id: ServerId,
    /// Its address, `host:port`. For people: a peer is never identified by it.
    pub address: String,
    /// The version of its component.
    pub version: String,
    /// Its labels, from its configuration.
    pub labels: BTreeMap<String, String>,
    /// It waits for the active one of its role to go; it is given no calls.
    pub standby: bool,
    /// etcd's last list missed it together with most of its role, so that etcd is doubted: it counts as live while it
    /// answers, for one TTL at most.
    #[serde(default)]
    pub suspect: bool,
    /// How its session stands.
    pub session: PeerSession,
    /// How the link to it stands.
    pub link: PeerLink,
    /// Which registration this is.
    pub registration: Registration,
}

impl Peer {
    /// May it be called now: session live, link ready, not in standby?
    pub fn is_callable(&self) -> bool {
        self.session == PeerSession::Live && matches!(self.link, PeerLink::Ready | PeerLink::Draining) && !self.standby
    }
}

/// One thing that a component is told of the peers of one role, in order for each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEvent {
    /// The role that the component depends on.
    pub role: Role,
    /// The etcd revision that the table of peers reflected.
    pub revision: i64,
    /// What happened.
    pub change: PeerChange,
}

/// What happened to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerChange {
    /// All peers of the role as they stand. It comes first, and in place of what a slow receiver missed.
    Table(Vec<Peer>),
    /// The peer can be called: its link is proved.
    Online(Peer),
    /// The peer has stopped being callable. A session that still lives is not a death: only the link is broken.
    Offline {
        /// The peer as it was last known, with the session's and the link's present state.
        peer: Peer,
        /// Why.
        reason: Reason,
        /// The last error, for people.
        error: String,
    },
    /// The peer has said that it will stop; it still works.
    Stopping(Peer),
    /// Another process has taken the peer's place. Of a coordinator that was killed its end comes first, as `Offline`.
    Replaced {
        /// Who was there.
        old: Peer,
        /// Who is there now. One that was in standby can be called already, where its link is ready; else `Online` follows.
        new: Peer,
    },
    /// The same process has registered again; links and calls are untouched.
    Reregistered(Peer),
    /// Its version or labels have changed, or it is a suspect, or its standby has begun or ended.
    Updated(Peer),
    /// Three windows of tries have failed. It comes back by itself when etcd tells of it again.
    GivenUp {
        /// The peer.
        peer: Peer,
        /// The last error, for people.
        error: String,
    },
}

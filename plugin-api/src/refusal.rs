//! Refusals: why a call was not answered by its target, for people and for programs.
//!
//! A refusal travels as an ordinary gRPC status whose details hold a `google.rpc.ErrorInfo` of the domain `componenthost`.
//! The host makes them; a component or a client reads them with [`Refusal::from_status`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of the `ErrorInfo` of every refusal.
pub const DOMAIN: &str = "componenthost";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)*) => {
        /// Why a call was refused or cut.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The gRPC code that goes with it.
            pub fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)*
                }
            }
        }
    };
}

reasons! {
    /// Caller's host: the first dial is under way.
    Connecting = "CONNECTING", Unavailable;
    /// Caller's host: the last dial failed; it is tried again.
    ConnectFailed = "CONNECT_FAILED", Unavailable;
    /// Caller's host: three windows of tries have failed.
    GaveUp = "GAVE_UP", Unavailable;
    /// Caller's host: the TLS handshake was refused. Never tried again for the same call.
    TlsFailed = "TLS_FAILED", Unavailable;
    /// Caller's host: nobody of that role, or not this id, is registered.
    NoSuchPeer = "NO_SUCH_PEER", Unavailable;
    /// Caller's host: the peer's key has gone from etcd.
    SessionGone = "SESSION_GONE", Unavailable;
    /// Caller's host: another process has taken the peer's place.
    PeerReplaced = "PEER_REPLACED", Unavailable;
    /// Caller's host: the link broke under a running call; the session lives.
    LinkLost = "LINK_LOST", Unavailable;
    /// Caller's host: the wait's cap ran out.
    WaitExpired = "WAIT_EXPIRED", Unavailable;
    /// Caller's host: the client was stopped.
    ClientStopped = "CLIENT_STOPPED", Cancelled;
    /// Caller's host: the dependency was removed.
    DependencyRemoved = "DEPENDENCY_REMOVED", Cancelled;
    /// Caller's host: the host is stopping.
    HostStopping = "HOST_STOPPING", Cancelled;
    /// Caller's host: the component did not declare this role as a dependency. Never tried again.
    NotDeclared = "NOT_DECLARED", FailedPrecondition;
    /// Called host: the component is Initializing or Abnormal.
    NotHealthy = "NOT_HEALTHY", Unavailable;
    /// Called host: the component is in standby.
    Standby = "STANDBY", Unavailable;
    /// Called host, or the metadata: no session is held for certain.
    Fenced = "FENCED", Unavailable;
    /// Called host: the component failed too often and is held.
    Quarantined = "QUARANTINED", Unavailable;
    /// Called host: the drain has begun.
    SessionStopping = "SESSION_STOPPING", Unavailable;
    /// Called host: another id, role or cluster was meant. Never tried again.
    IdentityMismatch = "IDENTITY_MISMATCH", FailedPrecondition;
    /// Called host: still running on a retired generation at the drain's limit.
    SwapDrained = "SWAP_DRAINED", Unavailable;
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A reason that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no reason of a refusal")]
pub struct UnknownReason(pub String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name).ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

/// Was the call handed to a handler? It speaks of the hop between `refused_by` and `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Executed {
    /// It was never sent, or refused by the called host before dispatch: it may be sent again.
    No,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Why a call was refused, with what the refusing host knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason; it decides the code.
    pub reason: Reason,
    /// One sentence for people.
    pub message: String,
    /// Was it executed?
    pub executed: Executed,
    /// The other keys of the `ErrorInfo`, see [`key`].
    pub details: HashMap<String, String>,
}

/// The keys of a refusal's details.
pub mod key {
    /// The role that was called.
    pub const ROLE: &str = "role";
    /// The server id that was called.
    pub const SERVER_ID: &str = "server_id";
    /// Who refused: `role-id` of the caller's or the called component's host.
    pub const REFUSED_BY: &str = "refused_by";
    /// Who was meant: `role` or `role-id`.
    pub const TARGET: &str = "target";
    /// The session's state: `live`, `stopping`, `gone`.
    pub const SESSION: &str = "session";
    /// The link's state, as `PeerLink::as_str` has it.
    pub const LINK: &str = "link";
    /// How calls go to the peer: `local` (it is in the very host that calls) or `tcp`.
    pub const WAY: &str = "way";
    /// For how long it has been so, in milliseconds.
    pub const SINCE_MS: &str = "since_ms";
    /// Windows of tries so far.
    pub const TRIES: &str = "tries";
    /// The last error of a dial.
    pub const LAST_ERROR: &str = "last_error";
    /// When the next try begins, in milliseconds from now.
    pub const NEXT_TRY_MS: &str = "next_try_ms";
    /// The etcd revision that the table of peers reflects.
    pub const TABLE_REVISION: &str = "table_revision";
    /// How old the table is, in milliseconds.
    pub const TABLE_AGE_MS: &str = "table_age_ms";
    /// `no` or `unknown`.
    pub const EXECUTED: &str = "executed";
    /// The state code of the called component.
    pub const STATE_CODE: &str = "state_code";
}

impl Refusal {
    /// A refusal of a call that no handler has seen.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), executed: Executed::No, details: HashMap::new() }
    }

    /// The same for a call that may have been executed.
    #[must_use]
    pub fn maybe_executed(mut self) -> Self {
        self.executed = Executed::Unknown;
        self
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.details.insert(key.to_owned(), value.to_string());
        self
    }

    /// The refusal that a status carries, where it carries one.
    ///
    /// A component that passes a status on keeps its details. So believe `executed` only where [`key::TARGET`] is the peer
    /// that you called, or your own host refused.
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let mut details = info.metadata;
        let executed = match details.remove(key::EXECUTED).as_deref() {
            Some("no") => Executed::No,
            _ => Executed::Unknown,
        };
        Some(Self { reason: info.reason.parse().ok()?, message: status.message().to_owned(), executed, details })
    }

    /// The status that carries this refusal.
    pub fn into_status(self) -> Status {
        let mut details = self.details;
        let executed = match self.executed {
            Executed::No => "no",
            Executed::Unknown => "unknown",
        };
        details.insert(key::EXECUTED.to_owned(), executed.to_owned());
        Status::with_error_details(
            self.reason.code(),
            self.message,
            ErrorDetails::with_error_info(self.reason.as_str(), DOMAIN, details),
        )
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        for reason in Reason::ALL {
            let sent = Refusal::new(*reason, "why").with(key::ROLE, "rootcoord").with(key::TRIES, 3);
            let status = sent.clone().into_status();
            assert_eq!(status.code(), reason.code());
            assert_eq!(Refusal::from_status(&status), Some(sent));
        }
    }

    #[test]
    fn another_domain_is_no_refusal() {
        let status = Status::with_error_details(
            Code::Unavailable,
            "no",
            ErrorDetails::with_error_info("SESSION_GONE", "example.org", HashMap::new()),
        );
        assert_eq!(Refusal::from_status(&status), None);
    }
}

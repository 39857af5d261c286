//! How a component's own session stands, as others of this host see it.

use std::fmt;
use std::time::Duration;

use plugin_api::identity::ServerId;
use plugin_api::peers::Registration;
use serde::Serialize;
use tokio::sync::watch;

use crate::session::clock::BootTime;

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// It has not been registered yet. It becomes [`SessionStatus::Held`] or [`SessionStatus::HeldByOther`].
    Registering {
        /// Since when.
        since: BootTime,
        /// Why it has not succeeded yet, where a try has failed.
        last_error: Option<String>,
    },
    /// Another process has the key. The session is registered as soon as the key is free.
    HeldByOther {
        /// Since when it is known.
        since: BootTime,
        /// Who has it.
        holder: Holder,
    },
    /// It is registered, for certain until the deadline.
    Held(Held),
    /// It was registered and is not, or nobody knows. It is registered again, under the same server id, for as long as it
    /// takes.
    Lost {
        /// Since when.
        since: BootTime,
        /// What happened; later, why it could not be registered again.
        cause: String,
    },
    /// It was given up on purpose.
    Revoked,
}

/// A registered session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub key: String,
    /// Which registration it is.
    pub registration: Registration,
    /// Until when the lease lives without another renewal. It moves with each renewal, which wakes nobody.
    pub deadline: BootTime,
}

/// The process that has a key which this host wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its server id; `None` where the value says none.
    pub server_id: Option<ServerId>,
    /// Its address.
    pub address: String,
    /// Its machine.
    pub host_name: String,
    /// Its lease; 0 where the key has none and stays for ever.
    pub lease_id: i64,
    /// How long its lease lives unless it is renewed; `None` where that is not known.
    #[serde(rename = "lease_left_ms", serialize_with = "as_millis")]
    pub lease_left: Option<Duration>,
}

/// A session's present key, for those who write under it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionGuard {
    status: watch::Receiver<SessionStatus>,
}

impl SessionStatus {
    /// The state's name in the admin answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Registering { .. } => "registering",
            Self::HeldByOther { .. } => "held_by_other",
            Self::Held(_) => "held",
            Self::Lost { .. } => "lost",
            Self::Revoked => "revoked",
        }
    }

    /// Is it the same, but for the deadline?
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held(one), Self::Held(two)) => (&one.key, one.registration) != (&two.key, two.registration),
            (one, two) => one != two,
        }
    }
}

impl SessionGuard {
    pub(super) fn new(status: watch::Receiver<SessionStatus>) -> Self {
        Self { status }
    }

    /// The session's key and its create revision, where the session is held for certain: what every write under it compares.
    pub fn current(&self) -> Option<(String, i64)> {
        match &*self.status.borrow() {
            // The deadline is looked at here: the keeper may sleep, or the machine may just have woken.
            SessionStatus::Held(held) if BootTime::now() < held.deadline => {
                Some((held.key.clone(), held.registration.create_revision))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server_id {
            Some(id) => write!(formatter, "server {id} at {} on machine '{}'", self.address, self.host_name)?,
            None => write!(formatter, "a value that is no session")?,
        }
        match (self.lease_id, self.lease_left) {
            (0, _) => write!(formatter, ", without a lease: it stays until somebody deletes it"),
            (_, Some(left)) => {
                write!(formatter, ", whose lease runs out in {} unless it is renewed", humantime::format_duration(left))
            }
            (_, None) => Ok(()),
        }
    }
}

fn as_millis<S: serde::Serializer>(left: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
}

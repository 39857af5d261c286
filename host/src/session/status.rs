//! How a component's own session stands, as others of this host see it.

use std::fmt;
use std::time::Duration;

use plugin_api::identity::ServerId;
use plugin_api::peers::Registration;
use serde::Serialize;
use tokio::sync::watch;

use crate::session::clock::{BootTime, LONGEST_SLEEP};

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
    /// A coordinator's standby key is there, and another holds the active key. It becomes [`SessionStatus::Held`] when that
    /// key goes and this host wins the election, and [`SessionStatus::Lost`] where its own lease is not certain.
    StandBy(StandBy),
    /// Somebody deleted its key, and it is not to be registered again. It becomes [`SessionStatus::Revoked`] only.
    Deleted {
        /// Since when it is known.
        since: BootTime,
    },
    /// It was given up on purpose.
    Revoked,
}

/// A coordinator in standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandBy {
    /// Its own key, `<role>-<id>`.
    pub key: String,
    /// Which registration that key is.
    pub registration: Registration,
    /// Until when its lease lives without another renewal. It moves with each renewal, which wakes nobody.
    pub deadline: BootTime,
    /// Since when it stands by.
    pub since: BootTime,
    /// Who has the active key. How long its lease lives is asked for every few seconds, which wakes nobody.
    pub holder: Holder,
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
    /// Its lease; 0 where the key has none and stays for ever. Shown in hexadecimal digits, as etcd's own tool writes it.
    #[serde(rename = "lease", serialize_with = "as_hex")]
    pub lease_id: i64,
    /// How long its lease lives unless it is renewed; `None` where that is not known.
    #[serde(rename = "lease_left_ms", serialize_with = "as_millis")]
    pub lease_left: Option<Duration>,
}

/// A session's present key, for those who write under it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionGuard {
    status: watch::Receiver<SessionStatus>,
    /// The certain registration that [`SessionGuard::certainty_changed`] told of last.
    told: Option<Registration>,
}

impl SessionStatus {
    /// The state's name in the admin answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Registering { .. } => "registering",
            Self::HeldByOther { .. } => "held_by_other",
            Self::Held(_) => "held",
            Self::StandBy(_) => "stand_by",
            Self::Deleted { .. } => "deleted",
            Self::Lost { .. } => "lost",
            Self::Revoked => "revoked",
        }
    }

    /// Until when it is certain, where it is there.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        match self {
            Self::Held(held) => Some(held.deadline),
            Self::StandBy(standby) => Some(standby.deadline),
            _ => None,
        }
    }

    /// Takes over the other, later one. True where whoever follows has to look again: a later deadline wakes nobody, unless
    /// the one before is over. Its end may have been seen, and nothing else would tell that it is certain again.
    pub(super) fn becomes(&mut self, other: &Self, now: BootTime) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= now);
        let wakes = self.differs_from(other) || is_over && self != other;
        if self != other {
            self.clone_from(other);
        }
        wakes
    }

    /// Is it another, whatever the deadlines?
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held(one), Self::Held(two)) => (&one.key, one.registration) != (&two.key, two.registration),
            (Self::StandBy(one), Self::StandBy(two)) => {
                let same_holder = Holder { lease_left: None, ..one.holder.clone() }
                    == Holder { lease_left: None, ..two.holder.clone() };
                (&one.key, one.registration, one.since) != (&two.key, two.registration, two.since) || !same_holder
            }
            (one, two) => one != two,
        }
    }
}

impl SessionGuard {
    pub(super) fn new(status: watch::Receiver<SessionStatus>) -> Self {
        Self { status, told: None }
    }

    /// The session's key and its registration, where the session is held for certain: what every write under it compares.
    pub fn current(&self) -> Option<(String, Registration)> {
        match &*self.status.borrow() {
            // The deadline is looked at here: the keeper may sleep, or the machine may just have woken.
            SessionStatus::Held(held) if BootTime::now() < held.deadline => Some((held.key.clone(), held.registration)),
            _ => None,
        }
    }

    /// Is the session held for certain at this very moment? The deadline is compared with the clock, so that it is exact
    /// also where timers stood still. One read of a lock and of a clock.
    pub fn is_certain(&self) -> bool {
        self.certain().is_some()
    }

    /// The registration under which the session is held for certain at this very moment.
    pub fn certain_registration(&self) -> Option<Registration> {
        self.certain().map(|(registration, _)| registration)
    }

    /// Waits until the session is not held for certain any more, or is again, also where it is under another registration:
    /// whatever differs from what this guard told last. A new guard has told that it is not held. True where it is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that was not told is told by the next call.
    pub async fn certainty_changed(&mut self) -> bool {
        loop {
            // Before the look, so that no change between the two is missed.
            self.status.mark_unchanged();
            let certain = self.certain();
            if certain.map(|(registration, _)| registration) != self.told {
                self.told = certain.map(|(registration, _)| registration);
                return certain.is_some();
            }
            let changed = async {
                if self.status.changed().await.is_err() {
                    // The keeper is gone: what it published holds until the deadline.
                    std::future::pending::<()>().await;
                }
            };
            match certain {
                // A renewal moves the deadline and wakes nobody: then this wakes too early, and looks again.
                Some((_, deadline)) => {
                    let left = deadline.since(BootTime::now()).min(LONGEST_SLEEP);
                    // No answer in time is one: it is time to look again.
                    let _ = tokio::time::timeout(left, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The certain registration and its deadline.
    fn certain(&self) -> Option<(Registration, BootTime)> {
        match &*self.status.borrow() {
            SessionStatus::Held(held) if BootTime::now() < held.deadline => Some((held.registration, held.deadline)),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server_id {
            // A foreign value can be of a megabyte.
            Some(id) => write!(formatter, "server {id} at {:.255} on machine '{:.255}'", self.address, self.host_name)?,
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

/// A lease's id for people, and for those whose numbers end at 2^53.
pub(super) fn in_hex(lease_id: i64) -> String {
    format!("{lease_id:x}")
}

fn as_hex<S: serde::Serializer>(lease_id: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&in_hex(*lease_id))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn held_for(time: Duration) -> SessionStatus {
        let registration = Registration { create_revision: 7, lease_id: 5 };
        SessionStatus::Held(Held { key: "key".to_owned(), registration, deadline: BootTime::now() + time })
    }

    #[tokio::test]
    async fn a_renewal_after_the_deadline_wakes_who_has_seen_its_end() {
        let status = watch::Sender::new(held_for(SOON));
        let mut guard = SessionGuard::new(status.subscribe());
        assert!(guard.certainty_changed().await);
        assert!(!guard.certainty_changed().await, "the deadline is over");
        let mut again = pin!(guard.certainty_changed());
        tokio::time::timeout(SOON, &mut again).await.expect_err("nothing has come yet");
        let renewed = held_for(Duration::from_secs(60));
        status.send_if_modified(|published| published.becomes(&renewed, BootTime::now()));
        let told = tokio::time::timeout(Duration::from_secs(10), again).await;
        assert_eq!(told, Ok(true));
    }

    #[test]
    fn a_holder_is_told_in_few_words() {
        let great = "x".repeat(1 << 20);
        let of = |address: &str| Holder {
            server_id: Some(ServerId(3)),
            address: address.to_owned(),
            host_name: address.to_owned(),
            lease_id: 5,
            lease_left: None,
        };
        assert_eq!(of("a:1").to_string(), "server 3 at a:1 on machine 'a:1'");
        assert!(of(&great).to_string().len() < 1000);
    }

    #[test]
    fn a_renewal_in_time_wakes_nobody() {
        let mut published = held_for(Duration::from_secs(30));
        let renewed = held_for(Duration::from_secs(60));
        assert!(!published.becomes(&renewed, BootTime::now()));
        assert_eq!(published, renewed);
        assert!(published.becomes(&SessionStatus::Revoked, BootTime::now()));
    }
}

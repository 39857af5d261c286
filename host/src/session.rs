//! Our own registration in etcd: a key held by a lease, kept for as long as the host lives.
//!
//! [`Session::open`] starts the keeper, which registers, renews, and registers again whatever happens to etcd; it never gives
//! up and never ends the process. What is to be done when is decided in [`lease`], without I/O; a task of its own does it.
//! Who may call whom, and what a lost session means for a component, is not decided here: others follow
//! [`Session::status`].

pub mod clock;
mod keeper;
pub mod lease;
mod server_id;
mod state_file;
mod status;
pub mod takeover;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Registration;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Record;
use crate::etcd::{Etcd, EtcdError};

pub use crate::session::clock::BootTime;
pub use crate::session::server_id::take_server_id;
pub use crate::session::state_file::{Entry, StateFile, StateFileError};
pub use crate::session::status::{Held, Holder, SessionGuard, SessionStatus, StandBy};

/// Section `[session]`: how the host's own sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// How long a session lives in etcd without a renewal, in whole seconds: so long after a host's death its peers learn of
    /// it. etcd may raise it. Default 15 s; at least 2 s, and below 3 s only where a lost packet may cost the session.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// What is done where somebody deletes the key of a session whose lease lives. Default `register`: a registration must
    /// not be lost for good by a mistake.
    pub on_deleted: OnDeleted,
}

/// What is done where somebody deletes the key of a session whose lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeleted {
    /// It is put again under the same lease.
    #[default]
    Register,
    /// The host stops in good order: deleting the key is a way to tell it so.
    Stop,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(15), on_deleted: OnDeleted::Register }
    }
}

impl SessionConfig {
    /// The least TTL: under it a renewal at a third of it has no time left for a second try.
    const LEAST_TTL: Duration = Duration::from_secs(2);
    /// The greatest: for so long a dead host's peers would believe in it.
    const MOST_TTL: Duration = Duration::from_secs(3600);

    /// All values that are out of range, as key and text.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let ttl = humantime::format_duration(self.ttl);
        if self.ttl < Self::LEAST_TTL || self.ttl > Self::MOST_TTL {
            mistakes.push(("ttl", format!("{ttl} is not between 2s and 1h")));
        } else if self.ttl.subsec_nanos() != 0 {
            mistakes.push(("ttl", format!("{ttl} is not in whole seconds, which is all that etcd can count")));
        }
        mistakes
    }
}

/// What is registered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The role.
    pub role: Role,
    /// This host process.
    pub server_id: ServerId,
    /// A coordinator has the role's active key, a node one of its own.
    pub kind: Kind,
    /// Where peers reach this host, `host:port`; never an unspecified address.
    pub address: String,
    /// What this host's listener is bound to. A key of the same address and machine is taken over only if its port is ours.
    pub bound: SocketAddr,
    /// The component's version.
    pub version: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The machine's name.
    pub host_name: String,
    /// The lease's time to live that is asked for.
    pub ttl: Duration,
    /// Does a coordinator stand by, under a key of its own, while another holds the active key? Else it waits without one.
    pub standby: bool,
    /// What is done where somebody deletes its key.
    pub on_deleted: OnDeleted,
}

/// Why a session could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The counter of server ids is no number.
    #[error("the counter of server ids, {key}, is no positive number but '{value}'")]
    Counter {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// There is no registration to change.
    #[error("the session of {0} is not registered now; it will say that it is stopping when it is")]
    NotHeld(Role),
    /// The registration has gone or was replaced meanwhile.
    #[error("the session of {0} is registered no more, or anew; if anew, it says that it is stopping")]
    Changed(Role),
}

/// A component's registration. It is given up by [`Session::revoke`]; where it is only dropped, its lease runs out.
pub struct Session {
    etcd: Etcd,
    settings: Arc<SessionSettings>,
    stopping: Arc<AtomicBool>,
    status: watch::Receiver<SessionStatus>,
    stop: CancellationToken,
    /// Ends with what is left to be revoked.
    keeper: tokio::sync::Mutex<Option<AbortOnDropHandle<keeper::Leftover>>>,
}

/// A session as the admin answers show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    /// Its key.
    pub key: String,
    /// The role.
    pub role: Role,
    /// This host process.
    pub server_id: ServerId,
    /// Where peers reach it.
    pub address: String,
    /// The component's version.
    pub version: String,
    /// The machine's name.
    pub host_name: String,
    /// Does its value say that it stops?
    pub stopping: bool,
    /// `registering`, `held_by_other`, `stand_by`, `held`, `lost`, `deleted` or `revoked`.
    pub state: &'static str,
    /// For how long, where it is not held.
    pub since_ms: Option<u64>,
    /// Which registration, where it is held.
    pub registration: Option<Registration>,
    /// How long the lease lives without another renewal, where it is held.
    pub time_left_ms: Option<u64>,
    /// Who has the key, where another has it.
    pub holder: Option<Holder>,
    /// Why it is not held, where it should be.
    pub cause: Option<String>,
}

impl SessionView {
    /// What its registration waits for, in words; `None` where nothing is known to be in its way.
    pub fn waits_for(&self) -> Option<String> {
        match &self.holder {
            Some(holder) => Some(format!("its key {} is held by {holder}", self.key)),
            None => self.cause.clone(),
        }
    }
}

impl SessionSettings {
    /// The key that is to be held.
    pub fn key(&self, keys: &crate::cluster::Keys) -> String {
        match self.kind {
            Kind::Coordinator => keys.active_session(&self.role),
            Kind::Node => keys.member_session(&self.role, self.server_id),
        }
    }

    /// The value of that key under this lease.
    fn value(&self, lease_id: i64, stopping: bool) -> Vec<u8> {
        let record = Record {
            server_id: self.server_id.0,
            server_name: self.role.to_string(),
            address: self.address.clone(),
            exclusive: self.kind == Kind::Coordinator,
            stopping,
            version: self.version.clone(),
            lease_id,
            host_name: self.host_name.clone(),
            server_labels: self.labels.clone(),
        };
        serde_json::to_vec(&record).expect("a record has nothing that JSON cannot hold")
    }
}

impl Session {
    /// Starts to register, and to keep what is registered, in a task of its own on the present runtime.
    pub fn open(etcd: Etcd, settings: SessionSettings, state_file: Arc<StateFile>) -> Self {
        let settings = Arc::new(settings);
        let (stopping, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (keeper, status) =
            keeper::Keeper::new(etcd.clone(), Arc::clone(&settings), Arc::clone(&stopping), state_file);
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(stop.clone())));
        Self { etcd, settings, stopping, status, stop, keeper: tokio::sync::Mutex::new(Some(task)) }
    }

    /// How it stands, now and after each change. A renewal is no change.
    pub fn status(&self) -> watch::Receiver<SessionStatus> {
        self.status.clone()
    }

    /// What every write under this session compares.
    pub fn guard(&self) -> SessionGuard {
        SessionGuard::new(self.status.clone())
    }

    /// Tells the peers that this component stops; the lease and the key stay.
    ///
    /// # Errors
    ///
    /// Where nothing is registered now. A later registration says it all the same.
    pub async fn mark_stopping(&self) -> Result<(), SessionError> {
        self.stopping.store(true, Ordering::SeqCst);
        let held = match &*self.status.borrow() {
            SessionStatus::Held(held) => held.clone(),
            _ => return Err(SessionError::NotHeld(self.settings.role.clone())),
        };
        let registration = held.registration;
        // Compared, so that it never creates a key; with the lease, or the key would outlive it.
        let ours = Compare::create_revision(held.key.as_str(), CompareOp::Equal, registration.create_revision);
        let options = PutOptions::new().with_lease(registration.lease_id);
        let put = TxnOp::put(held.key, self.settings.value(registration.lease_id, true), Some(options));
        let answer = self.etcd.txn("mark the session as stopping", Txn::new().when([ours]).and_then([put])).await?;
        if answer.succeeded() { Ok(()) } else { Err(SessionError::Changed(self.settings.role.clone())) }
    }

    /// Gives the registration up: the keeper ends and the lease is revoked, all within the limit. What fails is left to run
    /// out by itself.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call leaves the keeper ended, and the lease to run out.
    pub async fn revoke(&self, limit: Duration) {
        self.stop.cancel();
        let Some(keeper) = self.keeper.lock().await.take() else {
            return;
        };
        let role = &self.settings.role;
        let given_up = async {
            match keeper.await {
                Ok(leftover) => leftover.revoke().await,
                Err(error) => tracing::error!(%role, %error, "the session's keeper has failed: its lease will run out"),
            }
        };
        if tokio::time::timeout(limit, given_up).await.is_err() {
            let limit = humantime::format_duration(limit);
            tracing::warn!(%role, "the session could not be given up within {limit}: its lease will run out");
        }
    }

    /// As the admin answers show it.
    pub fn view(&self) -> SessionView {
        let status = self.status.borrow().clone();
        let mut view = SessionView {
            key: self.settings.key(self.etcd.keys()),
            role: self.settings.role.clone(),
            server_id: self.settings.server_id,
            address: self.settings.address.clone(),
            version: self.settings.version.clone(),
            host_name: self.settings.host_name.clone(),
            stopping: self.stopping.load(Ordering::SeqCst),
            state: status.as_str(),
            since_ms: None,
            registration: None,
            time_left_ms: None,
            holder: None,
            cause: None,
        };
        match status {
            SessionStatus::Registering { since, last_error } => {
                (view.since_ms, view.cause) = (Some(millis(since.elapsed())), last_error);
            }
            SessionStatus::HeldByOther { since, holder } => {
                (view.since_ms, view.holder) = (Some(millis(since.elapsed())), Some(holder));
            }
            SessionStatus::Held(held) => {
                view.registration = Some(held.registration);
                view.time_left_ms = Some(millis(held.deadline.since(BootTime::now())));
            }
            SessionStatus::Lost { since, cause } => {
                (view.since_ms, view.cause) = (Some(millis(since.elapsed())), Some(cause));
            }
            SessionStatus::StandBy(standby) => {
                view.since_ms = Some(millis(standby.since.elapsed()));
                view.registration = Some(standby.registration);
                view.time_left_ms = Some(millis(standby.deadline.since(BootTime::now())));
                view.key = standby.key;
                view.holder = Some(standby.holder);
            }
            SessionStatus::Deleted { since } => {
                (view.since_ms, view.cause) = (Some(millis(since.elapsed())), Some("its key was deleted".to_owned()));
            }
            SessionStatus::Revoked => {}
        }
        view
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_is_checked() {
        let mistakes = |ttl| SessionConfig { ttl, ..SessionConfig::default() }.mistakes().len();
        assert_eq!(mistakes(SessionConfig::default().ttl), 0);
        assert_eq!(mistakes(Duration::from_secs(2)), 0);
        for bad in [Duration::ZERO, Duration::from_secs(1), Duration::from_millis(2500), Duration::from_secs(3601)] {
            assert_eq!(mistakes(bad), 1, "{bad:?}");
        }
    }
}

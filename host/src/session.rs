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
mod settings;
mod state_file;
mod status;
pub mod takeover;
mod tally;
mod version;
mod view;

use std::sync::Arc;
use std::time::Duration;

use plugin_api::identity::Role;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::etcd::{Etcd, EtcdError};
use crate::session::keeper::{Keeper, Leftover};
use crate::session::tally::Tally;

pub use crate::session::clock::BootTime;
pub use crate::session::server_id::{raise_server_ids, take_server_id};
pub use crate::session::settings::{OnDeleted, SessionConfig, SessionSettings};
pub use crate::session::state_file::{Entry, StateFile, StateFileError};
pub use crate::session::status::{Held, Holder, SessionGuard, SessionStatus, StandBy};
pub use crate::session::version::Version;
pub use crate::session::view::SessionView;

/// Why a session could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The counter of server ids is no number.
    #[error("the counter of server ids, {key}, is no positive number but '{value:.255}'")]
    Counter {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// There is no registration to change.
    #[error("the session of {0} is not registered now; it will say that it is stopping when it is")]
    NotHeld(Role),
    /// etcd does not take it now.
    #[error("the session of {role} could not be made to say within {} that it is stopping; that is tried again", humantime::format_duration(*.limit))]
    NotMarked {
        /// The role.
        role: Role,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// A component's registration. It is given up by [`Session::revoke`]; where it is only dropped, its lease runs out.
pub struct Session {
    etcd: Etcd,
    settings: Arc<SessionSettings>,
    /// Must the registration say that the component stops? The keeper sees to it, now and in each later registration.
    stopping: watch::Sender<bool>,
    /// Does it say so?
    marked: watch::Receiver<bool>,
    status: watch::Receiver<SessionStatus>,
    tally: Arc<Tally>,
    /// The version has changed.
    version_changed: Arc<Notify>,
    /// Sees to it that the key says so. It ends with the session.
    _version: AbortOnDropHandle<()>,
    stop: CancellationToken,
    /// Held by whoever gives the session up.
    ending: tokio::sync::Mutex<Ending>,
}

/// How far giving a session up has come.
enum Ending {
    /// The keeper ends with what is left to be revoked.
    Keeper(AbortOnDropHandle<Leftover>),
    /// What it has left.
    Leftover(Leftover),
    /// Nothing is left.
    Ended,
}

impl Session {
    /// Starts to register, and to keep what is registered, in a task of its own on the present runtime.
    pub fn open(etcd: Etcd, settings: SessionSettings, state_file: Arc<StateFile>) -> Self {
        let settings = Arc::new(settings);
        let (stopping, to_be_marked) = watch::channel(false);
        let (stop, tally) = (CancellationToken::new(), Arc::new(Tally::default()));
        let keeper = Keeper::new(etcd.clone(), Arc::clone(&settings), to_be_marked, state_file, Arc::clone(&tally));
        let (status, marked) = keeper.told();
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(stop.clone())));
        let version_changed = Arc::new(Notify::new());
        let version = version::keep(etcd.clone(), Arc::clone(&settings), status.clone(), Arc::clone(&version_changed));
        Self {
            etcd,
            settings,
            stopping,
            marked,
            status,
            tally,
            version_changed,
            _version: AbortOnDropHandle::new(tokio::spawn(version)),
            stop,
            ending: tokio::sync::Mutex::new(Ending::Keeper(task)),
        }
    }

    /// How it stands, now and after each change. A renewal is no change.
    pub fn status(&self) -> watch::Receiver<SessionStatus> {
        self.status.clone()
    }

    /// What every write under this session compares.
    pub fn guard(&self) -> SessionGuard {
        SessionGuard::new(self.status.clone())
    }

    /// Tells the peers that this component stops; the lease and the key stay. The keeper does it, so that neither a
    /// registration that is on its way nor a later one can be without it. Returns when the key says so.
    ///
    /// # Errors
    ///
    /// Where nothing is registered now, or etcd does not take it within a request's limit. It is done later all the same.
    ///
    /// # Cancel safety
    ///
    /// What is cancelled is only the waiting.
    pub async fn mark_stopping(&self) -> Result<(), SessionError> {
        self.stopping.send_replace(true);
        let (mut marked, mut status, role) = (self.marked.clone(), self.status.clone(), &self.settings.role);
        let limit = self.etcd.request_timeout();
        let there = |status: &SessionStatus| matches!(status, SessionStatus::Held(_) | SessionStatus::StandBy(_));
        tokio::select! {
            biased;
            // The keeper is gone without having said so: the key will be too.
            done = marked.wait_for(|marked| *marked) => done.map(drop).map_err(|_| SessionError::NotHeld(role.clone())),
            _ = status.wait_for(|status| !there(status)) => Err(SessionError::NotHeld(role.clone())),
            () = tokio::time::sleep(limit) => Err(SessionError::NotMarked { role: role.clone(), limit }),
        }
    }

    /// Tells the peers that this component has another version: in the key that is there, and in each later one. It is done in
    /// a task of its own, for as long as etcd does not take it.
    pub fn tell_version(&self, version: String) {
        if self.settings.version.set(version) {
            self.version_changed.notify_one();
        }
    }

    /// Gives the registration up: the keeper ends and the lease is revoked, all within the limit. What fails is left to run
    /// out by itself.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call leaves the keeper ended; the next one goes on where it was. Without one the lease runs out.
    pub async fn revoke(&self, limit: Duration) {
        self.stop.cancel();
        let role = &self.settings.role;
        let given_up = async {
            let mut ending = self.ending.lock().await;
            if let Ending::Keeper(keeper) = &mut *ending {
                *ending = match keeper.await {
                    Ok(leftover) => Ending::Leftover(leftover),
                    Err(error) => {
                        tracing::error!(%role, %error, "the session's keeper has failed: its lease will run out");
                        Ending::Ended
                    }
                };
            }
            if let Ending::Leftover(leftover) = &*ending {
                leftover.revoke().await;
                *ending = Ending::Ended;
            }
        };
        if tokio::time::timeout(limit, given_up).await.is_err() {
            let limit = humantime::format_duration(limit);
            tracing::warn!(%role, "the session could not be given up within {limit}: its lease will run out");
        }
    }

    /// As the admin answers show it.
    pub fn view(&self) -> SessionView {
        let (status, stopping) = (self.status.borrow().clone(), *self.marked.borrow());
        SessionView::new(&self.settings, self.settings.key(self.etcd.keys()), stopping, status, &self.tally)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

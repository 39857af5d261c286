//! A session as the admin answers show it.

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::Registration;
use serde::Serialize;

use crate::session::clock::BootTime;
use crate::session::status::{Holder, SessionStatus, in_hex};
use crate::session::tally::Tally;
use crate::session::{SessionSettings, millis};

/// A session as the admin answers show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    /// The key that it has, or is to have.
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
    /// Which registration, where its key is there. Its lease id is greater than the numbers that JavaScript has: see `lease`.
    pub registration: Option<Registration>,
    /// The lease in hexadecimal digits, as etcd's own tool writes it.
    pub lease: Option<String>,
    /// The lease's time to live, as etcd granted it.
    pub ttl_ms: Option<u64>,
    /// How long the lease lives without another renewal.
    pub time_left_ms: Option<u64>,
    /// How long ago the renewal was sent that etcd last answered.
    pub last_renewal_ms: Option<u64>,
    /// How many renewals etcd has answered, since the start.
    pub renewals: u64,
    /// How many of them were asked for through another member as well, because the first was silent for too long.
    pub hedged_renewals: u64,
    /// How many renewals have failed, since the start.
    pub failed_renewals: u64,
    /// Who has the key, where another has it.
    pub holder: Option<Holder>,
    /// Why it is not held, where it should be.
    pub cause: Option<String>,
}

impl SessionView {
    /// As it stands now; `key` is the one that is to be held.
    pub(super) fn new(
        settings: &SessionSettings,
        key: String,
        stopping: bool,
        status: SessionStatus,
        tally: &Tally,
    ) -> Self {
        let mut view = Self {
            key,
            role: settings.role.clone(),
            server_id: settings.server_id,
            address: settings.address.clone(),
            version: settings.version.get(),
            host_name: settings.host_name.clone(),
            stopping,
            state: status.as_str(),
            since_ms: None,
            registration: None,
            lease: None,
            ttl_ms: None,
            time_left_ms: None,
            last_renewal_ms: None,
            renewals: tally.renewals(),
            hedged_renewals: tally.hedged(),
            failed_renewals: tally.failed(),
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
            SessionStatus::StandBy(standby) => {
                view.show_lease(standby.registration, standby.deadline, tally);
                view.since_ms = Some(millis(standby.since.elapsed()));
                (view.key, view.holder) = (standby.key, Some(standby.holder));
            }
            SessionStatus::Held(held) => view.show_lease(held.registration, held.deadline, tally),
            SessionStatus::Lost { since, cause } => {
                (view.since_ms, view.cause) = (Some(millis(since.elapsed())), Some(cause));
            }
            SessionStatus::Deleted { since } => {
                (view.since_ms, view.cause) = (Some(millis(since.elapsed())), Some("its key was deleted".to_owned()));
            }
            SessionStatus::Revoked => {}
        }
        view
    }

    fn show_lease(&mut self, registration: Registration, deadline: BootTime, tally: &Tally) {
        let left = deadline.since(BootTime::now());
        self.registration = Some(registration);
        self.lease = Some(in_hex(registration.lease_id));
        self.ttl_ms = Some(millis(tally.ttl()));
        self.time_left_ms = Some(millis(left));
        self.last_renewal_ms = Some(millis(tally.ttl().saturating_sub(left)));
    }

    /// What its registration waits for, in words; `None` where nothing is known to be in its way.
    pub fn waits_for(&self) -> Option<String> {
        match &self.holder {
            Some(holder) if self.registration.is_some() => Some(format!("the active key is held by {holder}")),
            Some(holder) => Some(format!("its key {} is held by {holder}", self.key)),
            None => self.cause.clone(),
        }
    }
}

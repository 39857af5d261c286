//! The component's version, as a registration says it: another one, where the component was swapped.
//!
//! Every put of the key carries the version of that moment, so only a key that is there already has to be changed. That is no
//! matter of the lease's: it is done beside the keeper, by a transaction that compares the key's last change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use plugin_api::peers::Registration;
use tokio::sync::{Notify, watch};

use crate::etcd::{Etcd, EtcdError};
use crate::session::SessionSettings;
use crate::session::status::SessionStatus;

/// How long it is waited after etcd did not take it.
const AGAIN: Duration = Duration::from_secs(1);

/// A version that can be exchanged. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Version(Arc<Mutex<String>>);

impl Version {
    /// As it is now.
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one; false where it is the same.
    pub(super) fn set(&self, version: String) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *current != version;
        *current = version;
        differs
    }
}

impl From<String> for Version {
    fn from(version: String) -> Self {
        Self(Arc::new(Mutex::new(version)))
    }
}

impl From<&str> for Version {
    fn from(version: &str) -> Self {
        version.to_owned().into()
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.get() == other.get()
    }
}

impl Eq for Version {}

/// Sees to it that the key says the present version, from the first change on.
///
/// # Cancel safety
///
/// The key says either version.
pub(super) async fn keep(
    etcd: Etcd,
    settings: Arc<SessionSettings>,
    mut status: watch::Receiver<SessionStatus>,
    changed: Arc<Notify>,
) {
    changed.notified().await;
    loop {
        let registered = registered(&status.borrow_and_update());
        let done = match &registered {
            Some((key, registration)) => write(&etcd, &settings, key, *registration).await,
            // Whoever puts it puts the present version.
            None => Ok(()),
        };
        let again = match done {
            Ok(()) => Duration::MAX,
            Err(error) => {
                let role = &settings.role;
                tracing::warn!(%role, error = error.chain(), "peers could not be told the component's version; it is tried again");
                AGAIN
            }
        };
        tokio::select! {
            () = changed.notified() => {}
            // The keeper has gone, with the session.
            changed = status.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
    }
}

fn registered(status: &SessionStatus) -> Option<(String, Registration)> {
    match status {
        SessionStatus::Held(held) => Some((held.key.clone(), held.registration)),
        SessionStatus::StandBy(standby) => Some((standby.key.clone(), standby.registration)),
        _ => None,
    }
}

/// Changes the version in the key's value, and nothing else of it, as long as it is this registration's.
async fn write(
    etcd: &Etcd,
    settings: &SessionSettings,
    key: &str,
    registration: Registration,
) -> Result<(), EtcdError> {
    loop {
        let answer = etcd.get(format!("read '{key}'"), key, None).await?;
        let Some(stored) = answer.kvs().first() else { return Ok(()) };
        let value = serde_json::from_slice::<serde_json::Value>(stored.value());
        let (Ok(mut value), true) = (value, stored.create_revision() == registration.create_revision) else {
            return Ok(());
        };
        let version = settings.version.get();
        if value["Version"] == version.as_str() {
            return Ok(());
        }
        value["Version"] = version.into();
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, stored.mod_revision());
        let options = PutOptions::new().with_lease(registration.lease_id);
        let put = TxnOp::put(key, value.to_string(), Some(options));
        let txn = Txn::new().when([unchanged]).and_then([put]);
        if etcd.txn(format!("tell the version in '{key}'"), txn).await?.succeeded() {
            return Ok(());
        }
        // It was marked as stopping in between.
    }
}

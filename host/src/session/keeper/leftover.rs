//! What is left of a session when its keeper ends.

use std::sync::Arc;

use crate::etcd::Etcd;
use crate::session::state_file::StateFile;

/// What is left of a session when its keeper ends.
pub(in crate::session) struct Leftover {
    pub(super) etcd: Etcd,
    pub(super) state_file: Arc<StateFile>,
    pub(super) lease_id: Option<i64>,
}

impl Leftover {
    /// Ends the lease; whichever key there is goes with it.
    pub(in crate::session) async fn revoke(&self) {
        let Some(lease_id) = self.lease_id else {
            return;
        };
        match self.etcd.revoke_lease(lease_id).await {
            Ok(_) => {
                if let Err(error) = self.state_file.remove(lease_id) {
                    tracing::warn!(file = %self.state_file.path().display(), %error, "the state file cannot be written");
                }
            }
            Err(error) => tracing::warn!(error = error.chain(), "the session's lease is left to run out"),
        }
    }
}

//! After etcd has lost its data: no server id that a living host may have is given out again.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::session::raise_server_ids;

/// How long the next try waits.
const RETRY: Duration = Duration::from_secs(1);

/// Raises the counter of server ids each time that etcd comes back without its data, above every id that was ever seen in a
/// table. Never returns; each of the cluster's hosts does it, and the one that knows most counts.
pub(super) async fn guard(parts: Arc<Parts>) {
    let (mut history, mut guarded) = (parts.etcd.history(), 0);
    // Its sender lives as long as the parts.
    while let Ok(lost) = history.wait_for(|history| history.losses > guarded).await.map(|history| history.clone()) {
        let above = parts.own.server_id.max(parts.discovery.highest_server_id());
        match raise_server_ids(&parts.etcd, above).await {
            Ok(next) => {
                guarded = lost.losses;
                let why = lost.last_loss.unwrap_or_default();
                tracing::error!(
                    why, %above, %next,
                    "etcd has lost its data: server ids are given out from {next} on, and all sessions are registered again"
                );
            }
            Err(error) => {
                let error = plugin_api::error::chain(&error);
                tracing::error!(error, %above, "etcd has lost its data, and the server ids could not be raised yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

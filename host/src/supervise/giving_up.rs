//! The session of a component that has failed: kept for a quick restart, and given up before it keeps a standby waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::session::Session;

/// How long giving a session up may take.
pub const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// A session that will be given up unless it is needed again. Where it is only dropped, the session stays.
pub struct GivingUp {
    needed: CancellationToken,
    /// Ends with whether the session was left as it is.
    task: AbortOnDropHandle<bool>,
}

impl GivingUp {
    /// Gives the session up after so long.
    pub fn after(kept: Duration, session: Arc<Session>, control: &Handle) -> Self {
        let needed = CancellationToken::new();
        let asked = needed.clone();
        let task = control.spawn(async move {
            tokio::select! {
                biased;
                () = asked.cancelled() => true,
                () = tokio::time::sleep(kept) => {
                    let kept = humantime::format_duration(kept);
                    let key = session.view().key;
                    tracing::warn!(key, %kept, "the component is not back yet: its session is given up, others may have it");
                    session.revoke(REVOKE_LIMIT).await;
                    false
                }
            }
        });
        Self { needed, task: AbortOnDropHandle::new(task) }
    }

    /// The session is needed: true where it is still there. One that is being given up is waited for.
    pub async fn stop(self) -> bool {
        self.needed.cancel();
        // A task that failed has left nobody knows what: another session is made.
        self.task.await.unwrap_or(false)
    }
}

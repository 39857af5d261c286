//! Cutting the calls of a component that still run, with a reason that their callers are told.

use std::sync::{Arc, OnceLock};

use plugin_api::refusal::{Reason, Refusal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Cuts what runs, once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cut {
    // Told to every running call.
    token: CancellationToken,
    /// Set before the token is cancelled.
    why: Arc<OnceLock<(Reason, String)>>,
}

impl Cut {
    /// Cuts all running calls; the first reason is the one that is told.
    pub fn cut(&self, reason: Reason, message: impl Into<String>) {
        let _ = self.why.set((reason, message.into()));
        self.token.cancel();
    }

    /// Ends when it is cut.
    pub(super) fn done(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// What a call that was cut answers. Nobody knows how far it came.
    pub(super) fn status(&self) -> Status {
        let unknown = || (Reason::SessionStopping, "the component has ended".to_owned());
        let (reason, message) = self.why.get().cloned().unwrap_or_else(unknown);
        Refusal::new(reason, message).maybe_executed().into_status()
    }
}

//! Cutting the calls of a component that still run, with a reason that their callers are told.

use std::sync::{Arc, OnceLock};

use plugin_api::refusal::{Reason, Refusal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Cuts what runs, once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cut {
    // Shared as a whole: a clone of the token alone takes its lock.
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    // Told to every running call.
    token: CancellationToken,
    /// Set before the token is cancelled.
    why: OnceLock<(Reason, String)>,
}

impl Cut {
    /// Cuts all running calls; the first reason is the one that is told.
    pub fn cut(&self, reason: Reason, message: impl Into<String>) {
        let _ = self.shared.why.set((reason, message.into()));
        self.shared.token.cancel();
    }

    /// Ends when it is cut.
    pub(super) fn done(&self) -> WaitForCancellationFutureOwned {
        self.shared.token.clone().cancelled_owned()
    }

    /// What a call that was cut answers. Nobody knows how far it came.
    pub(super) fn status(&self) -> Status {
        let unknown = || (Reason::SessionStopping, "the component has ended".to_owned());
        let (reason, message) = self.shared.why.get().cloned().unwrap_or_else(unknown);
        Refusal::new(reason, message).maybe_executed().into_status()
    }
}

//! One generation of a component, from its making to its end, with what is its own: made step by step, and undone at its end.
//!
//! A component has one such life at a time, and two while it is swapped.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::border::v1::component::LifeError;
use plugin_api::descriptor::LeasePolicy;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::metadata::MetadataStore;
use crate::plugin::{Generation, Library};
use crate::serve::{Certain, Cut, Serving};

/// What is alive of one generation. Owned by one task at a time.
#[derive(Default)]
pub struct Life {
    /// Its code.
    pub library: Option<Arc<Library>>,
    /// The component, once it is made.
    pub generation: Option<Generation>,
    /// What answers its calls, once it is started.
    pub serving: Option<Serving>,
    /// Tells the component of its peers, one event at a time.
    pub notices: Option<AbortOnDropHandle<()>>,
    /// Failures in its background come in here.
    pub failures: Failures,
    /// The role's metadata, written under the session.
    pub metadata: Option<MetadataStore>,
    /// Cuts the calls that still run.
    pub cut: Cut,
}

impl Life {
    /// What is asked for each call under this policy.
    pub fn certain(&self, policy: LeasePolicy) -> Certain {
        match (policy, &self.metadata) {
            (LeasePolicy::Fence, Some(metadata)) => {
                let permit = metadata.permit().clone();
                Arc::new(move || permit.is_valid())
            }
            _ => Arc::new(|| true),
        }
    }

    /// It may not act as the holder of its session any more.
    pub fn withdraw_permit(&self) {
        if let Some(metadata) = &self.metadata {
            metadata.permit().withdraw();
        }
    }

    /// The component is told of its peers no more. One that keeps its thread is waited for at most so long.
    pub async fn end_notices(&mut self, limit: Duration) {
        if let Some(notices) = self.notices.take() {
            notices.abort();
            // What it ends with is of no interest.
            let _ = tokio::time::timeout(limit, notices).await;
        }
    }
}

/// Both ends of the failures of one component's background. Unbounded: each task and the notices send one at most.
pub struct Failures {
    sender: mpsc::UnboundedSender<LifeError>,
    receiver: mpsc::UnboundedReceiver<LifeError>,
}

impl Default for Failures {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Failures {
    /// Where they are sent.
    pub fn sender(&self) -> mpsc::UnboundedSender<LifeError> {
        self.sender.clone()
    }

    /// The next one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> LifeError {
        match self.receiver.recv().await {
            Some(failure) => failure,
            // `self` has a sender.
            None => std::future::pending().await,
        }
    }
}

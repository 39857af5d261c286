//! What is alive of a component: made step by step in its start, and undone at its end.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::border::v1::component::LifeError;
use plugin_api::descriptor::LeasePolicy;
use plugin_api::identity::ServerId;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::giving_up::GivingUp;
use super::tenure::Tenure;
use crate::cluster::PeerTable;
use crate::metadata::MetadataStore;
use crate::plugin::Generation;
use crate::serve::{Certain, Cut};
use crate::session::Session;

/// A component on its way up or alive: what has to be undone when it ends. Owned by one task at a time.
#[derive(Default)]
pub struct Alive {
    /// The component, once it is made.
    pub generation: Option<Generation>,
    /// What it was told of its session, from step 4 on.
    pub tenure: Option<Tenure>,
    /// It has come to step 4 before, in another life.
    pub again: bool,
    /// Tells the component of its peers, one event at a time.
    pub notices: Option<AbortOnDropHandle<()>>,
    /// Failures in its background come in here.
    pub failures: Failures,
    /// The role's metadata, written under the session.
    pub metadata: Option<MetadataStore>,
    /// Cuts the calls that still run.
    pub cut: Cut,
    /// Its registration. It outlives a restart.
    pub session: Option<Arc<Session>>,
    /// Gives that up where the restart takes long.
    pub giving_up: Option<GivingUp>,
    /// The table of its own role: who could take over from a coordinator. It outlives a restart.
    pub rivals: Option<watch::Receiver<Arc<PeerTable>>>,
}

impl Alive {
    /// Was the component told `activate`, and not `deactivate`?
    pub fn is_activated(&self) -> bool {
        self.tenure.as_ref().is_some_and(Tenure::is_activated)
    }

    /// Could another take over at once: does one stand by that does not stop itself?
    pub fn has_rival(&self, own: ServerId) -> bool {
        self.rivals.as_ref().is_some_and(|table| {
            let table = table.borrow();
            table.sessions.iter().any(|(id, session)| *id != own && session.standby && !session.record.stopping)
        })
    }

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

    pub(super) async fn next(&mut self) -> LifeError {
        match self.receiver.recv().await {
            Some(failure) => failure,
            // `self` has a sender.
            None => std::future::pending().await,
        }
    }
}

//! A generation: one component of a loaded copy of a plugin, its ledger, and its background tasks.

use std::sync::Arc;

use http::{Request, Response};
use plugin_api::border::v1::component::{CreateSettings, LifeError};
use plugin_api::border::v1::{HostV1, LoadedComponent};
use plugin_api::descriptor::Descriptor;
use plugin_api::identity::Role;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::body::Body;

use super::asked::Asked;
use super::ledger::{CallEntry, Ledger, LedgerView};
use super::loader::Library;
use super::tasks::Tasks;
use crate::connections::ConnectionManager;
use crate::metadata::MetadataStore;

/// What a generation is given of the host.
#[derive(Clone)]
pub struct GenerationSettings {
    /// The role that it plays.
    pub role: Role,
    /// Which loaded copy it is.
    pub generation: u64,
    /// The most detailed level that is logged, as `border::log::level_number` has it.
    pub log_level: u8,
    /// The links.
    pub connections: ConnectionManager,
    /// The role's metadata.
    pub metadata: MetadataStore,
    /// The host's runtime.
    pub runtime: Handle,
}

/// A live component. Cheap to clone; the component goes with the last clone.
#[derive(Clone)]
pub struct Generation {
    inner: Arc<Inner>,
}

struct Inner {
    component: LoadedComponent,
    descriptor: Descriptor,
    generation: u64,
    runtime: Handle,
    ledger: Arc<Ledger>,
    tasks: Tasks,
}

impl Generation {
    /// Makes a component of a library. What fails in its background from then on is sent to `failures`.
    ///
    /// # Errors
    ///
    /// As the author's constructor and descriptor.
    pub fn create(
        library: &Library,
        config: &str,
        settings: GenerationSettings,
        failures: mpsc::UnboundedSender<LifeError>,
    ) -> Result<Self, LifeError> {
        let ledger = Ledger::new();
        let tasks = Tasks::new(settings.runtime.clone(), ledger.clone(), failures);
        let create = CreateSettings {
            role: settings.role.clone(),
            generation: settings.generation,
            log_level: settings.log_level,
            linked: library.origin().is_none(),
        };
        let (generation, runtime) = (settings.generation, settings.runtime.clone());
        let host = HostV1::new(Arc::new(Asked::new(settings, tasks.clone())), runtime.clone());
        let component = library.create(config, host, &create)?;
        let descriptor = component.descriptor()?;
        Ok(Self { inner: Arc::new(Inner { component, descriptor, generation, runtime, ledger, tasks }) })
    }

    /// What the component says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.inner.descriptor
    }

    /// Which loaded copy of the plugin it is.
    pub fn number(&self) -> u64 {
        self.inner.generation
    }

    /// The component, for the methods of its life.
    pub fn component(&self) -> &LoadedComponent {
        &self.inner.component
    }

    /// Counts a call, from before it is let in until its answer has ended: as long as the entry lives.
    pub fn enter(&self) -> CallEntry {
        self.inner.ledger.call()
    }

    /// A call of one of its services.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.inner.component.call(&self.inner.runtime, request).await
    }

    /// Waits until no call runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn no_calls(&self) {
        self.inner.ledger.no_calls().await;
    }

    /// Ends the component's background tasks: each is dropped at its next point of waiting.
    pub async fn end_tasks(&self) {
        self.inner.tasks.end().await;
    }

    /// What is alive of it.
    pub fn ledger(&self) -> LedgerView {
        self.inner.ledger.view(self.inner.component.lent_buffers())
    }
}

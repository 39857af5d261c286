//! A generation: one component of a loaded copy of a plugin, its ledger, and its background tasks.

use std::sync::{Arc, Weak};

use http::{Request, Response};
use plugin_api::border::v1::component::{CreateSettings, LifeError};
use plugin_api::border::v1::{HostV1, LoadedComponent};
use plugin_api::descriptor::Descriptor;
use plugin_api::identity::Role;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;

use super::asked::Asked;
use super::ledger::{CallEntry, Ledger, LedgerView};
use super::loader::Library;
use super::tasks::Tasks;
use super::threads;
use crate::connections::ConnectionManager;
use crate::metadata::MetadataStore;

/// What a generation is given of the host.
#[derive(Clone)]
pub struct GenerationSettings {
    /// The role that it plays.
    pub role: Role,
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
    traces: Traces,
    /// Methods of the component's life are called one after another.
    turn: Arc<Mutex<()>>,
}

/// What can be said of a generation at any time, also when its component has been dropped. It holds nothing of it.
#[derive(Clone)]
pub struct Traces {
    ledger: Arc<Ledger>,
    lent_buffers: Arc<dyn Fn() -> usize + Send + Sync>,
    thread_name: String,
}

/// A generation, not held: it may have gone.
#[derive(Clone)]
pub struct WeakGeneration(Weak<Inner>);

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
            generation: library.generation(),
            log_level: settings.log_level,
            linked: library.origin().is_none(),
        };
        let (generation, runtime) = (library.generation(), settings.runtime.clone());
        let asked = Asked::new(settings, generation, tasks.clone(), ledger.clone());
        let host = HostV1::new(Arc::new(asked), runtime.clone());
        let component = library.create(config, host, &create)?;
        let descriptor = component.descriptor()?;
        let lent_buffers = Arc::new(component.lent_buffers());
        let traces = Traces { ledger: ledger.clone(), lent_buffers, thread_name: create.thread_name() };
        let turn = Arc::default();
        Ok(Self { inner: Arc::new(Inner { component, descriptor, generation, runtime, ledger, tasks, traces, turn }) })
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

    /// Calls a method of its life, in a task of its own, when the one before has ended.
    ///
    /// # Cancel safety
    ///
    /// The method is dropped at its next point of waiting.
    pub async fn in_turn<T, F>(&self, call: impl FnOnce(Self) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
    {
        let (turn, one) = (self.inner.turn.clone(), self.clone());
        let task = async move {
            let _turn = turn.lock().await;
            call(one).await
        };
        match AbortOnDropHandle::new(self.inner.runtime.spawn(task)).await {
            Ok(done) => done,
            // The border catches the author's panics: this is one of ours.
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The host's runtime ends, and whoever waits here with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Counts a call, from before it is let in until its answer has ended: as long as the entry lives.
    pub fn enter(&self, is_gated: bool) -> CallEntry {
        self.inner.ledger.call(is_gated)
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

    /// Waits until no call of a gated method runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn no_gated_calls(&self) {
        self.inner.ledger.no_gated_calls().await;
    }

    /// How many calls of gated methods run.
    pub fn gated_calls(&self) -> usize {
        self.inner.ledger.gated_calls()
    }

    /// Ends what the component does by itself: each task is dropped at its next point of waiting, streams end. What belongs
    /// to calls goes on. It may begin anew.
    pub async fn end_background(&self) {
        self.inner.tasks.end_background().await;
    }

    /// Ends what calls have begun that have ended themselves. For one that is called no more.
    ///
    /// # Cancel safety
    ///
    /// It may end all the same.
    pub async fn end_left_of_calls(&self) {
        self.inner.tasks.end_left_of_calls().await;
    }

    /// Ends all the component's tasks: each is dropped at its next point of waiting. Its channels call nobody any more.
    pub async fn end_tasks(&self) {
        self.inner.tasks.end().await;
    }

    /// What is alive of it.
    pub fn ledger(&self) -> LedgerView {
        self.traces().view()
    }

    /// What can be said of it at any time.
    pub fn traces(&self) -> &Traces {
        &self.inner.traces
    }

    /// Itself, not held.
    pub fn downgrade(&self) -> WeakGeneration {
        WeakGeneration(Arc::downgrade(&self.inner))
    }

    /// Is it the same?
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Traces {
    /// Waits until no call of it runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn no_calls(&self) {
        self.ledger.no_calls().await;
    }

    /// How many calls of it run.
    pub fn calls(&self) -> usize {
        self.ledger.calls()
    }

    /// What is alive of it.
    pub fn view(&self) -> LedgerView {
        self.ledger.view((self.lent_buffers)(), threads::count(&self.thread_name))
    }
}

impl WeakGeneration {
    /// Has the component been dropped?
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

//! QueryCoord: says which QueryNode holds which segment, and searches collections over all of them.
//!
//! ```text
//! service ─┬─ Search ──────────► engine (who holds what) ─► search ─► cluster (nodes), merged
//!          └─ Load, Release ───► engine ─┬► core (the rules: aims, loads, moves) ─► metadata
//! notices of nodes ─────────────►        └► cluster (nodes load and release)
//! ```
//!
//! What it wants is in its metadata, changed by compared writes only; what is true the nodes say. Notices alone drive it: a
//! node that goes is replaced, one that comes takes its share, one that is stopping is emptied while it still serves. A swap
//! hands over what is known beside the metadata (`handed`).

mod cluster;
mod core;
mod distribution;
mod engine;
mod handed;
mod limit;
mod search;
mod service;
mod serving;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use plugin_api::{
    BoxError, Component, Context, Deactivation, Dependency, Descriptor, LeasePolicy, Metadata, Resume, Role, Services,
    Snapshot, Task, async_trait,
};
use proto::querycoord::v1::FILE_DESCRIPTOR_SET;
use proto::querycoord::v1::query_coord_server::QueryCoordServer;
use proto::state::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::Links;
use crate::core::Settings;
use crate::engine::{Engine, Known, Limits};
use crate::handed::Handed;
use crate::search::loads::Loads;
use crate::service::Service;

/// Of [`handed::Handed`].
const STATE: Format = Format { version: 1, readable_from: 1 };

/// The keys of `[component.querycoord.config]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryCoordConfig {
    /// How long a search may take, 5s by default; less where its caller waits for less. Then the answer is partial. Where
    /// another node holds the same, it is asked as well after a quarter of that time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub search_timeout: Duration,
    /// How long RootCoord may take to resolve a collection's name, 1s by default. Then a search goes by the newest loaded
    /// collection of that name.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub resolve_timeout: Duration,
    /// How long a node may take to load a segment, 2m by default: 12 GB from a disk of 100 MB/s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_timeout: Duration,
    /// The most segments that are being loaded at once, 16 by default: so much of the disks and the network is taken from
    /// searches at most, and so many moves are undone if they were not needed after all.
    pub max_moves: usize,
    /// The most of these on one node, 2 by default: one is read from the disk while the other is checked. A node that hangs
    /// keeps no more from the others.
    pub max_moves_per_node: usize,
    /// How long a node, or a segment on a node, is left alone after a load that failed, 1s by default; then twice as long
    /// each time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_backoff_min: Duration,
    /// The longest that it is left alone, 1m by default: a disk that was full is found free within that.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_backoff_max: Duration,
}

impl Default for QueryCoordConfig {
    fn default() -> Self {
        Self {
            search_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(1),
            load_timeout: Duration::from_secs(120),
            max_moves: 16,
            max_moves_per_node: 2,
            load_backoff_min: Duration::from_secs(1),
            load_backoff_max: Duration::from_secs(60),
        }
    }
}

/// A value of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{key} has to be more than 0s")]
    NoTime { key: &'static str },
    #[error("{key} has to be at least 1")]
    None { key: &'static str },
    #[error("load_backoff_min ({min:?}) has to be at most load_backoff_max ({max:?})")]
    Backoff { min: Duration, max: Duration },
}

impl QueryCoordConfig {
    fn check(&self) -> Result<(), Unusable> {
        let times = [
            ("search_timeout", self.search_timeout),
            ("resolve_timeout", self.resolve_timeout),
            ("load_timeout", self.load_timeout),
            ("load_backoff_min", self.load_backoff_min),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, limit)| limit.is_zero()) {
            return Err(Unusable::NoTime { key });
        }
        let counts = [("max_moves", self.max_moves), ("max_moves_per_node", self.max_moves_per_node)];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Unusable::None { key });
        }
        let (min, max) = (self.load_backoff_min, self.load_backoff_max);
        if min > max { Err(Unusable::Backoff { min, max }) } else { Ok(()) }
    }

    fn settings(&self) -> Settings {
        Settings {
            max_moves: self.max_moves,
            max_moves_per_node: self.max_moves_per_node,
            backoff_min: self.load_backoff_min,
            backoff_max: self.load_backoff_max,
        }
    }
}

/// There is nothing to hand over yet.
#[derive(Debug, thiserror::Error)]
#[error("this QueryCoord has not been started, and so has no state")]
struct NotStarted;

/// The component.
pub struct QueryCoord {
    config: QueryCoordConfig,
    /// Made by `start`.
    state: OnceLock<State>,
    /// The engine's task: started by `activate`, ended by `snapshot` or `deactivate`.
    task: Mutex<Option<Task<()>>>,
    /// What another generation has handed over, for the next `activate`.
    restored: Mutex<Option<Handed>>,
    /// What nodes are busy with for searches.
    loads: Arc<Mutex<Loads>>,
}

struct State {
    context: Context,
    cluster: Arc<Links>,
    engine: Arc<Engine<Metadata, Links>>,
}

impl QueryCoord {
    /// One that has read nothing yet.
    ///
    /// # Errors
    ///
    /// A value of the configuration cannot be used.
    pub fn new(config: QueryCoordConfig) -> Result<Self, BoxError> {
        config.check()?;
        let (task, restored, loads) = (Mutex::default(), Mutex::default(), Arc::default());
        Ok(Self { config, state: OnceLock::new(), task, restored, loads })
    }

    fn state(&self, context: Context) -> Result<&State, BoxError> {
        let cluster = Arc::new(Links::new(context.clone(), &Role::new("rootcoord")?, Role::new("querynode")?));
        let limits = Limits { load: self.config.load_timeout, call: self.config.search_timeout };
        let metadata = Arc::new(context.metadata());
        let engine = Arc::new(Engine::new(metadata, Arc::clone(&cluster), self.config.settings(), limits));
        Ok(self.state.get_or_init(|| State { context, cluster, engine }))
    }

    fn take_task(&self) -> Option<EndOnDrop> {
        lock(&self.task).take().map(EndOnDrop)
    }

    /// What may be relied on; what was restored is forgotten.
    fn known(&self, resume: Resume) -> Known {
        let restored = lock(&self.restored).take();
        match (resume, restored) {
            (Resume::Restored | Resume::Kept, Some(Handed { known, avoided })) => {
                lock(&self.loads).avoid_too(avoided, Instant::now());
                Known::Handed(known)
            }
            (Resume::Kept, None) => Known::Kept,
            (Resume::Restored | Resume::Fresh | Resume::TakenOver | Resume::RolledBack, _) => Known::Nothing,
        }
    }

    fn end_task(&self) {
        drop(self.take_task());
        if let Some(state) = self.state.get() {
            state.engine.deactivate();
        }
    }
}

#[async_trait]
impl Component for QueryCoord {
    /// It serves on without etcd: each of its writes is compared, and searches need none. What goes through the engine's task
    /// is held while a swap hands over what that knows.
    fn descriptor(&self) -> Descriptor {
        Descriptor::coordinator("querycoord")
            .lease_policy(LeasePolicy::Serve)
            .depends_on(Dependency::coordinator("rootcoord"))
            .depends_on(Dependency::nodes("querynode"))
            .gate("/componenthost.querycoord.v1.QueryCoord/LoadCollection")
            .gate("/componenthost.querycoord.v1.QueryCoord/ReleaseCollection")
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let state = self.state(context)?;
        let service = Service {
            cluster: Arc::clone(&state.cluster),
            engine: Arc::clone(&state.engine),
            search_timeout: self.config.search_timeout,
            resolve_timeout: self.config.resolve_timeout,
            loads: Arc::clone(&self.loads),
        };
        let server = QueryCoordServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Services::new().serve(server).describe(FILE_DESCRIPTOR_SET))
    }

    /// What is wanted is read from the metadata, but where nobody else was active: nothing depends on what was under way.
    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        let Some(state) = self.state.get() else { return Ok(()) };
        self.end_task();
        let known = self.known(resume);
        let task = state.context.spawn("engine", state.engine.activate(known).await?);
        *lock(&self.task) = Some(task);
        Ok(())
    }

    async fn deactivate(&self, _: Deactivation) {
        self.end_task();
    }

    /// Of a generation that was not active since what it has was restored, that is handed on.
    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        if let Some(restored) = lock(&self.restored).as_ref() {
            return Ok(STATE.write(restored)?);
        }
        let Some(state) = self.state.get() else { return Err(NotStarted.into()) };
        let task = self.take_task();
        state.engine.deactivate();
        if let Some(mut task) = task {
            // It ends by itself. That it was aborted or has panicked is told elsewhere.
            let _ = (&mut task.0).await;
        }
        let avoided = lock(&self.loads).avoided(Instant::now());
        Ok(STATE.write(&Handed { known: state.engine.knowledge(), avoided })?)
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        let handed = STATE.read(&snapshot)?;
        *lock(&self.restored) = Some(handed);
        Ok(())
    }
}

/// A task that ends, at the latest, when this is dropped.
struct EndOnDrop(Task<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

plugin_api::export!(QueryCoord::new, schema = schemars::schema_for!(QueryCoordConfig));

#[cfg(test)]
mod tests;

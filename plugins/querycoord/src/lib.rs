//! QueryCoord: says which QueryNode holds which segment, and searches collections over all of them.
//!
//! ```text
//! service ─┬─ Search ──────────► plans (what is loaded) ─► search ─► cluster (nodes), merged
//!          └─ Load, Release ───► changes ─┬► plan (the rule) ─► plans (kept in the metadata)
//! on_peer ─► settling ─► changes (settle) └► cluster (nodes load and release)
//! ```
//!
//! What it wants is in its metadata, changed by compared writes only; what is true the nodes say. A node that comes, or
//! that does not hold what it should, is settled: it loads what it is short of and releases what nobody wants.

mod changes;
mod cluster;
mod distribution;
mod engine;
mod limit;
mod plan;
mod plans;
mod search;
mod service;
mod serving;
mod settling;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use plugin_api::{
    BoxError, Component, Context, Deactivation, Dependency, Descriptor, LeasePolicy, Metadata, Peer, PeerChange,
    PeerEvent, Resume, Role, Services, Task, async_trait,
};
use proto::querycoord::v1::FILE_DESCRIPTOR_SET;
use proto::querycoord::v1::query_coord_server::QueryCoordServer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::changes::Changes;
use crate::cluster::{Cluster as _, Links};
use crate::engine::Engine;
use crate::plans::Plans;
use crate::service::Service;
use crate::settling::Settling;

/// The keys of `[component.querycoord.config]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryCoordConfig {
    /// How long a node may take for its part of a search, 5s by default; less where the search's caller waits for less.
    /// Then the answer is partial.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub search_timeout: Duration,
    /// How long RootCoord may take to resolve a collection's name, 1s by default. Then a search goes by the newest loaded
    /// collection of that name.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub resolve_timeout: Duration,
    /// How long a node may take to load its segments of a collection, 2m by default: 12 GB from a disk of 100 MB/s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub load_timeout: Duration,
}

impl Default for QueryCoordConfig {
    fn default() -> Self {
        Self {
            search_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(1),
            load_timeout: Duration::from_secs(120),
        }
    }
}

/// A value of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} has to be more than 0s")]
struct NoTime {
    key: &'static str,
}

/// The component.
pub struct QueryCoord {
    config: QueryCoordConfig,
    /// Made by `start`.
    state: OnceLock<State>,
    /// The task that settles nodes: started by `activate`, ended by `deactivate`.
    settler: Mutex<Option<Task<()>>>,
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
    /// A time limit of the configuration is zero.
    pub fn new(config: QueryCoordConfig) -> Result<Self, BoxError> {
        let limits = [
            ("search_timeout", config.search_timeout),
            ("resolve_timeout", config.resolve_timeout),
            ("load_timeout", config.load_timeout),
        ];
        if let Some((key, _)) = limits.into_iter().find(|(_, limit)| limit.is_zero()) {
            return Err(NoTime { key }.into());
        }
        Ok(Self { config, state: OnceLock::new(), settler: Mutex::default() })
    }

    fn state(&self, context: Context) -> Result<&State, BoxError> {
        let plans = Arc::new(Plans::new(Arc::new(context.metadata())));
        let cluster = Arc::new(Links::new(context.clone(), &Role::new("rootcoord")?, Role::new("querynode")?));
        let changes = Changes {
            plans: Arc::clone(&plans),
            cluster: Arc::clone(&cluster),
            load_timeout: self.config.load_timeout,
            call_timeout: self.config.search_timeout,
            turn: AsyncMutex::default(),
        };
        let settling = Settling::default();
        let engine = Arc::new(Engine { plans, cluster: Arc::clone(&cluster), changes, settling });
        Ok(self.state.get_or_init(|| State { context, cluster, engine }))
    }

    fn end_settler(&self) {
        if let Some(settler) = self.settler.lock().unwrap_or_else(PoisonError::into_inner).take() {
            settler.abort();
        }
    }
}

#[async_trait]
impl Component for QueryCoord {
    /// It serves on without etcd: each of its writes is compared, and searches need none.
    fn descriptor(&self) -> Descriptor {
        Descriptor::coordinator("querycoord")
            .lease_policy(LeasePolicy::Serve)
            .depends_on(Dependency::coordinator("rootcoord"))
            .depends_on(Dependency::nodes("querynode"))
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let state = self.state(context)?;
        let service = Service {
            cluster: Arc::clone(&state.cluster),
            engine: Arc::clone(&state.engine),
            search_timeout: self.config.search_timeout,
            resolve_timeout: self.config.resolve_timeout,
        };
        let server = QueryCoordServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Services::new().serve(server).describe(FILE_DESCRIPTOR_SET))
    }

    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        let Some(state) = self.state.get() else { return Ok(()) };
        if resume != Resume::Kept {
            state.engine.plans.read().await?;
        }
        // Those that were there before the plans were known; all others come by `on_peer`.
        state.engine.settling.ask(state.cluster.nodes()?.into_keys());
        let engine = Arc::clone(&state.engine);
        let settler = state.context.spawn("settle", async move {
            loop {
                engine.changes.settle(engine.settling.next().await).await;
            }
        });
        self.end_settler();
        *self.settler.lock().unwrap_or_else(PoisonError::into_inner) = Some(settler);
        Ok(())
    }

    async fn on_peer(&self, event: PeerEvent) {
        let Some(state) = self.state.get().filter(|_| event.role.as_str() == "querynode") else { return };
        let come: Vec<Peer> = match event.change {
            PeerChange::Table(peers) => peers,
            PeerChange::Online(peer) | PeerChange::Updated(peer) | PeerChange::Replaced { new: peer, .. } => vec![peer],
            PeerChange::Offline { peer, reason, .. } => {
                tracing::info!(node = peer.server_id.0, %reason, "a node cannot be called");
                return;
            }
            PeerChange::Stopping(_) | PeerChange::Reregistered(_) | PeerChange::GivenUp { .. } => return,
        };
        state.engine.settling.ask(come.iter().filter(|peer| peer.is_callable()).map(|peer| peer.server_id.0));
    }

    async fn deactivate(&self, _: Deactivation) {
        self.end_settler();
    }
}

plugin_api::export!(QueryCoord::new, schema = schemars::schema_for!(QueryCoordConfig));

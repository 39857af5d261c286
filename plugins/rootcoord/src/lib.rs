//! RootCoord: timestamps, ids, and what collections and segments there are.
//!
//! ```text
//! service ─┬─► allocator ── timestamp, ids (state machines)
//!          ├─► catalogue ── records (keys and values)
//! on_peer ─┴─► releases ─┬► catalogue (what was dropped)
//!                        └► QueryCoord
//! ```
//!
//! All its state is in its metadata, changed by compared transactions only. What it keeps in memory are ranges of
//! timestamps and ids that it has reserved there.

mod allocator;
mod catalogue;
mod ids;
mod records;
mod releases;
mod service;
mod timestamp;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use plugin_api::{
    BoxError, Component, Context, Deactivation, Dependency, Descriptor, Metadata, Peer, PeerChange, PeerEvent, Resume,
    Role, Services, Task, async_trait,
};
use proto::files::DataDirs;
use proto::rootcoord::v1::FILE_DESCRIPTOR_SET;
use proto::rootcoord::v1::root_coord_server::RootCoordServer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allocator::{Allocator, milliseconds};
use crate::catalogue::Catalogue;
use crate::releases::{Link, Releases};
use crate::service::Service;

/// Whom it tells of dropped collections.
const QUERY_COORD: &str = "querycoord";

/// The keys of `[component.rootcoord.config]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RootCoordConfig {
    /// The folders that AddSegment may read files of vectors from; links that lead out of them are refused. A relative path
    /// is looked for in each, in order. None by default, as a default folder would open files that nobody meant to. The
    /// same folders as those of the QueryNodes.
    pub data_dirs: Vec<PathBuf>,
    /// How long QueryCoord may take to release a collection that was dropped, 5s by default. Who drops it waits so long for
    /// that at most, and no longer than half of the call's deadline; it is released later then.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub release_timeout: Duration,
}

impl Default for RootCoordConfig {
    fn default() -> Self {
        Self { data_dirs: Vec::new(), release_timeout: Duration::from_secs(5) }
    }
}

/// A time limit that leaves no time.
#[derive(Debug, thiserror::Error)]
#[error("release_timeout has to be more than 0s")]
struct NoTime;

/// The component.
pub struct RootCoord {
    config: RootCoordConfig,
    /// Made by `start`, for `activate`.
    state: OnceLock<State>,
    /// The task that ends what is left of dropped collections: started by `activate`, ended by `deactivate`.
    releaser: Mutex<Option<Task<()>>>,
}

struct State {
    context: Context,
    allocator: Arc<Allocator<Metadata>>,
    catalogue: Arc<Catalogue<Metadata>>,
    releases: Arc<Releases<Metadata, Link>>,
}

impl RootCoord {
    /// One that has read nothing yet.
    ///
    /// # Errors
    ///
    /// A time limit of the configuration is zero.
    pub fn new(config: RootCoordConfig) -> Result<Self, BoxError> {
        if config.release_timeout.is_zero() {
            return Err(NoTime.into());
        }
        Ok(Self { config, state: OnceLock::new(), releaser: Mutex::default() })
    }

    fn state(&self, context: Context) -> Result<&State, BoxError> {
        let store = Arc::new(context.metadata());
        let allocator = Arc::new(Allocator::new(Arc::clone(&store), milliseconds));
        let catalogue = Arc::new(Catalogue::new(store));
        let query_coord = Link::new(context.clone(), Role::new(QUERY_COORD)?);
        let releases = Arc::new(Releases::new(Arc::clone(&catalogue), query_coord, self.config.release_timeout));
        Ok(self.state.get_or_init(|| State { context, allocator, catalogue, releases }))
    }

    fn end_releaser(&self) {
        if let Some(releaser) = self.releaser.lock().unwrap_or_else(PoisonError::into_inner).take() {
            releaser.abort();
        }
    }
}

#[async_trait]
impl Component for RootCoord {
    /// The methods that give out timestamps and ids are held while a swap hands over what is reserved. QueryCoord, which
    /// itself depends on RootCoord, is needed only for what has been dropped: without it RootCoord is ready all the same.
    fn descriptor(&self) -> Descriptor {
        let held = ["AllocTimestamp", "AllocID", "CreateCollection", "AddSegment"];
        let path = |method| format!("/componenthost.rootcoord.v1.RootCoord/{method}");
        let root_coord =
            Descriptor::coordinator("rootcoord").depends_on(Dependency::coordinator(QUERY_COORD).optional());
        held.into_iter().map(path).fold(root_coord, Descriptor::gate)
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let state = self.state(context)?;
        let service = Service {
            allocator: Arc::clone(&state.allocator),
            catalogue: Arc::clone(&state.catalogue),
            releases: Arc::clone(&state.releases),
            data_dirs: DataDirs::new(self.config.data_dirs.clone()),
        };
        let server = RootCoordServer::new(service).max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Services::new().serve(server).describe(FILE_DESCRIPTOR_SET))
    }

    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        let Some(state) = self.state.get() else { return Ok(()) };
        // Only after a fence that nobody used are the reserved ranges still the newest.
        if resume != Resume::Kept {
            state.allocator.reset().await;
        }
        self.end_releaser();
        let releases = Arc::clone(&state.releases);
        // It begins with what was dropped before.
        let releaser = state.context.spawn("release", async move { releases.run().await });
        *self.releaser.lock().unwrap_or_else(PoisonError::into_inner) = Some(releaser);
        Ok(())
    }

    async fn on_peer(&self, event: PeerEvent) {
        let Some(state) = self.state.get().filter(|_| event.role.as_str() == QUERY_COORD) else { return };
        let has_come = match &event.change {
            PeerChange::Table(peers) => peers.iter().any(Peer::is_callable),
            PeerChange::Online(_) | PeerChange::Replaced { .. } | PeerChange::Updated(_) => true,
            PeerChange::Offline { .. }
            | PeerChange::Stopping(_)
            | PeerChange::Reregistered(_)
            | PeerChange::GivenUp { .. } => false,
        };
        if has_come {
            state.releases.wake();
        }
    }

    async fn deactivate(&self, _: Deactivation) {
        self.end_releaser();
    }
}

plugin_api::export!(RootCoord::new, schema = schemars::schema_for!(RootCoordConfig));

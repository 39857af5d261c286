//! RootCoord: timestamps, ids, and what collections and segments there are.
//!
//! ```text
//! service ─┬─► allocator ── in_hand ── timestamp, ids (state machines)
//!          ├─► catalogue ── records (keys and values)
//! on_peer ─┴─► releases ─┬► catalogue (what was dropped)
//!                        └► QueryCoord
//! ```
//!
//! All its state is in its metadata, changed by compared transactions only. What it keeps in memory are ranges of
//! timestamps and ids that it has reserved there. A swap hands these over, so that none is given out twice or skipped.

mod allocator;
mod catalogue;
mod ids;
mod in_hand;
mod records;
mod releases;
mod service;
mod timestamp;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use plugin_api::{
    BoxError, Component, Context, Deactivation, Dependency, Descriptor, Metadata, Peer, PeerChange, PeerEvent, Resume,
    Role, Services, Snapshot, Task, async_trait,
};
use proto::files::DataDirs;
use proto::rootcoord::v1::FILE_DESCRIPTOR_SET;
use proto::rootcoord::v1::root_coord_server::RootCoordServer;
use proto::state::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allocator::{Allocator, milliseconds};
use crate::catalogue::Catalogue;
use crate::in_hand::InHand;
use crate::releases::{Link, Releases};
use crate::service::Service;

/// Of [`in_hand::Handed`].
const STATE: Format = Format { version: 1, readable_from: 1 };

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
    in_hand: Arc<InHand>,
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
        Ok(Self { config, in_hand: Arc::default(), state: OnceLock::new(), releaser: Mutex::default() })
    }

    fn state(&self, context: Context) -> Result<&State, BoxError> {
        let store = Arc::new(context.metadata());
        let allocator = Arc::new(Allocator::new(Arc::clone(&store), Arc::clone(&self.in_hand), milliseconds));
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
    /// The methods that give out timestamps and ids are held while a swap hands over what is in hand. DropCollection needs
    /// none: one that runs on the old generation ends there. QueryCoord, which itself depends on RootCoord, is needed only for what has been dropped: without it RootCoord is ready all the same.
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
        match resume {
            // After a fence that nobody used, a swap, or one that was refused, what is in hand is the newest.
            Resume::Kept | Resume::Restored => self.in_hand.go_on(),
            Resume::Fresh | Resume::TakenOver | Resume::RolledBack => self.in_hand.reset().await,
        }
        let Some(state) = self.state.get() else { return Ok(()) };
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
        // A call that runs still must give out nothing below what another one gives out by now.
        self.in_hand.pause();
        self.end_releaser();
    }

    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        self.end_releaser();
        Ok(STATE.write(&self.in_hand.hand_over().await)?)
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        Ok(self.in_hand.take_over(STATE.read(&snapshot)?).await?)
    }
}

plugin_api::export!(RootCoord::new, schema = schemars::schema_for!(RootCoordConfig));

#[cfg(test)]
mod tests;

//! RootCoord: timestamps, ids, and what collections and segments there are.
//!
//! ```text
//! service ─┬─► allocator ── timestamp, ids (state machines)
//!          └─► catalogue ── records (keys and values)
//! ```
//!
//! All its state is in its metadata, changed by compared transactions only. What it keeps in memory are ranges of
//! timestamps and ids that it has reserved there.

mod allocator;
mod catalogue;
mod ids;
mod records;
mod service;
mod timestamp;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use plugin_api::{BoxError, Component, Context, Descriptor, Metadata, Resume, Services, async_trait};
use proto::files::DataDirs;
use proto::rootcoord::v1::FILE_DESCRIPTOR_SET;
use proto::rootcoord::v1::root_coord_server::RootCoordServer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allocator::{Allocator, milliseconds};
use crate::catalogue::Catalogue;
use crate::service::Service;

/// The keys of `[component.rootcoord.config]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RootCoordConfig {
    /// The folders that AddSegment may read files of vectors from; links that lead out of them are refused. A relative path
    /// is looked for in each, in order. None by default, as a default folder would open files that nobody meant to. The
    /// same folders as those of the QueryNodes.
    pub data_dirs: Vec<PathBuf>,
}

/// The component.
pub struct RootCoord {
    config: RootCoordConfig,
    /// Made by `start`, for `activate`.
    state: OnceLock<State>,
}

struct State {
    allocator: Arc<Allocator<Metadata>>,
    catalogue: Arc<Catalogue<Metadata>>,
}

impl RootCoord {
    /// One that has read nothing yet.
    ///
    /// # Errors
    ///
    /// None now.
    pub fn new(config: RootCoordConfig) -> Result<Self, BoxError> {
        Ok(Self { config, state: OnceLock::new() })
    }
}

#[async_trait]
impl Component for RootCoord {
    /// The methods that give out timestamps and ids are held while a swap hands over what is reserved.
    fn descriptor(&self) -> Descriptor {
        let held = ["AllocTimestamp", "AllocID", "CreateCollection", "AddSegment"];
        let path = |method| format!("/componenthost.rootcoord.v1.RootCoord/{method}");
        held.into_iter().map(path).fold(Descriptor::coordinator("rootcoord"), Descriptor::gate)
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let store = Arc::new(context.metadata());
        let allocator = Arc::new(Allocator::new(Arc::clone(&store), milliseconds));
        let catalogue = Arc::new(Catalogue::new(store));
        let state = self.state.get_or_init(|| State { allocator, catalogue });
        let service = Service {
            allocator: Arc::clone(&state.allocator),
            catalogue: Arc::clone(&state.catalogue),
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
        // Left-overs do no harm until the next try: they belong to ids that are never used again.
        if let Err(error) = state.catalogue.sweep_orphans().await {
            tracing::warn!(
                error = plugin_api::error::chain(&error),
                "segments of dropped collections were not removed"
            );
        }
        Ok(())
    }
}

plugin_api::export!(RootCoord::new, schema = schemars::schema_for!(RootCoordConfig));

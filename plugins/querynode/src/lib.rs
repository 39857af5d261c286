//! QueryNode: holds segments in memory and searches them.
//!
//! ```text
//! service ── LoadSegments ──► catalogue (RootCoord, for what the call does not say)
//!    │                    └─► reading (file → memory) ──► segments
//!    └────── Search ──► segments (choose) ──► searches (turns, threads) ──► scan ──► sieve, distance, nearest
//! ```
//!
//! What a node holds is gone with its process: QueryCoord knows what it wants where, and loads it again.

mod catalogue;
mod distance;
mod memory;
mod nearest;
mod reading;
mod scan;
mod searches;
mod segment;
mod segments;
mod service;
mod sieve;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use plugin_api::{BoxError, Component, Context, Dependency, Descriptor, Role, Services, async_trait};
use proto::querynode::v1::FILE_DESCRIPTOR_SET;
use proto::querynode::v1::query_node_server::QueryNodeServer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::RootCoord;
use crate::segments::Segments;
use crate::service::Service;

/// The keys of `[component.querynode.config]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryNodeConfig {
    /// The folders that files of vectors may be read from; links that lead out of them are refused. A relative path of a
    /// segment is looked for in each, in order. None by default: a node that may read nothing is of little use, but a
    /// default folder would open files that nobody meant to.
    pub data_dirs: Vec<PathBuf>,
    /// How many threads search. Each search gets one at least, and more while nobody else waits for one. The default is the
    /// number of cores: more would only make each search slower.
    pub parallel_searches: NonZeroUsize,
    /// How many searches may wait for a thread, first come, first served; more are refused with `RESOURCE_EXHAUSTED`, so
    /// that their callers turn elsewhere or come later. Each keeps its queries meanwhile, 64 MiB at most.
    pub waiting_searches: usize,
}

impl Default for QueryNodeConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { data_dirs: Vec::new(), parallel_searches: cores, waiting_searches: 64 }
    }
}

/// The component.
pub struct QueryNode {
    config: QueryNodeConfig,
    segments: Arc<Segments>,
}

impl QueryNode {
    /// A node that holds nothing yet.
    ///
    /// # Errors
    ///
    /// None now.
    pub fn new(config: QueryNodeConfig) -> Result<Self, BoxError> {
        Ok(Self { config, segments: Arc::default() })
    }
}

#[async_trait]
impl Component for QueryNode {
    fn descriptor(&self) -> Descriptor {
        Descriptor::node("querynode").depends_on(Dependency::coordinator("rootcoord"))
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let catalogue = RootCoord(context.client(&Role::new("rootcoord")?));
        let service = Service::new(&self.config, Arc::clone(&self.segments), catalogue);
        let server = QueryNodeServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Services::new().serve(server).describe(FILE_DESCRIPTOR_SET))
    }

    /// QueryCoord moves the segments to other nodes meanwhile, and says where it cannot.
    async fn on_stopping(&self) {
        self.segments.moved_away().await;
    }
}

plugin_api::export!(QueryNode::new, schema = schemars::schema_for!(QueryNodeConfig));

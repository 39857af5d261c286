//! QueryNode: holds segments in memory and searches them.
//!
//! ```text
//! service ── LoadSegments ──► wanted ──► catalogue (RootCoord, for what the call does not say)
//!    │                    └─► loads (turns, limit) ──► reading (file → memory) ──► segments
//!    └────── Search ──► segments (choose) ──► searches (turns, threads) ──► scan ──► sieve, distance, nearest
//! ```
//!
//! What a node holds is gone with its process: QueryCoord knows what it wants where, and loads it again. A swap hands it over
//! as it is (`handed`): not a byte of it is copied or computed anew.

mod catalogue;
mod distance;
mod handed;
mod limit;
mod load;
mod loads;
mod memory;
mod nearest;
mod norms;
mod reading;
mod scan;
mod searches;
mod segment;
mod segments;
mod service;
mod sieve;
mod wanted;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;

use bytesize::ByteSize;
use plugin_api::{BoxError, Component, Context, Dependency, Descriptor, Resume, Role, Services, Snapshot, async_trait};
use proto::querynode::v1::FILE_DESCRIPTOR_SET;
use proto::querynode::v1::query_node_server::QueryNodeServer;
use proto::state::Format;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::catalogue::RootCoord;
use crate::handed::Handed;
use crate::limit::MemoryLimit;
use crate::segments::Segments;
use crate::service::Service;

/// Far more than a QueryCoord has under way, and few enough to notice one that has lost count.
const WAITING_LOADS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Of [`handed::Handed`].
const STATE: Format = Format { version: 1, readable_from: 1 };

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
    /// How much memory segments may take, as a text with a unit (`"8GiB"`, `"500MB"`) or a number of bytes. A load that
    /// would take more is refused before anything is read. It counts 4 bytes for each component of each vector, up to 12
    /// bytes more for each vector, and what is being loaded. By default three quarters of the machine's memory, or of the
    /// limit of the cgroup (a container's, a systemd unit's) where that is less; of several nodes on one machine each needs
    /// a limit of its own.
    #[serde(deserialize_with = "byte_size")]
    #[schemars(with = "Option<ByteText>")]
    pub memory_limit: Option<ByteSize>,
    /// How many loads may be under way at once, the one that reads and those that wait for their turn; more are refused
    /// with `RESOURCE_EXHAUSTED`. A load that waits takes next to nothing but the memory that its segments will have.
    pub waiting_loads: NonZeroUsize,
}

/// A number of bytes as the configuration's schema has it.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum ByteText {
    /// With a unit.
    Text(String),
    /// Bytes.
    Bytes(u64),
}

/// Reads a limit that is given: `0` would be a node that may hold nothing.
fn byte_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    match ByteSize::deserialize(deserializer)? {
        ByteSize(0) => Err(D::Error::custom("a node that may take no memory can load nothing; leave memory_limit out")),
        limit => Ok(Some(limit)),
    }
}

impl Default for QueryNodeConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            data_dirs: Vec::new(),
            parallel_searches: cores,
            waiting_searches: 64,
            memory_limit: None,
            waiting_loads: WAITING_LOADS,
        }
    }
}

/// The component.
pub struct QueryNode {
    config: QueryNodeConfig,
    segments: Arc<Segments>,
    /// Found out by `restore` or `start`, whichever comes first.
    memory: OnceLock<Arc<MemoryLimit>>,
}

impl QueryNode {
    /// A node that holds nothing yet.
    ///
    /// # Errors
    ///
    /// None now.
    pub fn new(config: QueryNodeConfig) -> Result<Self, BoxError> {
        Ok(Self { config, segments: Arc::default(), memory: OnceLock::new() })
    }

    /// How much segments may take. An error where no `memory_limit` is configured, and the system does not tell how much
    /// memory there is.
    fn memory(&self) -> Result<&Arc<MemoryLimit>, BoxError> {
        if let Some(known) = self.memory.get() {
            return Ok(known);
        }
        let memory = MemoryLimit::new(self.config.memory_limit)?;
        tracing::info!(memory_limit = %ByteSize(memory.limit()), configured = self.config.memory_limit.is_some(),
            "so much memory may segments take");
        Ok(self.memory.get_or_init(|| Arc::new(memory)))
    }
}

#[async_trait]
impl Component for QueryNode {
    /// The methods that change what is held are held themselves while a swap hands it over. Dismiss only ends the wait of a
    /// node that is stopping, which is never swapped.
    fn descriptor(&self) -> Descriptor {
        Descriptor::node("querynode")
            .depends_on(Dependency::coordinator("rootcoord"))
            .gate("/componenthost.querynode.v1.QueryNode/LoadSegments")
            .gate("/componenthost.querynode.v1.QueryNode/ReleaseSegments")
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let catalogue = RootCoord(context.client(&Role::new("rootcoord")?));
        let memory = Arc::clone(self.memory()?);
        let service = Service::new(&self.config, Arc::clone(&self.segments), memory, catalogue);
        let server = QueryNodeServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Services::new().serve(server).describe(FILE_DESCRIPTOR_SET))
    }

    /// Whatever is resumed, a segment that is held is what it was: its memory cannot change. QueryCoord releases what is not
    /// wanted, and has loaded what is missing.
    async fn activate(&self, _: Resume) -> Result<(), BoxError> {
        self.segments.go_on();
        Ok(())
    }

    /// QueryCoord moves the segments to other nodes meanwhile, and says where it cannot.
    async fn on_stopping(&self) {
        self.segments.stop();
        self.segments.moved_away().await;
    }

    async fn stop(&self) {
        self.segments.stop();
        let held = self.segments.clear();
        // To unmap it takes a tenth of a second for each GB, and after a swap the host serves on.
        let _ = tokio::task::spawn_blocking(move || drop(held)).await;
    }

    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        let (handed, files) = Handed::of(&self.segments.hand_over()?)?;
        Ok(Snapshot { files, ..STATE.write(&handed)? })
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        let handed: Handed = STATE.read(&snapshot)?;
        Ok(self.segments.take_over(handed.receive(snapshot.files)?, self.memory()?)?)
    }
}

plugin_api::export!(QueryNode::new, schema = schemars::schema_for!(QueryNodeConfig));

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Option<u64>, String> {
        let config = serde_json::from_str::<QueryNodeConfig>(&format!(r#"{{"memory_limit": {text}}}"#));
        config.map(|config| config.memory_limit.map(|limit| limit.as_u64())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_memory_limit_has_a_unit_or_is_in_bytes() {
        for (text, bytes) in [(r#""8GiB""#, 8 << 30), (r#""1.5 MB""#, 1_500_000), ("4096", 4096), (r#""4096""#, 4096)] {
            assert_eq!(limit(text), Ok(Some(bytes)), "{text}");
        }
        for text in ["0", r#""0GiB""#, "-1", r#""8 Gibs""#, r#""much""#, r#""""#, "true"] {
            assert!(limit(text).is_err(), "{text}");
        }
        assert_eq!(QueryNodeConfig::default().memory_limit, None);
    }

    #[test]
    fn each_method_that_is_held_is_one_of_the_service() {
        let gated = QueryNode::new(QueryNodeConfig::default()).unwrap().descriptor().gated;
        assert!(gated.iter().all(|path| proto::has_method(FILE_DESCRIPTOR_SET, path)), "{gated:?}");
        assert_eq!(gated.len(), 2);
    }
}

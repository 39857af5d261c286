//! The three components, each host a process of its own, and collections that they have loaded.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use proto::querycoord::v1::{
    LoadCollectionRequest, LoadCollectionResponse, LoadedCollection, SearchRequest, SearchResponse,
    ShowLoadedCollectionsRequest,
};
use proto::rootcoord::v1::{AddSegmentRequest, CreateCollectionRequest, MetricType};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::vectors::Vectors;
use tests::{Cluster, Host, HostConfig, LIMIT, eventually, holds};
use tonic::{Request, Status};

use super::reference::{Collection, Question, Segment};

/// The name of a scene's only collection.
pub const NAME: &str = "vectors";

/// A debug build searches slowly on a machine that does much else.
const SEARCH_LIMIT: Duration = Duration::from_secs(120);

/// How the hosts of a scene are configured.
#[derive(Clone)]
pub struct Settings {
    /// How many QueryNodes there are at first.
    pub nodes: usize,
    /// The QueryCoord's own keys.
    pub querycoord: Value,
    /// The QueryNodes' own keys, beside `data_dirs`.
    pub querynode: Value,
    /// Keys of each host, by their paths.
    pub all: Vec<(&'static str, Value)>,
}

impl Settings {
    /// Defaults, and so many nodes.
    pub fn nodes(nodes: usize) -> Self {
        Self { nodes, querycoord: json!({}), querynode: json!({}), all: Vec::new() }
    }
}

/// Hosts, and the files of collections.
pub struct Scene {
    pub cluster: Cluster,
    files: TempDir,
    settings: Settings,
    pub rootcoord: Host,
    pub querycoord: Host,
    nodes: Mutex<Vec<Arc<Host>>>,
}

impl Scene {
    /// So many nodes that can be called, and nothing loaded.
    pub async fn start(nodes: usize) -> Self {
        Self::with(Settings::nodes(nodes)).await
    }

    /// The same with other settings.
    pub async fn with(settings: Settings) -> Self {
        Self::in_cluster(Cluster::start().await, settings).await
    }

    async fn in_cluster(cluster: Cluster, settings: Settings) -> Self {
        let files = TempDir::with_prefix("componenthost-test-vectors-").expect("a temporary directory can be made");
        let config = || configured(&cluster, &settings);
        let rootcoord = json!({ "data_dirs": [files.path()] });
        let rootcoord = cluster.spawn(config().component("rootcoord", "rootcoord", rootcoord));
        let querycoord = cluster.spawn(config().component("querycoord", "querycoord", settings.querycoord.clone()));
        let count = settings.nodes;
        let scene = Self { cluster, files, settings, rootcoord, querycoord, nodes: Mutex::default() };
        for _ in 0..count {
            scene.spawn_node(|config| config);
        }
        for host in [&scene.rootcoord, &scene.querycoord] {
            host.healthy().await.ready().await;
        }
        for node in scene.nodes() {
            node.healthy().await;
        }
        scene.links(count).await;
        scene
    }

    /// Two nodes and one loaded collection of these parts, of metric L2, each part in a file of its own.
    pub async fn of(parts: Vec<Vectors>) -> (Self, Arc<Collection>) {
        let scene = Self::start(2).await;
        let collection = scene.create(NAME, MetricType::L2, parts).await;
        scene.load(NAME, 1).await.expect("a loaded collection");
        (scene, collection)
    }

    /// Its nodes, also those that have ended.
    pub fn nodes(&self) -> Vec<Arc<Host>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node of that number, in the order in which they were started.
    pub fn node(&self, number: usize) -> Arc<Host> {
        Arc::clone(&self.nodes()[number])
    }

    /// One node more; does not wait for anything.
    pub fn spawn_node(&self, config: impl FnOnce(HostConfig) -> HostConfig) -> Arc<Host> {
        let mut own = self.settings.querynode.clone();
        own["data_dirs"] = json!([self.files.path()]);
        let node = configured(&self.cluster, &self.settings).component("querynode", "querynode", own);
        let node = Arc::new(self.cluster.spawn(config(node)));
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node
    }

    /// One QueryCoord more: a standby.
    pub async fn standby(&self) -> Host {
        let config = configured(&self.cluster, &self.settings);
        let config = config.component("querycoord", "querycoord", self.settings.querycoord.clone());
        let standby = self.cluster.host(config).await;
        standby.in_state("querycoord", "StandBy").await;
        standby
    }

    /// Waits until QueryCoord has links that are ready to RootCoord and so many nodes.
    pub async fn links(&self, nodes: usize) {
        eventually(LIMIT, || async {
            let connections = self.querycoord.connections().await;
            let ready = connections.to_string().matches(r#""link":"ready""#).count();
            holds(ready == nodes + 1, connections)
        })
        .await;
    }

    /// The folder that the hosts may read from.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// A new collection of these parts, each a segment.
    pub async fn create(&self, name: &str, metric: MetricType, parts: Vec<Vectors>) -> Arc<Collection> {
        let mut rootcoord = self.rootcoord.rootcoord().await;
        let dimension = u32::try_from(parts[0].dimension).expect("a small dimension");
        let create =
            CreateCollectionRequest { collection_name: name.to_owned(), dimension, metric_type: metric.into() };
        let created = rootcoord.create_collection(create).await.expect("a new collection").into_inner().collection;
        let id = created.expect("the answer tells the collection").collection_id;
        self.add(&Collection { name: name.to_owned(), id, metric, segments: Vec::new() }, parts).await
    }

    /// The same collection with these parts more.
    pub async fn add(&self, collection: &Collection, parts: Vec<Vectors>) -> Arc<Collection> {
        let mut rootcoord = self.rootcoord.rootcoord().await;
        let mut collection = collection.clone();
        for vectors in parts {
            let name = format!("{}-{}.npy", collection.name, collection.segments.len());
            let path = self.files.path().join(name);
            vectors.write_npy(&path);
            let add = AddSegmentRequest { collection_name: collection.name.clone(), path: path.display().to_string() };
            let segment = rootcoord.add_segment(add).await.expect("a new segment").into_inner().segment;
            let segment = segment.expect("the answer tells the segment");
            assert_eq!(segment.num_rows, vectors.rows() as u64);
            collection.segments.push(Segment { id: segment.segment_id, first_id: segment.first_id, vectors, path });
        }
        Arc::new(collection)
    }

    /// Loads a collection.
    pub async fn load(&self, name: &str, replicas: u32) -> Result<LoadCollectionResponse, Status> {
        let request = LoadCollectionRequest { collection_name: name.to_owned(), replica_number: replicas };
        Ok(self.querycoord.querycoord().await.load_collection(request).await?.into_inner())
    }

    /// The collections that are loaded, as QueryCoord says.
    pub async fn shown(&self) -> Result<Vec<LoadedCollection>, String> {
        let request = ShowLoadedCollectionsRequest::default();
        let answer = self.querycoord.querycoord().await.show_loaded_collections(request).await;
        Ok(answer.map_err(|status| format!("{status:?}"))?.into_inner().collections)
    }

    /// Searches.
    pub async fn search(&self, question: &Question) -> Result<SearchResponse, Status> {
        let answer = self.querycoord.querycoord().await.search(question.request(SEARCH_LIMIT)).await?;
        Ok(answer.into_inner())
    }

    /// Searches; the answer has to be whole and right.
    #[track_caller]
    pub fn searches(&self, question: &Question) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            match self.search(question).await {
                Ok(answer) => question.assert_whole(&answer),
                Err(status) => panic!("{place}: {status:?}"),
            }
        }
    }

    /// Each of its hosts runs.
    pub fn nobody_has_ended(&self) {
        self.rootcoord.assert_running();
        self.querycoord.assert_running();
        for node in self.nodes() {
            node.assert_running();
        }
    }
}

/// What every host of a scene has; a stop as patient as an operator's.
fn configured(cluster: &Cluster, settings: &Settings) -> HostConfig {
    let config = cluster.config().set("shutdown.grace", "15s").set("shutdown.limit", "30s");
    settings.all.iter().fold(config, |config, (path, value)| config.set(path, value.clone()))
}

impl Question {
    /// As a request with this deadline.
    pub fn request(&self, deadline: Duration) -> Request<SearchRequest> {
        let mut request = Request::new(SearchRequest {
            collection_name: self.collection.name.clone(),
            topk: u32::try_from(self.topk).expect("a small number"),
            packed_vectors: self.queries.packed().into(),
            ..SearchRequest::default()
        });
        request.set_timeout(deadline);
        request
    }
}

/// Dice for a test, by a seed that is printed: `SCENARIO_SEED=…` throws the same again.
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
pub fn dice() -> Rng {
    let given = std::env::var("SCENARIO_SEED").ok().map(|seed| seed.parse().expect("SCENARIO_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("SCENARIO_SEED={seed}");
    Rng::with_seed(seed)
}

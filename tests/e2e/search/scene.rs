//! Three components and two QueryNodes, each in a process of its own, and a collection that they have loaded.

use std::collections::HashSet;
use std::time::Duration;

use proto::querycoord::v1::{LoadCollectionRequest, SearchRequest, SearchResponse};
use proto::rootcoord::v1::{AddSegmentRequest, CreateCollectionRequest, MetricType};
use serde_json::json;
use tempfile::TempDir;
use tests::vectors::{Found, Vectors, squared_distance};
use tests::{Cluster, Host, LIMIT, eventually, holds};
use tonic::Request;

/// The collection's name.
pub const NAME: &str = "vectors";
const TOP: usize = 10;

/// A debug build searches slowly on a machine that does much else.
const SEARCH_LIMIT: Duration = Duration::from_secs(120);

/// The hosts and the files of one collection, and what its segments' first ids are.
pub struct Scene {
    pub cluster: Cluster,
    files: TempDir,
    pub rootcoord: Host,
    pub querycoord: Host,
    pub nodes: [Host; 2],
    parts: Vec<(i64, Vectors)>,
}

impl Scene {
    /// A collection of these parts, each in a file of its own, loaded.
    pub async fn of(parts: Vec<Vectors>) -> Self {
        let cluster = Cluster::start().await;
        let files = TempDir::with_prefix("componenthost-test-vectors-").expect("a temporary directory can be made");
        let data_dirs = json!({ "data_dirs": [files.path()] });
        let config = || cluster.config().set("telemetry.log", "info,componenthost::calls=debug");
        let rootcoord = cluster.host(config().component("rootcoord", "rootcoord", data_dirs.clone())).await;
        let querycoord = cluster.host(config().component("querycoord", "querycoord", json!({}))).await;
        let node = || config().component("querynode", "querynode", data_dirs.clone());
        let nodes = [cluster.host(node()).await, cluster.host(node()).await];
        let mut scene = Self { cluster, files, rootcoord, querycoord, nodes, parts: Vec::new() };
        scene.all_ready().await;
        scene.fill(parts).await;
        scene.load().await;
        scene
    }

    async fn all_ready(&self) {
        for host in [&self.rootcoord, &self.querycoord, &self.nodes[0], &self.nodes[1]] {
            host.healthy().await.ready().await;
        }
        // Ready means that one node can be called: a segment for each needs both.
        eventually(LIMIT, || async {
            let connections = self.querycoord.connections().await;
            let ready = connections.to_string().matches(r#""link":"ready""#).count();
            holds(ready == 3, connections)
        })
        .await;
    }

    async fn fill(&mut self, parts: Vec<Vectors>) {
        let mut rootcoord = self.rootcoord.rootcoord().await;
        let dimension = u32::try_from(parts[0].dimension).expect("a small dimension");
        let metric_type = MetricType::L2.into();
        let create = CreateCollectionRequest { collection_name: NAME.to_owned(), dimension, metric_type };
        rootcoord.create_collection(create).await.expect("a new collection");
        for (number, part) in parts.into_iter().enumerate() {
            let path = self.files.path().join(format!("part-{number}.npy"));
            part.write_npy(&path);
            let add = AddSegmentRequest { collection_name: NAME.to_owned(), path: path.display().to_string() };
            let segment = rootcoord.add_segment(add).await.expect("a new segment").into_inner().segment;
            let segment = segment.expect("the answer tells the segment");
            assert_eq!(segment.num_rows, part.rows() as u64);
            self.parts.push((segment.first_id, part));
        }
    }

    /// Loads it; each node has to hold a part then.
    pub async fn load(&self) {
        let request = LoadCollectionRequest { collection_name: NAME.to_owned(), replica_number: 0 };
        let loaded = self.querycoord.querycoord().await.load_collection(request).await.expect("a loaded collection");
        let placements = loaded.into_inner().placements;
        assert_eq!(placements.len(), self.parts.len());
        let nodes: HashSet<_> = placements.iter().flat_map(|placement| placement.server_ids.clone()).collect();
        assert_eq!(nodes.len(), self.nodes.len(), "each node holds a part: {placements:?}");
    }

    /// The nearest vectors of each query.
    pub async fn search(&self, queries: &Vectors) -> Result<SearchResponse, tonic::Status> {
        self.search_within(queries, SEARCH_LIMIT).await
    }

    /// The same with a deadline.
    pub async fn search_within(&self, queries: &Vectors, limit: Duration) -> Result<SearchResponse, tonic::Status> {
        let mut request = Request::new(SearchRequest {
            collection_name: NAME.to_owned(),
            topk: u32::try_from(TOP).expect("a small number"),
            packed_vectors: queries.packed().into(),
            ..SearchRequest::default()
        });
        request.set_timeout(limit);
        Ok(self.querycoord.querycoord().await.search(request).await?.into_inner())
    }

    fn expected(&self, queries: &Vectors) -> Vec<Vec<Found>> {
        let parts: Vec<_> = self.parts.iter().map(|(first, part)| (*first, part)).collect();
        Vectors::brute_force(&parts, queries, TOP)
    }

    /// The float64 distance of the vector with that id.
    fn distance(&self, id: i64, query: &[f32]) -> Option<f64> {
        self.parts.iter().find_map(|(first, part)| {
            let row = usize::try_from(id - first).ok().filter(|row| *row < part.rows())?;
            Some(squared_distance(part.row(row), query))
        })
    }

    /// The ids are those of the brute force. They may differ only where float64 distances differ, by less than 1e-5.
    pub fn assert_nearest(&self, queries: &Vectors, answer: &SearchResponse) {
        assert!(!answer.partial && answer.missing.is_empty(), "a whole answer: {:?}", answer.missing);
        assert_eq!(answer.results.len(), queries.rows());
        for (number, (result, expected)) in answer.results.iter().zip(self.expected(queries)).enumerate() {
            let ids: Vec<_> = result.hits.iter().map(|hit| hit.id).collect();
            assert_eq!(ids.len(), TOP);
            for (id, (right, distance)) in ids.iter().zip(&expected) {
                let found = self.distance(*id, queries.row(number)).expect("an id of the collection");
                let difference = (found - distance).abs();
                let excused = difference > 0.0 && difference < 1e-5 * distance;
                assert!(id == right || excused, "query {number}: found {ids:?}, expected {expected:?}");
            }
            assert_eq!(ids.iter().collect::<HashSet<_>>().len(), TOP, "none twice: {ids:?}");
        }
    }

    /// Each of its hosts runs.
    pub fn nobody_has_ended(&self) {
        for host in [&self.rootcoord, &self.querycoord, &self.nodes[0], &self.nodes[1]] {
            host.assert_running();
        }
    }
}

/// Two parts, of which the second begins with some rows of the first, so that there are ties.
pub fn two_parts(rows: usize, dimension: usize) -> Vec<Vectors> {
    let first = Vectors::random(1, rows / 2, dimension);
    let again = &first.values[..rows / 20 * dimension];
    let second = Vectors::random(2, rows / 2, dimension).beginning_with(again);
    vec![first, second]
}

/// Queries of which the first half are rows that are there twice.
pub fn queries(count: usize, parts: &[Vectors]) -> Vectors {
    let dimension = parts[0].dimension;
    Vectors::random(3, count, dimension).beginning_with(&parts[0].values[..count / 2 * dimension])
}

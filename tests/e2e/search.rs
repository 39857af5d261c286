//! The main job: three components and two QueryNodes, each in a process of its own, search real vectors from files.

mod trace;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proto::querycoord::v1::{LoadCollectionRequest, SearchRequest, SearchResponse};
use proto::rootcoord::v1::{AddSegmentRequest, CreateCollectionRequest, DescribeCollectionRequest, MetricType};
use serde_json::json;
use tempfile::TempDir;
use tests::cluster::TTL_SECONDS;
use tests::vectors::{Found, Vectors, squared_distance};
use tests::{Cluster, Host, LIMIT, eventually, holds};
use tonic::{Code, Request};

const NAME: &str = "vectors";
const DIMENSION: usize = 128;
const TOP: usize = 10;

/// A debug build searches slowly on a machine that does much else.
const SEARCH_LIMIT: Duration = Duration::from_secs(120);

/// The hosts and the files of one collection, and what its segments' first ids are.
struct Scene {
    cluster: Cluster,
    files: TempDir,
    rootcoord: Host,
    querycoord: Host,
    nodes: [Host; 2],
    parts: Vec<(i64, Vectors)>,
}

impl Scene {
    /// A collection of these parts, each in a file of its own, loaded.
    async fn of(parts: Vec<Vectors>) -> Self {
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

    async fn load(&self) {
        let request = LoadCollectionRequest { collection_name: NAME.to_owned() };
        let loaded = self.querycoord.querycoord().await.load_collection(request).await.expect("a loaded collection");
        let placements = loaded.into_inner().placements;
        assert_eq!(placements.len(), self.parts.len());
        let nodes: HashSet<_> = placements.iter().map(|placement| placement.server_id).collect();
        assert_eq!(nodes.len(), self.nodes.len(), "each node holds a part: {placements:?}");
    }

    async fn search(&self, queries: &Vectors) -> Result<SearchResponse, tonic::Status> {
        let mut request = Request::new(SearchRequest {
            collection_name: NAME.to_owned(),
            topk: u32::try_from(TOP).expect("a small number"),
            packed_vectors: queries.packed(),
            ..SearchRequest::default()
        });
        request.set_timeout(SEARCH_LIMIT);
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
    fn assert_nearest(&self, queries: &Vectors, answer: &SearchResponse) {
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

    fn nobody_has_ended(&self) {
        for host in [&self.rootcoord, &self.querycoord, &self.nodes[0], &self.nodes[1]] {
            host.assert_running();
        }
    }
}

/// Two parts, of which the second begins with some rows of the first, so that there are ties.
fn two_parts(rows: usize, dimension: usize) -> Vec<Vectors> {
    let first = Vectors::random(1, rows / 2, dimension);
    let again = &first.values[..rows / 20 * dimension];
    let second = Vectors::random(2, rows / 2, dimension).beginning_with(again);
    vec![first, second]
}

/// Queries of which the first half are rows that are there twice.
fn queries(count: usize, parts: &[Vectors]) -> Vectors {
    let dimension = parts[0].dimension;
    Vectors::random(3, count, dimension).beginning_with(&parts[0].values[..count / 2 * dimension])
}

#[tokio::test]
async fn a_hundred_thousand_vectors_are_searched_exactly() {
    let parts = two_parts(100_000, DIMENSION);
    let queries = queries(100, &parts);
    let scene = Scene::of(parts).await;
    let answer = scene.search(&queries).await.expect("an answer");
    scene.assert_nearest(&queries, &answer);
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_restarted_rootcoord_is_called_without_a_restart_of_its_callers() {
    let scene = Scene::of(two_parts(200, 8)).await;
    scene.rootcoord.kill9();
    scene.rootcoord.restart().await.healthy().await;
    // It asks RootCoord for the collection.
    eventually(Duration::from_secs(1), || async {
        let request = LoadCollectionRequest { collection_name: NAME.to_owned() };
        scene.querycoord.querycoord().await.load_collection(request).await
    })
    .await;
    scene.nobody_has_ended();
}

#[tokio::test]
async fn a_killed_querynode_makes_answers_partial_within_its_ttl() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.nodes[0].kill9();
    let killed = Instant::now();

    // Never whole from here on; an answer is partial or the call fails.
    let partial = eventually(LIMIT, || async {
        match scene.search(&queries).await {
            Ok(answer) => holds(answer.partial, answer).map_err(|answer| panic!("a whole answer: {answer:?}")),
            Err(status) => Err(status),
        }
    });
    partial.await;
    assert!(killed.elapsed() < Duration::from_secs(TTL_SECONDS + 1), "partial after {:?}", killed.elapsed());
    let answer = scene.search(&queries).await.expect("a partial answer");
    assert_eq!(answer.missing.len(), 1, "{answer:?}");

    for host in [&scene.rootcoord, &scene.querycoord, &scene.nodes[1]] {
        host.assert_running();
    }
}

#[tokio::test]
async fn a_stopped_querynodes_calls_end_within_its_ttl() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    // It neither answers nor closes its connections: only its session's end tells.
    scene.nodes[0].sigstop().await;
    let stopped = Instant::now();
    let ended = scene.search(&queries).await;
    let limit = Duration::from_secs(TTL_SECONDS + 1) + ETCD_DELAY;
    assert!(stopped.elapsed() < limit, "ended after {:?}: {ended:?}", stopped.elapsed());
    if let Ok(answer) = ended {
        assert!(answer.partial, "{answer:?}");
    }
    scene.nodes[0].cont();
}

/// etcd removes a key up to half a second after its lease ran out.
const ETCD_DELAY: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_returned_querynode_makes_answers_whole_again() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.nodes[0].kill9();
    scene.nodes[0].restart().await.healthy().await;
    eventually(LIMIT, || async {
        // Its memory went with it: the collection is loaded again, on whatever node is there.
        let request = LoadCollectionRequest { collection_name: NAME.to_owned() };
        scene.querycoord.querycoord().await.load_collection(request).await?;
        let answer = scene.search(&queries).await?;
        if answer.partial { Err(tonic::Status::unknown(format!("{:?}", answer.missing))) } else { Ok(answer) }
    })
    .await;
    let answer = scene.search(&queries).await.expect("an answer");
    scene.assert_nearest(&queries, &answer);
}

#[tokio::test]
async fn a_restarted_querycoord_still_knows_what_is_loaded() {
    let parts = two_parts(200, 8);
    let queries = queries(4, &parts);
    let scene = Scene::of(parts).await;
    scene.querycoord.kill9();
    scene.querycoord.restart().await.healthy().await;
    let answer = eventually(LIMIT, || async {
        let answer = scene.search(&queries).await?;
        if answer.partial { Err(tonic::Status::unknown(format!("{:?}", answer.missing))) } else { Ok(answer) }
    })
    .await;
    scene.assert_nearest(&queries, &answer);
}

#[tokio::test]
async fn a_restarted_rootcoord_still_knows_its_collections() {
    let scene = Scene::of(two_parts(200, 8)).await;
    let describe = DescribeCollectionRequest { collection_name: NAME.to_owned(), collection_id: 0 };
    let before = scene.rootcoord.rootcoord().await.describe_collection(describe.clone()).await.expect("it is there");
    scene.rootcoord.kill9();
    scene.rootcoord.restart().await.healthy().await;
    let after = scene.rootcoord.rootcoord().await.describe_collection(describe).await.expect("it is there still");
    assert_eq!(before.into_inner(), after.into_inner());

    let again =
        CreateCollectionRequest { collection_name: NAME.to_owned(), dimension: 8, metric_type: MetricType::L2.into() };
    let taken = scene.rootcoord.rootcoord().await.create_collection(again).await.expect_err("the name is taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    drop(scene.cluster);
}

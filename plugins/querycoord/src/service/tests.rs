//! The service over nodes in memory: they hold what they are told to, answer with it, and fail where a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proto::querynode::v1::{LoadSegmentsRequest, SearchHit, SearchRequest as NodeSearch, SearchResult, Vector};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use proto::store::MemoryStore;
use tonic::Code;

use super::*;
use crate::changes::Changes;
use crate::cluster::Cluster;
use crate::plans::Plans;
use crate::settling::Settling;

/// RootCoord and nodes. A segment's one vector has its id for an id and for a score.
#[derive(Default)]
struct Fake(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// RootCoord's collections; `None` while RootCoord cannot be asked.
    collections: Option<BTreeMap<String, (i64, Vec<SegmentInfo>)>>,
    held: BTreeMap<i64, BTreeSet<i64>>,
    /// Nodes that refuse each load and search, with this.
    failing: BTreeMap<i64, Status>,
    /// Nodes that are in the table and never answer a search.
    hanging: BTreeSet<i64>,
}

impl Fake {
    fn change(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.0.lock().unwrap());
    }

    fn held(&self) -> BTreeMap<i64, Vec<i64>> {
        let content = self.0.lock().unwrap();
        content.held.iter().map(|(node, held)| (*node, held.iter().copied().collect())).collect()
    }

    fn node<T>(&self, node: i64, answer: impl FnOnce(&mut BTreeSet<i64>) -> T) -> Result<T, Status> {
        let mut content = self.0.lock().unwrap();
        match (content.failing.get(&node).cloned(), content.held.get_mut(&node)) {
            (Some(status), _) => Err(status),
            (None, Some(held)) => Ok(answer(held)),
            (None, None) => Err(Status::unavailable("SESSION_GONE")),
        }
    }
}

#[async_trait]
impl Cluster for Fake {
    async fn collection(&self, name: &str) -> Result<CollectionInfo, Status> {
        let content = self.0.lock().unwrap();
        let collections = content.collections.as_ref().ok_or_else(|| Status::unavailable("FENCED"))?;
        let (id, _) =
            collections.get(name).ok_or_else(|| Status::not_found(format!("there is no collection '{name}'")))?;
        Ok(CollectionInfo {
            collection_id: *id,
            collection_name: name.to_owned(),
            dimension: 1,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        })
    }

    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status> {
        let content = self.0.lock().unwrap();
        let collections = content.collections.iter().flatten();
        Ok(collections.filter(|(_, (id, _))| *id == collection_id).flat_map(|(_, (_, all))| all.clone()).collect())
    }

    fn nodes(&self) -> Result<BTreeMap<i64, String>, Status> {
        Ok(self.0.lock().unwrap().held.keys().map(|node| (*node, format!("127.0.0.1:{node}"))).collect())
    }

    async fn load(&self, node: i64, request: LoadSegmentsRequest) -> Result<(), Status> {
        let ids = request.segments.iter().map(|segment| segment.segment_id);
        self.node(node, |held| held.extend(ids))
    }

    async fn release(&self, node: i64, segment_ids: Vec<i64>) -> Result<(), Status> {
        self.node(node, |held| held.retain(|id| !segment_ids.contains(id)))
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        self.node(node, |held| held.iter().copied().collect())
    }

    async fn search(&self, node: i64, request: NodeSearch) -> Result<Vec<SearchResult>, Status> {
        if self.0.lock().unwrap().hanging.contains(&node) {
            std::future::pending::<()>().await;
        }
        let queries = request.packed_vectors.len() / 4;
        let missing = |held: &BTreeSet<i64>| request.segment_ids.iter().find(|id| !held.contains(id)).copied();
        if let Some(id) = self.node(node, |held| missing(held))? {
            return Err(Status::not_found(format!("segment {id} is not loaded on this node")));
        }
        let hits: Vec<_> = request.segment_ids.iter().map(|id| SearchHit { id: *id, score: *id as f64 }).collect();
        Ok(vec![SearchResult { hits }; queries])
    }
}

struct World {
    store: Arc<MemoryStore>,
    cluster: Arc<Fake>,
    coord: Service<MemoryStore, Fake>,
}

fn coord(store: &Arc<MemoryStore>, cluster: &Arc<Fake>) -> Service<MemoryStore, Fake> {
    let plans = Arc::new(Plans::new(Arc::clone(store)));
    let limit = Duration::from_secs(5);
    let changes = Changes {
        plans: Arc::clone(&plans),
        cluster: Arc::clone(cluster),
        load_timeout: limit,
        call_timeout: limit,
        turn: tokio::sync::Mutex::default(),
    };
    let (search_timeout, resolve_timeout) = (limit, Duration::from_secs(1));
    let cluster = Arc::clone(cluster);
    let engine = Arc::new(Engine { plans, cluster: Arc::clone(&cluster), changes, settling: Settling::default() });
    Service { cluster, engine, search_timeout, resolve_timeout }
}

/// Nodes 1 and 2, and a collection `c` with id 5 and segments of equal size.
fn world(segments: impl IntoIterator<Item = i64>) -> World {
    let (store, cluster) = (Arc::new(MemoryStore::default()), Arc::new(Fake::default()));
    cluster.change(|content| {
        content.held = [(1, BTreeSet::new()), (2, BTreeSet::new())].into();
        content.collections = Some([("c".to_owned(), (5, infos(segments)))].into());
    });
    World { coord: coord(&store, &cluster), store, cluster }
}

fn infos(ids: impl IntoIterator<Item = i64>) -> Vec<SegmentInfo> {
    let info = |id| SegmentInfo { segment_id: id, collection_id: 5, path: format!("{id}"), num_rows: 1, first_id: id };
    ids.into_iter().map(info).collect()
}

impl World {
    async fn load(&self) -> Result<Vec<(i64, i64)>, Status> {
        let request = LoadCollectionRequest { collection_name: "c".to_owned(), replica_number: 0 };
        let answer = self.coord.load_collection(Request::new(request)).await?.into_inner();
        Ok(answer.placements.iter().map(|placement| (placement.segment_id, placement.server_ids[0])).collect())
    }

    async fn search(&self) -> Result<SearchResponse, Status> {
        let vectors = vec![Vector { values: vec![0.0] }; 2];
        let request = SearchRequest { collection_name: "c".to_owned(), topk: 3, vectors, ..SearchRequest::default() };
        self.coord.search(Request::new(request)).await.map(Response::into_inner)
    }

    async fn found(&self) -> (Vec<i64>, bool) {
        let answer = self.search().await.unwrap();
        assert_eq!(answer.results[0], answer.results[1]);
        assert_eq!(answer.partial, !answer.missing.is_empty());
        (answer.results[0].hits.iter().map(|hit| hit.id).collect(), answer.partial)
    }

    async fn release(&self) -> Result<i64, Status> {
        let request = ReleaseCollectionRequest { collection_name: "c".to_owned(), collection_id: 0 };
        Ok(self.coord.release_collection(Request::new(request)).await?.into_inner().collection_id)
    }
}

#[tokio::test]
async fn a_loaded_collection_is_searched_on_all_nodes_and_merged() {
    let world = world([10, 11, 12, 13]);
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 2), (12, 1), (13, 2)]);
    assert_eq!(world.found().await, (vec![10, 11, 12], false));
    assert_eq!(world.release().await.unwrap(), 5);
    assert_eq!(world.cluster.held(), [(1, vec![]), (2, vec![])].into());
    let error = world.search().await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(error.message(), "collection 'c' is not loaded: call LoadCollection");
    assert_eq!(world.release().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.store.range("").await.unwrap(), []);
}

#[tokio::test]
async fn without_a_node_the_answer_is_partial_and_says_what_is_missing() {
    let world = world([10, 11, 12, 13]);
    world.load().await.unwrap();
    world.cluster.change(|content| drop(content.held.remove(&1)));
    let answer = world.search().await.unwrap();
    assert!(answer.partial);
    let missing = |id| (id, 1, "querynode-1: Unavailable: SESSION_GONE".to_owned());
    let told: Vec<_> =
        answer.missing.into_iter().map(|each| (each.segment_id, each.server_ids[0], each.reason)).collect();
    assert_eq!(told, [missing(10), missing(12)]);
    assert_eq!(answer.results[0].hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [11, 13]);
}

#[tokio::test]
async fn without_any_node_there_is_no_answer() {
    let world = world([10, 11]);
    world.load().await.unwrap();
    world.cluster.change(|content| content.held.clear());
    let error = world.search().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().starts_with("no segment of collection 'c' could be searched: querynode-1:"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_makes_the_answer_partial_in_time() {
    let world = world([10, 11]);
    world.load().await.unwrap();
    world.cluster.change(|content| content.hanging = [1].into());
    assert_eq!(world.found().await, (vec![11], true));
    let vectors = vec![Vector { values: vec![0.0] }];
    let request = SearchRequest { collection_name: "c".to_owned(), topk: 1, vectors, ..SearchRequest::default() };
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_millis(100));
    let start = tokio::time::Instant::now();
    assert!(world.coord.search(request).await.unwrap().into_inner().partial);
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn loading_again_adds_new_segments_and_replaces_lost_nodes() {
    let world = world([10, 11]);
    world.load().await.unwrap();
    world.cluster.change(|content| {
        content.collections.as_mut().unwrap().get_mut("c").unwrap().1 = infos([10, 11, 12]);
        content.held.remove(&1);
        content.held.insert(3, BTreeSet::new());
    });
    assert_eq!(world.load().await.unwrap(), [(10, 3), (11, 2), (12, 2)]);
    assert_eq!(world.found().await, (vec![10, 11, 12], false));
}

#[tokio::test]
async fn a_load_that_a_node_refuses_changes_nothing() {
    let world = world([10]);
    world.load().await.unwrap();
    let before = world.store.range("").await.unwrap().into_iter().map(|entry| entry.value).collect::<Vec<_>>();
    world.cluster.change(|content| {
        content.collections.as_mut().unwrap().get_mut("c").unwrap().1 = infos([10, 11, 12]);
        content.failing.insert(2, Status::invalid_argument("no such file"));
    });
    let error = world.load().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "collection 'c' is not loaded, as querynode-2 refuses: no such file");
    let after = world.store.range("").await.unwrap().into_iter().map(|entry| entry.value).collect::<Vec<_>>();
    assert_eq!(after, before);
    assert_eq!(world.cluster.held(), [(1, vec![10]), (2, vec![])].into());
    assert_eq!(world.found().await, (vec![10], false));
}

#[tokio::test]
async fn a_node_that_fails_during_a_load_is_replaced_by_another() {
    let world = world([10, 11]);
    world.cluster.change(|content| drop(content.failing.insert(2, Status::unavailable("LINK_LOST"))));
    assert_eq!(world.load().await.unwrap(), [(10, 1), (11, 1)]);
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn where_all_nodes_fail_nothing_is_loaded_and_each_is_named() {
    let world = world([10, 11]);
    world.cluster.change(|content| {
        content.failing = [1, 2].map(|node| (node, Status::unavailable("LINK_LOST"))).into();
    });
    let error = world.load().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let text = "collection 'c' cannot be loaded, querynode-1 failed (LINK_LOST), querynode-2 failed (LINK_LOST): \
                no querynode can be called";
    assert_eq!(error.message(), text);
    assert_eq!(world.store.range("").await.unwrap(), []);
}

#[tokio::test]
async fn a_restarted_coordinator_goes_on_with_what_was_wanted() {
    let mut world = world([10, 11]);
    world.load().await.unwrap();
    world.coord = coord(&world.store, &world.cluster);
    world.coord.engine.plans.read().await.unwrap();
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn a_node_that_does_not_hold_what_it_should_is_settled() {
    let world = world([10, 11]);
    world.load().await.unwrap();
    world.cluster.change(|content| drop(content.held.insert(1, [99].into())));
    assert_eq!(world.found().await, (vec![11], true));
    // The search has asked for it.
    world.coord.engine.changes.settle(world.coord.engine.settling.next().await).await;
    assert_eq!(world.cluster.held(), [(1, vec![10]), (2, vec![11])].into());
    assert_eq!(world.found().await, (vec![10, 11], false));
}

#[tokio::test]
async fn a_name_is_that_of_the_collection_that_has_it_now() {
    let world = world([10]);
    world.load().await.unwrap();
    // Without RootCoord nobody can have changed it.
    world.cluster.change(|content| content.collections = None);
    assert_eq!(world.found().await, (vec![10], false));
    // Dropped, and another created.
    world.cluster.change(|content| content.collections = Some([("c".to_owned(), (6, vec![]))].into()));
    assert_eq!(world.search().await.unwrap_err().code(), Code::FailedPrecondition);
    world.cluster.change(|content| content.collections = Some(BTreeMap::new()));
    assert_eq!(world.search().await.unwrap_err().code(), Code::NotFound);
    // What was loaded can still be released by its name.
    assert_eq!(world.release().await.unwrap(), 5);
}

#[tokio::test]
async fn a_bad_search_is_refused_before_any_node_is_asked() {
    let world = world([10]);
    world.load().await.unwrap();
    let query = |values: &[f32], topk| SearchRequest {
        collection_id: 5,
        topk,
        vectors: vec![Vector { values: values.to_vec() }],
        ..SearchRequest::default()
    };
    let cases = [
        (query(&[0.0, 0.0], 1), "query 0 has 2 components, the collection's dimension is 1"),
        (query(&[f32::NAN], 1), "component 0 of query 0 is NaN: all have to be finite"),
        (
            SearchRequest { collection_id: 0, ..query(&[0.0], 1) },
            "no collection is named: give collection_name or collection_id",
        ),
        (query(&[0.0], 0), "topk is 0, it has to be 1 to 16384"),
    ];
    for (request, text) in cases {
        let error = world.coord.search(Request::new(request)).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidArgument, text));
    }
}

#[tokio::test]
async fn an_empty_collection_is_loaded_and_its_answers_are_whole() {
    let world = world([]);
    assert_eq!(world.load().await.unwrap(), []);
    assert_eq!(world.found().await, (vec![], false));
}

#[tokio::test]
async fn the_distribution_says_what_is_wanted_and_what_is_true() {
    let world = world([10, 11, 12, 13]);
    world.load().await.unwrap();
    world.cluster.change(|content| {
        content.held.remove(&1);
        content.held.insert(2, [13].into());
        content.held.insert(3, BTreeSet::new());
        content.failing.insert(3, Status::unavailable("LINK_LOST"));
    });
    let answer = world.coord.get_distribution(Request::new(GetDistributionRequest::default())).await;
    let told = |node: &proto::querycoord::v1::NodeDistribution| {
        let segment = |each: &proto::querycoord::v1::SegmentDistribution| {
            (each.segment.as_ref().unwrap().segment_id, each.state().as_str_name())
        };
        (node.server_id, node.callable, node.error.clone(), node.segments.iter().map(segment).collect::<Vec<_>>())
    };
    let nodes: Vec<_> = answer.unwrap().into_inner().nodes.iter().map(told).collect();
    let absent = "it is not there, or cannot be called".to_owned();
    assert_eq!(
        nodes,
        [
            (1, false, absent, vec![(10, "UNREACHABLE"), (12, "UNREACHABLE")]),
            (2, true, String::new(), vec![(11, "MISSING"), (13, "LOADED")]),
            (3, true, "LINK_LOST".to_owned(), vec![]),
        ]
    );
    let shown = world.coord.show_loaded_collections(Request::new(ShowLoadedCollectionsRequest {})).await.unwrap();
    let shown = &shown.into_inner().collections[0];
    assert_eq!((shown.num_segments, shown.num_reachable_segments, shown.num_rows), (4, 2, 4));
}

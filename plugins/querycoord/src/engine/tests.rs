//! The engine under the service, over nodes in memory ([`nodes`]).

mod changes;
mod nodes;
mod swaps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::querycoord::v1::query_coord_server::QueryCoord as _;
use proto::querycoord::v1::{LoadCollectionRequest, ReleaseCollectionRequest, SearchRequest, SearchResponse};
use proto::querynode::v1::Vector;
use proto::rootcoord::v1::SegmentInfo;
use proto::store::{MemoryStore, Store};
use tonic::{Code, Request, Response, Status};

use self::nodes::Nodes;
use super::{Engine, Known, Limits};
use crate::core::Settings;
use crate::service::Service;

struct World {
    store: Arc<MemoryStore>,
    cluster: Arc<Nodes>,
    coord: Service<Engine<MemoryStore, Nodes>, Nodes>,
}

/// One that knows nothing yet.
fn engine<S: Store>(store: &Arc<S>, cluster: &Arc<Nodes>) -> Arc<Engine<S, Nodes>> {
    let limit = Duration::from_secs(5);
    let (backoff_min, backoff_max) = (Duration::from_millis(10), Duration::from_millis(100));
    let settings = Settings { max_moves: 4, max_moves_per_node: 2, backoff_min, backoff_max };
    let limits = Limits { load: limit, call: limit };
    Arc::new(Engine::new(Arc::clone(store), Arc::clone(cluster), settings, limits))
}

fn service<S: Store>(engine: Arc<Engine<S, Nodes>>, cluster: &Arc<Nodes>) -> Service<Engine<S, Nodes>, Nodes> {
    let (search_timeout, resolve_timeout) = (Duration::from_secs(5), Duration::from_secs(1));
    Service { cluster: Arc::clone(cluster), engine, search_timeout, resolve_timeout, loads: Arc::default() }
}

/// One that has been activated.
async fn coord(store: &Arc<MemoryStore>, cluster: &Arc<Nodes>) -> Service<Engine<MemoryStore, Nodes>, Nodes> {
    let engine = engine(store, cluster);
    tokio::spawn(engine.activate(Known::Nothing).await.unwrap());
    service(engine, cluster)
}

/// Nodes 1 and 2, and a collection `c` with id 5 and segments of equal size.
async fn world(segments: impl IntoIterator<Item = i64>) -> World {
    let (store, cluster) = (Arc::new(MemoryStore::default()), Arc::new(Nodes::default()));
    cluster.change(|content| {
        content.held = [(1, BTreeSet::new()), (2, BTreeSet::new())].into();
        content.collections = Some([("c".to_owned(), (5, infos(segments)))].into());
    });
    World { coord: coord(&store, &cluster).await, store, cluster }
}

fn infos(ids: impl IntoIterator<Item = i64>) -> Vec<SegmentInfo> {
    let info = |id| SegmentInfo { segment_id: id, collection_id: 5, path: format!("{id}"), num_rows: 1, first_id: id };
    ids.into_iter().map(info).collect()
}

impl World {
    async fn load(&self) -> Result<Vec<(i64, i64)>, Status> {
        let loaded = self.load_on(0).await?;
        Ok(loaded.into_iter().map(|(segment, nodes)| (segment, nodes[0])).collect())
    }

    async fn load_on(&self, replica_number: u32) -> Result<Vec<(i64, Vec<i64>)>, Status> {
        let request = LoadCollectionRequest { collection_name: "c".to_owned(), replica_number };
        let answer = self.coord.load_collection(Request::new(request)).await?.into_inner();
        Ok(answer.placements.into_iter().map(|placement| (placement.segment_id, placement.server_ids)).collect())
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

    async fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let entries = self.store.range("").await.unwrap().into_iter();
        entries.map(|entry| (entry.key, entry.value.to_vec())).collect()
    }

    /// Waits until the nodes hold this.
    async fn holds<const N: usize>(&self, expected: [(i64, Vec<i64>); N]) {
        let expected = BTreeMap::from(expected);
        let held = tokio::time::timeout(Duration::from_secs(10), async {
            while self.cluster.held() != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(held.await.is_ok(), "{:?} in place of {expected:?}", self.cluster.held());
    }
}

#[tokio::test]
async fn a_loaded_collection_is_searched_on_all_nodes_and_merged() {
    let world = world([10, 11, 12, 13]).await;
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
async fn a_name_is_that_of_the_collection_that_has_it_now() {
    let world = world([10]).await;
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
async fn an_empty_collection_is_loaded_and_its_answers_are_whole() {
    let world = world([]).await;
    assert_eq!(world.load().await.unwrap(), []);
    assert_eq!(world.found().await, (vec![], false));
}

#[tokio::test]
async fn without_any_node_there_is_no_answer() {
    let world = world([10, 11]).await;
    world.load().await.unwrap();
    world.cluster.change(|content| content.held.clear());
    let error = world.search().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

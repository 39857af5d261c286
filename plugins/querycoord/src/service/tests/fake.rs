//! The service over what a test says is loaded, and over nodes and a RootCoord in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::querynode::v1::{SearchHit, SearchRequest as NodeSearch, SearchResult};
use proto::records::{CollectionRecord, SegmentRecord};
use proto::rootcoord::v1::CollectionInfo;
use tonic::{Status, async_trait};

use super::super::{Catalogue, Loaded, Service};
use crate::search::{Holders, Nodes};
use crate::serving::{Overview, Served, Serving};

pub(super) const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine.
#[derive(Default)]
pub(super) struct Engine {
    pub(super) serving: BTreeMap<i64, Arc<Serving>>,
    /// Those that are loaded for the first time.
    pub(super) loading: BTreeSet<i64>,
    pub(super) overview: Overview,
    /// What was asked of it.
    pub(super) changes: Mutex<Vec<String>>,
}

/// RootCoord and the nodes.
#[derive(Default)]
pub(super) struct Others(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    /// RootCoord's collections; `None` while it hangs.
    pub(super) collections: Option<BTreeMap<String, i64>>,
    pub(super) held: BTreeMap<i64, Vec<i64>>,
    pub(super) failing: BTreeMap<i64, Status>,
    /// Nodes that never answer.
    pub(super) hanging: BTreeSet<i64>,
    pub(super) searches: usize,
}

/// The service with a collection `c` with id 5, of two dimensions, whose one segment 10 is on node 1. RootCoord has also `d`
/// with id 6, which is not loaded, and `e` with id 7, which is being loaded.
pub(super) fn service() -> Service<Engine, Others> {
    let collection =
        CollectionRecord { id: 5, name: "c".to_owned(), dimension: 2, metric: "L2".to_owned(), created: 1 };
    let served = Served { segment: segment(10), nodes: vec![1], callable: 1 };
    let serving = Serving { collection, replica_number: 1, segments: vec![served] };
    let engine = Engine { serving: [(5, Arc::new(serving))].into(), loading: [7].into(), ..Engine::default() };
    let others = Others::default();
    let names = [("c", 5), ("d", 6), ("e", 7)];
    others.state().collections = Some(names.map(|(name, id)| (name.to_owned(), id)).into());
    Service {
        cluster: Arc::new(others),
        engine: Arc::new(engine),
        search_timeout: SEARCH_TIMEOUT,
        resolve_timeout: Duration::from_secs(1),
        loads: Arc::default(),
    }
}

/// One of one row.
pub(super) fn segment(id: i64) -> SegmentRecord {
    SegmentRecord { id, collection: 5, path: format!("{id}.npy"), rows: 1, first_id: id }
}

impl Others {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn answers(&self, node: i64) -> Result<(), Status> {
        let hangs = self.state().hanging.contains(&node);
        if hangs {
            std::future::pending::<()>().await;
        }
        self.state().failing.get(&node).cloned().map_or(Ok(()), Err)
    }

    async fn describe(&self, is_meant: impl Fn(&str, i64) -> bool + Send) -> Option<CollectionInfo> {
        let collections = self.state().collections.clone();
        let Some(collections) = collections else { return std::future::pending().await };
        let (collection_name, collection_id) = collections.into_iter().find(|(name, id)| is_meant(name, *id))?;
        Some(CollectionInfo { collection_id, collection_name, ..CollectionInfo::default() })
    }
}

#[async_trait]
impl Catalogue for Others {
    async fn by_name(&self, name: &str) -> Result<CollectionInfo, Status> {
        let found = self.describe(|of, _| of == name).await;
        found.ok_or_else(|| Status::not_found(format!("there is no collection '{name}'")))
    }

    async fn by_id(&self, id: i64) -> Result<CollectionInfo, Status> {
        let found = self.describe(|_, of| of == id).await;
        found.ok_or_else(|| Status::not_found(format!("there is no collection with id {id}")))
    }
}

#[async_trait]
impl Nodes for Others {
    async fn search(&self, node: i64, request: NodeSearch) -> Result<Vec<SearchResult>, Status> {
        self.state().searches += 1;
        self.answers(node).await?;
        let hit = |id: &i64| SearchHit { id: *id, score: *id as f64 };
        let hits = request.segment_ids.iter().map(hit).take(request.topk as usize).collect();
        Ok(vec![SearchResult { hits }; request.packed_vectors.len() / 8])
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        self.answers(node).await?;
        Ok(self.state().held.get(&node).cloned().unwrap_or_default())
    }
}

impl Holders for Engine {
    fn serving(&self, collection: i64) -> Option<Arc<Serving>> {
        self.serving.get(&collection).cloned()
    }

    fn not_held(&self, node: i64, segments: &[i64]) {
        self.changes.lock().unwrap().push(format!("not held on {node}: {segments:?}"));
    }
}

#[async_trait]
impl Loaded for Engine {
    async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Serving>, Status> {
        self.changes.lock().unwrap().push(format!("load {name} {replica_number}"));
        self.serving.get(&5).cloned().ok_or_else(|| Status::unavailable("no querynode can be called"))
    }

    async fn release(&self, id: i64, name: &str) -> Result<(), Status> {
        self.changes.lock().unwrap().push(format!("release {id} {name}"));
        Ok(())
    }

    fn overview(&self) -> Overview {
        self.overview.clone()
    }

    fn is_wanted(&self, id: i64) -> bool {
        self.serving.contains_key(&id) || self.loading.contains(&id)
    }

    fn newest_named(&self, name: &str) -> Option<i64> {
        self.serving.values().find(|serving| serving.collection.name == name).map(|serving| serving.collection.id)
    }
}

//! Nodes in memory that hold segments, and answer, fail or hang as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use plugin_api::async_trait;
use proto::batch::Packed;
use proto::order;
use proto::querycoord::v1::SearchResponse;
use proto::querynode::v1::{SearchHit, SearchRequest, SearchResult};
use proto::records::{CollectionRecord, SegmentRecord};
use proto::rootcoord::v1::MetricType;
use tokio::time::Instant;
use tonic::Status;

use crate::search::loads::Loads;
use crate::search::{self, Holders, Search};
use crate::serving::{Served, Serving};

pub(super) const QUERIES: usize = 2;

/// The nodes, and what QueryCoord knows of them.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) state: Mutex<State>,
    pub(super) loads: Mutex<Loads>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) serving: Option<Arc<Serving>>,
    /// What is served once a node has been told of not to hold what it should.
    pub(super) corrected: Option<Arc<Serving>>,
    pub(super) ways: BTreeMap<i64, Way>,
    /// Nodes that do not hold all that is served of them.
    pub(super) lost: BTreeMap<i64, BTreeSet<i64>>,
    pub(super) not_held: Vec<(i64, Vec<i64>)>,
    /// Each call: when, whom, for which segments.
    pub(super) calls: Vec<(Instant, i64, Vec<i64>)>,
    pub(super) running: usize,
    /// When the last call to a node has ended, or was dropped.
    pub(super) ended: BTreeMap<i64, Instant>,
}

/// What a node does with each search.
#[derive(Clone)]
pub(super) enum Way {
    Answers(Duration),
    Fails(Status),
    FailsAfter(Duration, Status),
    /// The first time; then it answers.
    FailsOnce(Status),
    Hangs,
    /// Leaves out the last hit of the last query.
    Forgets,
}

struct Running<'a>(&'a Nodes, i64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.ended.insert(self.1, Instant::now());
    }
}

/// A collection `c` of one dimension: segments as (id, rows, holders), all callable. The ids of vectors begin at
/// 1000 × the segment's.
pub(super) fn serving(segments: &[(i64, u64, &[i64])]) -> Arc<Serving> {
    let collection =
        CollectionRecord { id: 5, name: "c".to_owned(), dimension: 1, metric: "L2".to_owned(), created: 1 };
    let served = |(id, rows, nodes): &(i64, u64, &[i64])| Served {
        segment: SegmentRecord { id: *id, collection: 5, path: String::new(), rows: *rows, first_id: id * 1000 },
        nodes: nodes.to_vec(),
        callable: nodes.len(),
    };
    Arc::new(Serving { collection, replica_number: 1, segments: segments.iter().map(served).collect() })
}

/// Many vectors are equally near.
fn score(query: usize, id: i64) -> f64 {
    ((id + query as i64) * 7919 % 13) as f64
}

/// The nearest of these segments, one vector after the other.
pub(super) fn nearest<'a>(segments: impl Iterator<Item = &'a Served>, topk: usize) -> Vec<SearchResult> {
    let ids = segments.flat_map(|served| served.segment.first_id..served.segment.first_id + served.segment.rows as i64);
    let ids: Vec<_> = ids.collect();
    let of_query = |query| {
        let mut hits: Vec<_> = ids.iter().map(|id| SearchHit { id: *id, score: score(query, *id) }).collect();
        hits.sort_by(|left, right| order::nearer(MetricType::L2, left, right));
        hits.truncate(topk);
        SearchResult { hits }
    };
    (0..QUERIES).map(of_query).collect()
}

impl Nodes {
    pub(super) fn serving(segments: &[(i64, u64, &[i64])]) -> Self {
        let nodes = Self::default();
        nodes.state().serving = Some(serving(segments));
        nodes
    }

    pub(super) fn with(self, node: i64, way: Way) -> Self {
        self.state().ways.insert(node, way);
        self
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) async fn search(&self, topk: u32, limit: Duration) -> Result<SearchResponse, Status> {
        let serving = self.state().serving.clone().unwrap();
        let queries = Packed::new(&[], Bytes::from(vec![0; 4 * QUERIES]), 1, topk).unwrap();
        let deadline = Instant::now() + limit;
        let search = Search { nodes: self, holders: self, loads: &self.loads, queries, topk, deadline };
        search.run(serving).await
    }

    /// A search within four seconds that has to find all.
    pub(super) async fn found_all(&self) -> Duration {
        let begun = Instant::now();
        let answer = self.search(10, Duration::from_secs(4)).await.unwrap();
        assert_eq!((answer.partial, answer.missing.as_slice()), (false, &[][..]));
        assert_eq!(answer.results, nearest(self.state().serving.as_ref().unwrap().segments.iter(), 10));
        begun.elapsed()
    }

    /// The nodes that were asked, in order, with their segments.
    pub(super) fn asked(&self) -> Vec<(i64, Vec<i64>)> {
        self.state().calls.iter().map(|(_, node, segments)| (*node, segments.clone())).collect()
    }

    fn way(&self, node: i64) -> Way {
        let mut state = self.state();
        let way = state.ways.get(&node).cloned().unwrap_or(Way::Answers(Duration::ZERO));
        if let Way::FailsOnce(status) = way {
            state.ways.remove(&node);
            return Way::Fails(status);
        }
        way
    }
}

impl Holders for Nodes {
    fn serving(&self, _: i64) -> Option<Arc<Serving>> {
        self.state().serving.clone()
    }

    fn not_held(&self, node: i64, segments: &[i64]) {
        let mut state = self.state();
        state.not_held.push((node, segments.to_vec()));
        if let Some(corrected) = state.corrected.take() {
            state.serving = Some(corrected);
        }
    }
}

#[async_trait]
impl search::Nodes for Nodes {
    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status> {
        {
            let mut state = self.state();
            state.calls.push((Instant::now(), node, request.segment_ids.clone()));
            state.running += 1;
        }
        let _running = Running(self, node);
        let way = self.way(node);
        match &way {
            Way::Answers(after) => tokio::time::sleep(*after).await,
            Way::FailsAfter(after, status) => {
                tokio::time::sleep(*after).await;
                return Err(status.clone());
            }
            Way::Fails(status) | Way::FailsOnce(status) => return Err(status.clone()),
            Way::Hangs => std::future::pending().await,
            Way::Forgets => {}
        }
        let state = self.state();
        let lost = |id: &&i64| state.lost.get(&node).is_some_and(|lost| lost.contains(id));
        if let Some(id) = request.segment_ids.iter().find(lost) {
            return Err(Status::not_found(format!("segment {id} is not loaded on this node")));
        }
        let serving = state.serving.as_ref().expect("a search of what is served");
        let chosen = serving.segments.iter().filter(|served| request.segment_ids.contains(&served.segment.id));
        let mut results = nearest(chosen, request.topk as usize);
        if matches!(way, Way::Forgets) {
            results[QUERIES - 1].hits.pop();
        }
        Ok(results)
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        let state = self.state();
        let served = state.serving.as_ref().expect("served").segments.iter();
        let lost = |id: &i64| state.lost.get(&node).is_some_and(|lost| lost.contains(id));
        let held = served.filter(|served| served.nodes.contains(&node)).map(|served| served.segment.id);
        Ok(held.filter(|id| !lost(id)).collect())
    }
}

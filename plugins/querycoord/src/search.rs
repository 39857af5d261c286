//! A search over all nodes that hold a segment of a collection, with fail-over from one holder to another.
//!
//! ```text
//! tries (what was asked of whom, what next) ◄─► search (makes the calls, waits) ─► merge (the nearest so far)
//!   └─ choice ◄─ loads (what nodes are busy with, of all searches)
//! ```
//!
//! It ends when each segment has been searched, or cannot be, or when its time is over. An answer of which a segment is
//! missing is partial and says so, with each node's reason. Where none could be searched there is no answer. When the search
//! is dropped so are its calls, and the nodes end what they do for them.

mod failure;
pub(crate) mod loads;
mod merge;
mod tries;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use plugin_api::async_trait;
use proto::batch::Packed;
use proto::querycoord::v1::SearchResponse;
use proto::querynode::v1::{SearchRequest, SearchResult};
use proto::records::CollectionRecord;
use proto::rootcoord::v1::MetricType;
use proto::store::Store;
use tokio::time::Instant;
use tonic::Status;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::search::failure::Failure;
use crate::search::loads::Loads;
use crate::search::merge::Nearest;
use crate::search::tries::{Ask, CallId, NoAnswer, Tries};
use crate::serving::Serving;

/// The nodes, as a search needs them; named by their server ids.
#[async_trait]
pub(crate) trait Nodes: Send + Sync {
    /// Lets a node search.
    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status>;

    /// The ids of the segments that a node holds.
    async fn held(&self, node: i64) -> Result<Vec<i64>, Status>;
}

#[async_trait]
impl<C: Cluster> Nodes for C {
    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status> {
        Cluster::search(self, node, request).await
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        Cluster::held(self, node).await
    }
}

/// Who knows which nodes hold what.
#[async_trait]
pub(crate) trait Holders: Send + Sync {
    /// What searches of a collection go by, the newest; `None` where it is not loaded. Never waits.
    fn serving(&self, collection: i64) -> Option<Arc<Serving>>;

    /// A node turns out not to hold these segments.
    fn not_held(&self, node: i64, segments: &[i64]);

    /// A node has failed: who is not told of changes looks for them before it is asked again.
    async fn renew(&self, collection: i64) {
        let _ = collection;
    }
}

#[async_trait]
impl<S: Store, C: Cluster> Holders for Engine<S, C> {
    fn serving(&self, collection: i64) -> Option<Arc<Serving>> {
        Self::serving(self, collection)
    }

    fn not_held(&self, node: i64, segments: &[i64]) {
        Self::not_held(self, node, segments);
    }

    async fn renew(&self, collection: i64) {
        Self::renew(self, collection).await;
    }
}

/// One search.
pub(crate) struct Search<'a, N, H> {
    pub(crate) nodes: &'a N,
    pub(crate) holders: &'a H,
    /// Of all searches.
    pub(crate) loads: &'a Mutex<Loads>,
    pub(crate) queries: Packed,
    pub(crate) topk: u32,
    /// When the answer has to be there.
    pub(crate) deadline: Instant,
}

/// How a call has ended.
struct Ended {
    ask: Ask,
    answer: Result<Vec<SearchResult>, Status>,
    /// Where the node does not hold all that it was asked for: what it does hold.
    held: Vec<i64>,
}

impl<N: Nodes, H: Holders> Search<'_, N, H> {
    /// Searches what `serving` has.
    pub(crate) async fn run(&self, serving: Arc<Serving>) -> Result<SearchResponse, Status> {
        let collection = &serving.collection;
        let metric = MetricType::from_str_name(&collection.metric).unwrap_or_default();
        let mut nearest = Nearest::new(metric, self.topk as usize, self.queries.len());
        let work_per_row = (self.queries.len() as u64).saturating_mul(collection.dimension.into());
        let mut tries = Tries::new(Arc::clone(&serving), work_per_row, self.deadline);
        let mut calls = FuturesUnordered::new();
        let mut running: Vec<(CallId, AbortHandle)> = Vec::new();
        loop {
            tries.look(self.holders.serving(collection.id));
            let now = Instant::now();
            let asks = tries.next(now, &mut self.loads.lock().unwrap_or_else(PoisonError::into_inner));
            for ask in asks {
                let id = ask.call;
                let (call, handle) = abortable(self.call(collection.id, ask));
                calls.push(call);
                running.push((id, handle));
            }
            if tries.is_over() {
                break;
            }
            tokio::select! {
                // What is there counts, also at the last moment.
                biased;
                Some(ended) = calls.next() => {
                    if let Ok(ended) = ended {
                        running.retain(|(call, _)| *call != ended.ask.call);
                        self.take(ended, &mut tries, &mut nearest);
                    }
                }
                () = tokio::time::sleep_until(tries.wake(now)) => {
                    if Instant::now() >= self.deadline {
                        break;
                    }
                }
            }
            let overtaken = tries.overtaken();
            running.extract_if(.., |(call, _)| overtaken.contains(call)).for_each(|(_, handle)| handle.abort());
        }
        self.answer(collection, &tries, nearest)
    }

    /// The call, which counts as the node's work until it has ended or is dropped.
    fn call(&self, collection_id: i64, ask: Ask) -> impl Future<Output = Ended> {
        let busy = Busy::begin(self.loads, &ask);
        let request = SearchRequest {
            collection_id,
            segment_ids: ask.segment_ids.clone(),
            topk: self.topk,
            vectors: Vec::new(),
            packed_vectors: self.queries.bytes(),
        };
        async move {
            let answer = self.nodes.search(ask.node, request).await;
            drop(busy);
            if answer.is_err() {
                self.holders.renew(collection_id).await;
            }
            let not_held = |status: &Status| Failure::of(ask.node, status) == Failure::NotHeld;
            let held = match &answer {
                // One of them is not there: which are?
                Err(status) if not_held(status) && ask.segment_ids.len() > 1 => {
                    self.nodes.held(ask.node).await.unwrap_or_default()
                }
                _ => Vec::new(),
            };
            Ended { ask, answer, held }
        }
    }

    fn take(&self, ended: Ended, tries: &mut Tries, nearest: &mut Nearest) {
        let Ended { ask, answer, held } = ended;
        let answer = answer.and_then(|results| match nearest.check(&results, ask.rows) {
            Ok(()) => Ok(results),
            Err(wrong) => Err(Status::internal(wrong.to_string())),
        });
        match answer {
            Ok(results) => {
                self.loads.lock().unwrap_or_else(PoisonError::into_inner).answered(ask.node);
                let known = tries.answered(ask.call);
                nearest.add(results, &known);
            }
            Err(status) => {
                tracing::debug!(node = ask.node, segments = ask.segment_ids.len(), error = %status, "a call has failed");
                match Failure::of(ask.node, &status) {
                    Failure::NotHeld => {
                        let missing: Vec<_> = ask.segment_ids.iter().copied().filter(|id| !held.contains(id)).collect();
                        // Empty where it has been loaded there a moment ago.
                        if !missing.is_empty() {
                            self.holders.not_held(ask.node, &missing);
                        }
                    }
                    Failure::Refused | Failure::InBadCompany => {}
                    Failure::Exhausted | Failure::LinkLost | Failure::Other => {
                        self.loads.lock().unwrap_or_else(PoisonError::into_inner).avoid(ask.node, Instant::now());
                    }
                }
                tries.failed(ask.call, &status, &held);
            }
        }
    }

    fn answer(&self, collection: &CollectionRecord, tries: &Tries, nearest: Nearest) -> Result<SearchResponse, Status> {
        let name = &collection.name;
        let missing = tries.end(Instant::now()).map_err(|no_answer| match no_answer {
            NoAnswer::Refused { text } => Status::invalid_argument(text),
            NoAnswer::Exhausted { reasons } => {
                let reasons = failure::some_of(reasons);
                Status::resource_exhausted(format!("collection '{name}' cannot be searched now, try later: {reasons}"))
            }
        })?;
        if !missing.is_empty() && tries.is_released() {
            return Err(Status::failed_precondition(format!("collection '{name}' has been released meanwhile")));
        }
        if !missing.is_empty() && missing.len() == tries.len() {
            let reasons = failure::some_of(missing.into_iter().map(|segment| segment.reason).collect());
            let text = format!("no segment of collection '{name}' could be searched: {reasons}");
            return Err(Status::unavailable(text));
        }
        Ok(SearchResponse {
            collection_id: collection.id,
            results: nearest.into_results(),
            partial: !missing.is_empty(),
            missing,
        })
    }
}

/// A call that a node is busy with, until this is dropped.
struct Busy<'a> {
    loads: &'a Mutex<Loads>,
    node: i64,
    work: u64,
}

impl<'a> Busy<'a> {
    fn begin(loads: &'a Mutex<Loads>, ask: &Ask) -> Self {
        loads.lock().unwrap_or_else(PoisonError::into_inner).begin(ask.node, ask.work);
        Self { loads, node: ask.node, work: ask.work }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).end(self.node, self.work);
    }
}

#[cfg(test)]
mod tests;

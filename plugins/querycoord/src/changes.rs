//! Changes of what is loaded: a collection loaded, released, and a node brought to what the plans want of it.
//!
//! One change at a time: two that ran at once could release what the other has just loaded. Searches do not wait for them.
//! A change whose caller goes away ends where it is: what is wanted is kept by then or unchanged, searches go by what they
//! did, and the same call again completes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use proto::querynode::v1::LoadSegmentsRequest;
use proto::records::{CollectionRecord, SegmentRecord};
use proto::store::Store;
use tokio::sync::Mutex;
use tonic::Status;

use crate::cluster::Cluster;
use crate::limit::{is_unanswered, limited};
use crate::plan::{Difference, NoNodes, Plan};
use crate::plans::{Plans, PlansError};

/// A plan that was changed by another is made again so many times. Only a former QueryCoord that is about to learn that it
/// has been replaced can be the other.
const MAX_TRIES: usize = 5;

/// Carries out changes.
pub(crate) struct Changes<S, C> {
    pub(crate) plans: Arc<Plans<S>>,
    pub(crate) cluster: Arc<C>,
    /// How long a node may take for a load, and for anything else.
    pub(crate) load_timeout: Duration,
    pub(crate) call_timeout: Duration,
    /// Held for the whole of a change.
    pub(crate) turn: Mutex<()>,
}

/// Why a collection is not loaded or released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// RootCoord refused, or could not be asked.
    #[error("asking RootCoord for collection '{name}': {}", .status.message())]
    RootCoord { name: String, status: Status },
    /// No node can take it.
    #[error("collection '{name}' cannot be loaded{}", failures(.failed))]
    NoNodes { name: String, failed: BTreeMap<i64, Status>, source: NoNodes },
    /// A node refused to load.
    #[error("collection '{name}' is not loaded, as querynode-{node} refuses: {}", .status.message())]
    Refused { name: String, node: i64, status: Status },
    /// More nodes than a segment can be on.
    #[error("replica_number is {replica_number}, and a segment is on one node")]
    Replicas { replica_number: u32 },
    /// The plan could not be kept.
    #[error(transparent)]
    Plans(#[from] PlansError),
    /// It is not loaded.
    #[error("collection '{name}' is not loaded")]
    NotLoaded { name: String },
}

fn failures(failed: &BTreeMap<i64, Status>) -> String {
    failed.iter().map(|(node, status)| format!(", querynode-{node} failed ({})", status.message())).collect()
}

impl From<ChangeError> for Status {
    fn from(error: ChangeError) -> Self {
        let text = plugin_api::error::chain(&error);
        match error {
            // The details say more than a text, such as why a call was refused by the host.
            ChangeError::RootCoord { status, .. } | ChangeError::Refused { status, .. } => {
                Self::with_details(status.code(), text, status.details().to_vec().into())
            }
            ChangeError::NoNodes { .. } => Self::unavailable(text),
            ChangeError::Plans(error) => error.into(),
            ChangeError::Replicas { .. } => Self::failed_precondition(text),
            ChangeError::NotLoaded { .. } => Self::not_found(text),
        }
    }
}

impl<S: Store, C: Cluster> Changes<S, C> {
    /// Loads all segments that the collection has now; the answer is where they are.
    pub(crate) async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Plan>, ChangeError> {
        if replica_number > 1 {
            return Err(ChangeError::Replicas { replica_number });
        }
        let _turn = self.turn.lock().await;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_load(name).await {
                Err(ChangeError::Plans(PlansError::Changed { .. })) if tries < MAX_TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_load(&self, name: &str) -> Result<Arc<Plan>, ChangeError> {
        let root_coord = |status| ChangeError::RootCoord { name: name.to_owned(), status };
        let collection = limited(self.call_timeout, self.cluster.collection(name)).await.map_err(root_coord)?;
        let id = collection.collection_id;
        let segments = limited(self.call_timeout, self.cluster.segments(id)).await.map_err(root_coord)?;
        let before = self.plans.wanted(id);
        let mut failed = BTreeMap::new();
        loop {
            let mut nodes: BTreeSet<_> = self.cluster.nodes().map(BTreeMap::into_keys).map_err(root_coord)?.collect();
            nodes.retain(|node| !failed.contains_key(node));
            let current = self.plans.wanted(id);
            let rows = self.plans.rows_besides(id);
            let plan = match Plan::new(&collection, &segments, current.as_deref(), &nodes, &rows) {
                Ok(plan) => self.plans.want(plan).await?,
                Err(source) => {
                    self.take_back(id, before.as_deref()).await;
                    return Err(ChangeError::NoNodes { name: name.to_owned(), failed, source });
                }
            };
            let by_node = plan.by_node();
            let loads = by_node.iter().map(|(node, segments)| self.load_on(*node, &plan.collection, segments));
            let mut refused = None;
            for (node, result) in by_node.keys().zip(join_all(loads).await) {
                match result {
                    Ok(()) => {}
                    Err(status) if is_unanswered(&status) => {
                        tracing::warn!(collection = id, node, error = status.message(), "another node is chosen");
                        failed.insert(*node, status);
                    }
                    Err(status) => refused = Some((*node, status)),
                }
            }
            if let Some((node, status)) = refused {
                self.take_back(id, before.as_deref()).await;
                return Err(ChangeError::Refused { name: name.to_owned(), node, status });
            }
            if by_node.keys().all(|node| !failed.contains_key(node)) {
                self.plans.loaded(id);
                self.release_all(before.as_deref().map(|before| before.without(Some(&plan))).unwrap_or_default()).await;
                tracing::info!(
                    collection = id,
                    name,
                    segments = plan.segments.len(),
                    rows = plan.rows(),
                    nodes = by_node.len(),
                    "collection loaded"
                );
                return Ok(plan);
            }
        }
    }

    /// Makes the plan from before a load that failed the wanted one again, and releases what the load had loaded.
    async fn take_back(&self, id: i64, before: Option<&Plan>) {
        let Some(tried) = self.plans.wanted(id) else { return };
        let result = match before {
            Some(before) if *before == *tried => return,
            Some(before) => self.plans.want(before.clone()).await.map(|_| ()),
            None => self.plans.forget(id).await,
        };
        if let Err(error) = result {
            // It stays wanted: a node that comes is given its segments, and the next LoadCollection makes a new plan.
            let error = plugin_api::error::chain(&error);
            tracing::warn!(collection = id, error, "the plan of a load that failed is left in the metadata");
            return;
        }
        self.release_all(tried.without(before)).await;
    }

    /// Releases a collection; `name` is for people.
    pub(crate) async fn release(&self, id: i64, name: &str) -> Result<(), ChangeError> {
        let _turn = self.turn.lock().await;
        let mut released = None;
        for tries in 1.. {
            let Some(plan) = self.plans.wanted(id) else { break };
            match self.plans.forget(id).await {
                Ok(()) => {
                    released = Some(plan);
                    break;
                }
                Err(PlansError::Changed { .. }) if tries < MAX_TRIES => released = Some(plan),
                Err(error) => return Err(error.into()),
            }
        }
        let plan = released.ok_or_else(|| ChangeError::NotLoaded { name: name.to_owned() })?;
        self.release_all(plan.without(None)).await;
        tracing::info!(collection = id, name, "collection released");
        Ok(())
    }

    /// Lets a node load what it is short of, and release what nobody wants of it any more.
    pub(crate) async fn settle(&self, node: i64) {
        let _turn = self.turn.lock().await;
        let held = match limited(self.call_timeout, self.cluster.held(node)).await {
            Ok(held) => held.into_iter().collect(),
            Err(status) => {
                // It is settled when it can be called again.
                tracing::debug!(node, error = status.message(), "a node does not say what it holds");
                return;
            }
        };
        let plans = self.plans.all_wanted();
        let Difference { load, release } = Difference::new(node, &held, plans.iter().map(Arc::as_ref));
        if !release.is_empty() {
            self.release_all([(node, release)].into()).await;
        }
        for (collection, segments) in load {
            let segments: Vec<_> = segments.iter().collect();
            match self.load_on(node, &collection, &segments).await {
                Ok(()) => tracing::info!(node, collection = collection.id, segments = segments.len(), "loaded again"),
                Err(status) => {
                    tracing::warn!(node, collection = collection.id, error = status.message(), "not loaded again");
                }
            }
        }
    }

    async fn load_on(
        &self,
        node: i64,
        collection: &CollectionRecord,
        segments: &[&SegmentRecord],
    ) -> Result<(), Status> {
        let request = LoadSegmentsRequest {
            collection_id: collection.id,
            collection: Some(collection.clone().into()),
            segments: segments.iter().map(|segment| (*segment).clone().into()).collect(),
        };
        limited(self.load_timeout, self.cluster.load(node, request)).await
    }

    /// As far as the nodes can be called: one that cannot is settled when it comes back, or is gone with what it held.
    async fn release_all(&self, segments: BTreeMap<i64, Vec<i64>>) {
        let release = |(node, segment_ids)| async move {
            if let Err(status) = limited(self.call_timeout, self.cluster.release(node, segment_ids)).await {
                tracing::debug!(node, error = status.message(), "segments are not released now");
            }
        };
        join_all(segments.into_iter().map(release)).await;
    }
}

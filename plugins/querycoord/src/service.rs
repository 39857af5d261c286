//! The gRPC service: resolves names, checks what it is asked, and hands it on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::batch::Packed;
use proto::querycoord::v1::query_coord_server::QueryCoord;
use proto::querycoord::v1::{
    GetDistributionRequest, GetDistributionResponse, LoadCollectionRequest, LoadCollectionResponse, LoadedCollection,
    Placement, ReleaseCollectionRequest, ReleaseCollectionResponse, SearchRequest, SearchResponse,
    ShowLoadedCollectionsRequest, ShowLoadedCollectionsResponse,
};
use proto::store::Store;
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use crate::changes::{ChangeError, Changes};
use crate::cluster::Cluster;
use crate::distribution;
use crate::limit::{is_unanswered, limited, within};
use crate::plan::Plan;
use crate::plans::Plans;
use crate::search::{Holders, Search, loads::Loads};
use crate::serving::{Served, Serving};
use crate::settling::Settling;

/// The service.
pub(crate) struct Service<S, C> {
    pub(crate) plans: Arc<Plans<S>>,
    pub(crate) cluster: Arc<C>,
    pub(crate) changes: Arc<Changes<S, C>>,
    pub(crate) settling: Arc<Settling>,
    pub(crate) search_timeout: Duration,
    pub(crate) resolve_timeout: Duration,
    pub(crate) loads: Mutex<Loads>,
}

impl<S: Store, C: Cluster> Service<S, C> {
    /// The id of the collection that has this name now. RootCoord is asked each time, as a collection can be dropped and
    /// another created under its name. While RootCoord cannot be asked, nobody can do that either: then it is the newest
    /// loaded one of that name.
    async fn resolve(&self, name: &str, limit: Duration) -> Result<i64, Status> {
        match limited(limit.min(self.resolve_timeout), self.cluster.collection(name)).await {
            Ok(collection) => Ok(collection.collection_id),
            Err(status) if !is_unanswered(&status) => Err(status),
            Err(status) => match self.plans.newest_named(name) {
                Some(id) => {
                    tracing::debug!(name, id, error = status.message(), "RootCoord cannot be asked for a name");
                    Ok(id)
                }
                None => Err(status),
            },
        }
    }

    /// The loaded collection that is meant, to be released: by its id, or by a name that it has or had.
    async fn resolve_loaded(&self, name: &str, id: i64) -> Option<i64> {
        if name.is_empty() {
            return Some(id);
        }
        let resolved = self.resolve(name, self.resolve_timeout).await.ok();
        resolved.filter(|id| self.plans.wanted(*id).is_some()).or_else(|| self.plans.newest_named(name))
    }
}

#[async_trait]
impl<S: Store, C: Cluster> QueryCoord for Service<S, C> {
    async fn load_collection(
        &self,
        request: Request<LoadCollectionRequest>,
    ) -> Result<Response<LoadCollectionResponse>, Status> {
        let plan = self.changes.load(&request.into_inner().collection_name).await?;
        let place = |placed: &crate::plan::Placed| Placement {
            segment_id: placed.segment.id,
            num_rows: placed.segment.rows,
            server_ids: vec![placed.node],
        };
        let placements = plan.segments.iter().map(place).collect();
        Ok(Response::new(LoadCollectionResponse { collection_id: plan.collection.id, placements, replica_number: 1 }))
    }

    async fn release_collection(
        &self,
        request: Request<ReleaseCollectionRequest>,
    ) -> Result<Response<ReleaseCollectionResponse>, Status> {
        let ReleaseCollectionRequest { collection_name, collection_id } = request.into_inner();
        check_named(&collection_name, collection_id)?;
        let name = if collection_name.is_empty() { collection_id.to_string() } else { collection_name.clone() };
        let Some(collection_id) = self.resolve_loaded(&collection_name, collection_id).await else {
            return Err(ChangeError::NotLoaded { name }.into());
        };
        self.changes.release(collection_id, &name).await?;
        Ok(Response::new(ReleaseCollectionResponse { collection_id }))
    }

    async fn show_loaded_collections(
        &self,
        _: Request<ShowLoadedCollectionsRequest>,
    ) -> Result<Response<ShowLoadedCollectionsResponse>, Status> {
        let nodes = self.cluster.nodes()?;
        let plans = self.plans.all_wanted().into_iter();
        let loaded = plans.filter_map(|wanted| self.plans.searched(wanted.collection.id));
        let collections = loaded.map(|plan| describe(&plan, &nodes)).collect();
        Ok(Response::new(ShowLoadedCollectionsResponse { collections }))
    }

    async fn get_distribution(
        &self,
        request: Request<GetDistributionRequest>,
    ) -> Result<Response<GetDistributionResponse>, Status> {
        let name = request.into_inner().collection_name;
        let mut plans = self.plans.all_wanted();
        if !name.is_empty() {
            plans.retain(|plan| plan.collection.name == name);
            if plans.is_empty() {
                return Err(ChangeError::NotLoaded { name }.into());
            }
        }
        let nodes = distribution::distribution(&*self.cluster, &plans, self.search_timeout).await?;
        Ok(Response::new(GetDistributionResponse { nodes, ..GetDistributionResponse::default() }))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let deadline = Instant::now() + within(self.search_timeout, request.metadata());
        let SearchRequest { collection_name, collection_id, topk, vectors, packed_vectors } = request.into_inner();
        check_named(&collection_name, collection_id)?;
        let (id, name) = if collection_name.is_empty() {
            (collection_id, collection_id.to_string())
        } else {
            (self.resolve(&collection_name, deadline - Instant::now()).await?, collection_name)
        };
        let Some(serving) = self.serving(id) else {
            return Err(Status::failed_precondition(format!("collection '{name}' is not loaded: call LoadCollection")));
        };
        let queries = Packed::new(&vectors, packed_vectors, serving.collection.dimension as usize, topk)?;
        let search = Search { cluster: &*self.cluster, holders: self, loads: &self.loads, queries, topk, deadline };
        Ok(Response::new(search.run(serving).await?))
    }
}

impl<S: Store, C: Cluster> Holders for Service<S, C> {
    fn serving(&self, id: i64) -> Option<Arc<Serving>> {
        let plan = self.plans.searched(id)?;
        let served = |placed: &crate::plan::Placed| Served {
            segment: placed.segment.clone(),
            nodes: vec![placed.node],
            callable: 1,
        };
        Some(Arc::new(Serving {
            collection: plan.collection.clone(),
            segments: plan.segments.iter().map(served).collect(),
        }))
    }

    fn not_held(&self, node: i64, _: &[i64]) {
        self.settling.ask([node]);
    }
}

fn check_named(name: &str, id: i64) -> Result<(), Status> {
    if name.is_empty() && id == 0 {
        return Err(Status::invalid_argument("no collection is named: give collection_name or collection_id"));
    }
    Ok(())
}

fn describe(plan: &Plan, nodes: &BTreeMap<i64, String>) -> LoadedCollection {
    LoadedCollection {
        collection: Some(plan.collection.clone().into()),
        num_segments: plan.segments.len() as u32,
        num_reachable_segments: plan.segments.iter().filter(|placed| nodes.contains_key(&placed.node)).count() as u32,
        num_rows: plan.rows(),
        replica_number: 1,
        ..LoadedCollection::default()
    }
}

#[cfg(test)]
mod tests;

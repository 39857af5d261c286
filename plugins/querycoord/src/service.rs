//! The gRPC service: resolves names, checks what it is asked, and hands it on.

use std::sync::Arc;
use std::time::Duration;

use proto::batch::Batch;
use proto::querycoord::v1::query_coord_server::QueryCoord;
use proto::querycoord::v1::{
    GetDistributionRequest, GetDistributionResponse, LoadCollectionRequest, LoadCollectionResponse, LoadedCollection,
    Placement, ReleaseCollectionRequest, ReleaseCollectionResponse, SearchRequest, SearchResponse,
    ShowLoadedCollectionsRequest, ShowLoadedCollectionsResponse,
};
use proto::store::Store;
use tonic::{Request, Response, Status, async_trait};

use crate::cluster::Cluster;
use crate::engine::{Engine, not_loaded};
use crate::limit::{is_unanswered, limited, within};
use crate::serving::{CollectionOverview, Served};
use crate::{distribution, search};

/// The service.
pub(crate) struct Service<S, C> {
    pub(crate) cluster: Arc<C>,
    pub(crate) engine: Arc<Engine<S, C>>,
    pub(crate) search_timeout: Duration,
    pub(crate) resolve_timeout: Duration,
}

impl<S: Store, C: Cluster> Service<S, C> {
    /// The id of the collection that has this name now. RootCoord is asked each time, as a collection can be dropped and
    /// another created under its name. While RootCoord cannot be asked, nobody can do that either: then it is the newest
    /// loaded one of that name.
    async fn resolve(&self, name: &str, limit: Duration) -> Result<i64, Status> {
        match limited(limit.min(self.resolve_timeout), self.cluster.collection(name)).await {
            Ok(collection) => Ok(collection.collection_id),
            Err(status) if !is_unanswered(&status) => Err(status),
            Err(status) => match self.engine.newest_named(name) {
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
        resolved.filter(|id| self.engine.is_wanted(*id)).or_else(|| self.engine.newest_named(name))
    }
}

#[async_trait]
impl<S: Store, C: Cluster> QueryCoord for Service<S, C> {
    async fn load_collection(
        &self,
        request: Request<LoadCollectionRequest>,
    ) -> Result<Response<LoadCollectionResponse>, Status> {
        let LoadCollectionRequest { collection_name, replica_number } = request.into_inner();
        let loaded = self.engine.load(&collection_name, replica_number).await?;
        let place = |placed: &Served| Placement {
            segment_id: placed.segment.id,
            num_rows: placed.segment.rows,
            server_ids: placed.nodes.clone(),
        };
        Ok(Response::new(LoadCollectionResponse {
            collection_id: loaded.collection.id,
            placements: loaded.segments.iter().map(place).collect(),
            replica_number: loaded.replica_number,
        }))
    }

    async fn release_collection(
        &self,
        request: Request<ReleaseCollectionRequest>,
    ) -> Result<Response<ReleaseCollectionResponse>, Status> {
        let ReleaseCollectionRequest { collection_name, collection_id } = request.into_inner();
        check_named(&collection_name, collection_id)?;
        let name = if collection_name.is_empty() { collection_id.to_string() } else { collection_name.clone() };
        let Some(collection_id) = self.resolve_loaded(&collection_name, collection_id).await else {
            return Err(not_loaded(&name));
        };
        self.engine.release(collection_id, &name).await?;
        Ok(Response::new(ReleaseCollectionResponse { collection_id }))
    }

    async fn show_loaded_collections(
        &self,
        _: Request<ShowLoadedCollectionsRequest>,
    ) -> Result<Response<ShowLoadedCollectionsResponse>, Status> {
        let collections = self.engine.overview().collections.iter().map(describe).collect();
        Ok(Response::new(ShowLoadedCollectionsResponse { collections }))
    }

    async fn get_distribution(
        &self,
        request: Request<GetDistributionRequest>,
    ) -> Result<Response<GetDistributionResponse>, Status> {
        let name = request.into_inner().collection_name;
        let mut collections = self.engine.overview().collections;
        if !name.is_empty() {
            collections.retain(|each| each.collection.name == name);
            if collections.is_empty() {
                return Err(not_loaded(&name));
            }
        }
        let nodes = distribution::distribution(&*self.cluster, &collections, self.search_timeout).await?;
        Ok(Response::new(GetDistributionResponse { nodes, ..GetDistributionResponse::default() }))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let limit = within(self.search_timeout, request.metadata());
        let SearchRequest { collection_name, collection_id, topk, vectors, packed_vectors } = request.into_inner();
        check_named(&collection_name, collection_id)?;
        let (id, name) = if collection_name.is_empty() {
            (collection_id, collection_id.to_string())
        } else {
            (self.resolve(&collection_name, limit).await?, collection_name)
        };
        let Some(serving) = self.engine.serving(id) else {
            return Err(Status::failed_precondition(format!("collection '{name}' is not loaded: call LoadCollection")));
        };
        let batch = Batch::new(&vectors, &packed_vectors, serving.collection.dimension as usize, topk)?;
        let (answer, unsettled) = search::search(&*self.cluster, &serving, &batch, topk, limit).await;
        for (node, segments) in unsettled {
            self.engine.not_held(node, &segments);
        }
        Ok(Response::new(answer?))
    }
}

fn check_named(name: &str, id: i64) -> Result<(), Status> {
    if name.is_empty() && id == 0 {
        return Err(Status::invalid_argument("no collection is named: give collection_name or collection_id"));
    }
    Ok(())
}

fn describe(each: &CollectionOverview) -> LoadedCollection {
    let reachable = each.segments.iter().filter(|segment| segment.copies.iter().any(|copy| copy.held));
    LoadedCollection {
        collection: Some(each.collection.clone().into()),
        num_segments: each.segments.len() as u32,
        num_reachable_segments: reachable.count() as u32,
        num_rows: each.segments.iter().map(|segment| segment.segment.rows).sum(),
        replica_number: each.replica_number,
        num_whole_segments: each.segments.iter().filter(|segment| segment.lacking.is_none()).count() as u32,
    }
}

#[cfg(test)]
mod tests;

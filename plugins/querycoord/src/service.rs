//! The gRPC service: resolves names, checks what it is asked, and hands it on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::batch::Packed;
use proto::name;
use proto::querycoord::v1::query_coord_server::QueryCoord;
use proto::querycoord::v1::{
    GetDistributionRequest, GetDistributionResponse, LoadCollectionRequest, LoadCollectionResponse, Placement,
    ReleaseCollectionRequest, ReleaseCollectionResponse, SearchRequest, SearchResponse, ShowLoadedCollectionsRequest,
    ShowLoadedCollectionsResponse,
};
use proto::rootcoord::v1::CollectionInfo;
use proto::store::Store;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::cluster::Cluster;
use crate::distribution;
use crate::engine::Engine;
use crate::limit::{is_unanswered, limited, within};
use crate::search::{Holders, Nodes, Search, loads::Loads};
use crate::serving::{Overview, Served, Serving};

/// The most nodes that each segment can be asked to be on.
const MAX_REPLICAS: u32 = 64;

/// The service.
pub(crate) struct Service<E, C> {
    pub(crate) cluster: Arc<C>,
    pub(crate) engine: Arc<E>,
    pub(crate) search_timeout: Duration,
    pub(crate) resolve_timeout: Duration,
    /// What nodes are busy with for searches.
    pub(crate) loads: Arc<Mutex<Loads>>,
}

/// What is loaded, as the service needs it: the engine's.
#[async_trait]
pub(crate) trait Loaded: Holders + 'static {
    /// Loads all segments that a collection has now; the answer says where they are to be.
    async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Serving>, Status>;

    /// Releases a collection; `name` is for people.
    async fn release(&self, id: i64, name: &str) -> Result<(), Status>;

    /// How nodes and segments stand for all that is known.
    fn overview(&self) -> Overview;

    /// Is a collection loaded, or being loaded?
    fn is_wanted(&self, id: i64) -> bool;

    /// The newest loaded collection that had this name when it was loaded.
    fn newest_named(&self, name: &str) -> Option<i64>;
}

/// RootCoord's collections, as the service needs them.
#[async_trait]
pub(crate) trait Catalogue: Send + Sync {
    /// The collection of that name.
    async fn by_name(&self, name: &str) -> Result<CollectionInfo, Status>;

    /// The collection with that id.
    async fn by_id(&self, id: i64) -> Result<CollectionInfo, Status>;
}

#[async_trait]
impl<S: Store, C: Cluster> Loaded for Engine<S, C> {
    async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Serving>, Status> {
        Self::load(self, name, replica_number).await
    }

    async fn release(&self, id: i64, name: &str) -> Result<(), Status> {
        Self::release(self, id, name).await
    }

    fn overview(&self) -> Overview {
        Self::overview(self)
    }

    fn is_wanted(&self, id: i64) -> bool {
        Self::is_wanted(self, id)
    }

    fn newest_named(&self, name: &str) -> Option<i64> {
        Self::newest_named(self, name)
    }
}

impl<E: Loaded, C: Nodes + Catalogue> Service<E, C> {
    /// The id of the collection that has this name now. RootCoord is asked each time, as a collection can be dropped and
    /// another created under its name. While RootCoord cannot be asked, nobody can do that either: then it is the newest
    /// loaded one of that name.
    async fn resolve(&self, name: &str, limit: Duration) -> Result<i64, Status> {
        match limited(limit.min(self.resolve_timeout), self.cluster.by_name(name)).await {
            Ok(collection) => Ok(collection.collection_id),
            Err(status) if !is_unanswered(&status) => Err(status),
            Err(status) => match self.engine.newest_named(name) {
                Some(id) => {
                    tracing::debug!(name, id, error = status.message(), "RootCoord cannot be asked for a name");
                    Ok(id)
                }
                None => {
                    let text = format!("asking RootCoord for collection '{name}': {}", status.message());
                    Err(Status::with_details(status.code(), text, status.details().to_vec().into()))
                }
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

    /// Why a collection cannot be searched; `name` is empty where it was named by its id.
    async fn not_searched(&self, name: &str, id: i64, limit: Duration) -> Status {
        let known_as = if name.is_empty() { id.to_string() } else { name.to_owned() };
        if self.engine.is_wanted(id) {
            let text = format!("collection '{known_as}' is being loaded: wait for LoadCollection's answer");
            return Status::failed_precondition(text);
        }
        if name.is_empty() {
            match limited(limit.min(self.resolve_timeout), self.cluster.by_id(id)).await {
                Err(status) if status.code() == Code::NotFound => return status,
                _ => {}
            }
        }
        Status::failed_precondition(format!("collection '{known_as}' is not loaded: call LoadCollection"))
    }
}

#[async_trait]
impl<E: Loaded, C: Nodes + Catalogue + 'static> QueryCoord for Service<E, C> {
    async fn load_collection(
        &self,
        request: Request<LoadCollectionRequest>,
    ) -> Result<Response<LoadCollectionResponse>, Status> {
        let LoadCollectionRequest { collection_name, replica_number } = request.into_inner();
        name::check(&collection_name)?;
        if replica_number > MAX_REPLICAS {
            let text = format!("replica_number is {replica_number}, it has to be at most {MAX_REPLICAS}");
            return Err(Status::invalid_argument(text));
        }
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
        let known_as = if collection_name.is_empty() { collection_id.to_string() } else { collection_name.clone() };
        let Some(id) = self.resolve_loaded(&collection_name, collection_id).await else {
            return Err(not_loaded(&known_as));
        };
        check_same(&collection_name, id, collection_id)?;
        self.engine.release(id, &known_as).await?;
        Ok(Response::new(ReleaseCollectionResponse { collection_id: id }))
    }

    async fn show_loaded_collections(
        &self,
        _: Request<ShowLoadedCollectionsRequest>,
    ) -> Result<Response<ShowLoadedCollectionsResponse>, Status> {
        let collections = distribution::loaded_collections(&self.engine.overview());
        Ok(Response::new(ShowLoadedCollectionsResponse { collections }))
    }

    async fn get_distribution(
        &self,
        request: Request<GetDistributionRequest>,
    ) -> Result<Response<GetDistributionResponse>, Status> {
        let limit = within(self.search_timeout, request.metadata());
        let name = request.into_inner().collection_name;
        let mut overview = self.engine.overview();
        if !name.is_empty() {
            name::check(&name)?;
            overview.collections.retain(|each| each.collection.name == name);
            if overview.collections.is_empty() {
                return Err(not_loaded(&name));
            }
        }
        Ok(Response::new(distribution::distribution(&*self.cluster, overview, limit).await))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let limit = within(self.search_timeout, request.metadata());
        let deadline = Instant::now() + limit;
        let SearchRequest { collection_name, collection_id, topk, vectors, packed_vectors } = request.into_inner();
        check_named(&collection_name, collection_id)?;
        let id = if collection_name.is_empty() {
            collection_id
        } else {
            // Half of the time at most: a RootCoord that hangs leaves enough for the search itself.
            let id = self.resolve(&collection_name, limit / 2).await?;
            check_same(&collection_name, id, collection_id)?;
            id
        };
        let Some(serving) = self.engine.serving(id) else {
            return Err(self.not_searched(&collection_name, id, limit / 2).await);
        };
        let queries = Packed::new(&vectors, packed_vectors, serving.collection.dimension as usize, topk)?;
        let (nodes, holders) = (&*self.cluster, &*self.engine);
        let search = Search { nodes, holders, loads: &self.loads, queries, topk, deadline };
        Ok(Response::new(search.run(serving).await?))
    }
}

fn check_named(name: &str, id: i64) -> Result<(), Status> {
    match (name, id) {
        ("", 0) => Err(Status::invalid_argument("no collection is named: give collection_name or collection_id")),
        (_, id) if id < 0 => Err(Status::invalid_argument(format!("collection_id is {id}, it has to be 1 or more"))),
        ("", _) => Ok(()),
        (name, _) => Ok(name::check(name)?),
    }
}

/// Of a collection that is named by its name and by an id: are both the same?
fn check_same(name: &str, resolved: i64, given: i64) -> Result<(), Status> {
    if given == 0 || given == resolved {
        return Ok(());
    }
    let text = format!("collection '{name}' has the id {resolved}, and collection_id is {given}: give one of them");
    Err(Status::invalid_argument(text))
}

fn not_loaded(name: &str) -> Status {
    Status::not_found(format!("collection '{name}' is not loaded"))
}

#[cfg(test)]
mod tests;

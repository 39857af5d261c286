//! The gRPC service over the allocator and the catalogue.

use std::path::Path;
use std::sync::Arc;

use plugin_api::call::handed_on;
use proto::files::{DataDirs, FileError, Header};
use proto::rootcoord::v1::root_coord_server::RootCoord;
use proto::rootcoord::v1::{
    AddSegmentRequest, AddSegmentResponse, AllocIdRequest, AllocIdResponse, AllocTimestampRequest,
    AllocTimestampResponse, CollectionInfo, CreateCollectionRequest, CreateCollectionResponse,
    DescribeCollectionRequest, DescribeCollectionResponse, DropCollectionRequest, DropCollectionResponse,
    HasCollectionRequest, HasCollectionResponse, SegmentInfo, ShowCollectionsRequest, ShowCollectionsResponse,
    ShowSegmentsRequest, ShowSegmentsResponse,
};
use proto::store::Store;
use tonic::{Request, Response, Status, async_trait};

use crate::allocator::Allocator;
use crate::catalogue::{Catalogue, check_new};
use crate::releases::{QueryCoord, Releases};

/// The service.
pub(crate) struct Service<S, Q> {
    pub(crate) allocator: Arc<Allocator<S>>,
    pub(crate) catalogue: Arc<Catalogue<S>>,
    pub(crate) releases: Arc<Releases<S, Q>>,
    pub(crate) data_dirs: DataDirs,
}

#[async_trait]
impl<S: Store, Q: QueryCoord> RootCoord for Service<S, Q> {
    async fn alloc_timestamp(
        &self,
        request: Request<AllocTimestampRequest>,
    ) -> Result<Response<AllocTimestampResponse>, Status> {
        let count = request.into_inner().count;
        let timestamp = self.allocator.timestamps(count).await?;
        Ok(Response::new(AllocTimestampResponse { timestamp, count }))
    }

    async fn alloc_id(&self, request: Request<AllocIdRequest>) -> Result<Response<AllocIdResponse>, Status> {
        let count = request.into_inner().count;
        let id = self.allocator.ids(u64::from(count)).await?;
        Ok(Response::new(AllocIdResponse { id, count }))
    }

    async fn create_collection(
        &self,
        request: Request<CreateCollectionRequest>,
    ) -> Result<Response<CreateCollectionResponse>, Status> {
        let CreateCollectionRequest { collection_name, dimension, metric_type } = request.into_inner();
        let metric = check_new(&collection_name, dimension, metric_type)?;
        // Asked first only to spare ids: two that create it at once are told apart by the transaction.
        self.catalogue.check_free(&collection_name).await?;
        let info = CollectionInfo {
            collection_id: self.allocator.ids(1).await?,
            collection_name,
            dimension,
            metric_type: metric.into(),
            created_timestamp: self.allocator.timestamps(1).await?,
        };
        self.catalogue.create(&info).await?;
        tracing::info!(collection = info.collection_id, name = %info.collection_name, dimension,
            metric = metric.as_str_name(), "collection created");
        Ok(Response::new(CreateCollectionResponse { collection: Some(info) }))
    }

    async fn drop_collection(
        &self,
        request: Request<DropCollectionRequest>,
    ) -> Result<Response<DropCollectionResponse>, Status> {
        let name = request.into_inner().collection_name;
        let (catalogue, releases) = (Arc::clone(&self.catalogue), Arc::clone(&self.releases));
        // A task of its own: whoever gives the call up in the midst of it has dropped the collection all the same, and what
        // is left of it is to end.
        let dropping = tokio::spawn(handed_on(async move {
            let dropped = catalogue.drop_collection(&name).await;
            if let Ok(collection) = &dropped {
                tracing::info!(collection, name, "collection dropped");
            }
            let released = match &dropped {
                Ok(id) => releases.released(*id).await,
                Err(_) => false,
            };
            // Also after an error: it may have been dropped.
            releases.end_what_is_left();
            dropped.map(|collection_id| DropCollectionResponse { collection_id, released })
        }));
        let dropped = dropping.await.map_err(|error| Status::internal(format!("dropping a collection: {error}")))?;
        Ok(Response::new(dropped?))
    }

    async fn describe_collection(
        &self,
        request: Request<DescribeCollectionRequest>,
    ) -> Result<Response<DescribeCollectionResponse>, Status> {
        let DescribeCollectionRequest { collection_name, collection_id } = request.into_inner();
        if collection_name.is_empty() && collection_id == 0 {
            return Err(Status::invalid_argument("no collection is named: give collection_name or collection_id"));
        }
        let found = if collection_name.is_empty() {
            self.catalogue.by_id(collection_id).await?
        } else {
            self.catalogue.by_name(&collection_name).await?
        };
        Ok(Response::new(DescribeCollectionResponse { collection: Some(found.info) }))
    }

    async fn has_collection(
        &self,
        request: Request<HasCollectionRequest>,
    ) -> Result<Response<HasCollectionResponse>, Status> {
        let value = self.catalogue.has(&request.into_inner().collection_name).await?;
        Ok(Response::new(HasCollectionResponse { value }))
    }

    async fn show_collections(
        &self,
        _: Request<ShowCollectionsRequest>,
    ) -> Result<Response<ShowCollectionsResponse>, Status> {
        let collections = self.catalogue.collections().await?;
        Ok(Response::new(ShowCollectionsResponse { collections }))
    }

    async fn add_segment(&self, request: Request<AddSegmentRequest>) -> Result<Response<AddSegmentResponse>, Status> {
        let AddSegmentRequest { collection_name, path } = request.into_inner();
        if path.is_empty() || path.contains('\0') {
            let path = path.escape_default();
            return Err(Status::invalid_argument(format!("path is '{path}': it has to name a file of vectors")));
        }
        let collection = self.catalogue.by_name(&collection_name).await?;
        let dirs = self.data_dirs.clone();
        let named = path.clone();
        let look = move || -> Result<_, FileError> {
            let file = dirs.open(Path::new(&named))?;
            Ok((file.path().to_owned(), file.header()))
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let (file, header) = looked.map_err(|error| Status::internal(format!("looking at {path}: {error}")))??;
        let Header { rows, dimension, .. } = header;
        if dimension != collection.info.dimension {
            return Err(Status::invalid_argument(format!(
                "{path}: its dimension has to be {}, that of collection '{collection_name}', found {dimension}",
                collection.info.dimension
            )));
        }
        self.catalogue.check_new_file(&collection, &file).await?;
        let info = SegmentInfo {
            segment_id: self.allocator.ids(1).await?,
            collection_id: collection.info.collection_id,
            path,
            num_rows: rows,
            first_id: self.allocator.ids(rows).await?,
        };
        self.catalogue.add_segment(&collection, &info, &file).await?;
        tracing::info!(segment = info.segment_id, collection = info.collection_id, path = %info.path, rows,
            first_id = info.first_id, "segment added");
        Ok(Response::new(AddSegmentResponse { segment: Some(info) }))
    }

    async fn show_segments(
        &self,
        request: Request<ShowSegmentsRequest>,
    ) -> Result<Response<ShowSegmentsResponse>, Status> {
        let segments = self.catalogue.segments(request.into_inner().collection_id).await?;
        Ok(Response::new(ShowSegmentsResponse { segments }))
    }
}

#[cfg(test)]
mod tests;

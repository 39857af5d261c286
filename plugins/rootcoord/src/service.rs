//! The gRPC service over the allocator and the catalogue.

use std::path::Path;
use std::sync::Arc;

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
use crate::catalogue::{Catalogue, CatalogueError, check_new};

/// The service.
pub(crate) struct Service<S> {
    pub(crate) allocator: Arc<Allocator<S>>,
    pub(crate) catalogue: Arc<Catalogue<S>>,
    pub(crate) data_dirs: DataDirs,
}

#[async_trait]
impl<S: Store> RootCoord for Service<S> {
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
        if self.catalogue.has(&collection_name).await? {
            return Err(CatalogueError::CollectionExists { name: collection_name }.into());
        }
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
        let collection_id = self.catalogue.drop_collection(&name).await?;
        tracing::info!(collection = collection_id, name, "collection dropped");
        Ok(Response::new(DropCollectionResponse { collection_id, released: false }))
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
mod tests {
    use proto::rootcoord::v1::MetricType;
    use proto::store::MemoryStore;
    use tonic::Code;

    use super::*;
    use crate::allocator::milliseconds;

    fn service() -> (tempfile::TempDir, Service<MemoryStore>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let service = Service {
            allocator: Arc::new(Allocator::new(Arc::clone(&store), milliseconds)),
            catalogue: Arc::new(Catalogue::new(store)),
            data_dirs: DataDirs::new(vec![dir.path().to_owned()]),
        };
        (dir, service)
    }

    /// Rows of two components each.
    fn write_fvecs(dir: &tempfile::TempDir, name: &str, rows: usize) {
        let row = [2_u32.to_le_bytes(), 1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat();
        std::fs::write(dir.path().join(name), row.repeat(rows)).unwrap();
    }

    async fn create(service: &Service<MemoryStore>, name: &str) -> Result<CollectionInfo, Status> {
        let request = CreateCollectionRequest {
            collection_name: name.to_owned(),
            dimension: 2,
            metric_type: MetricType::Ip.into(),
        };
        let answer = service.create_collection(Request::new(request)).await?;
        Ok(answer.into_inner().collection.unwrap())
    }

    async fn add(service: &Service<MemoryStore>, name: &str, path: &str) -> Result<SegmentInfo, Status> {
        let request = AddSegmentRequest { collection_name: name.to_owned(), path: path.to_owned() };
        Ok(service.add_segment(Request::new(request)).await?.into_inner().segment.unwrap())
    }

    #[tokio::test]
    async fn the_rows_of_a_file_get_ids_of_their_own() {
        let (dir, service) = service();
        let collection = create(&service, "c").await.unwrap();
        assert!(collection.created_timestamp >> 18 > 1_600_000_000_000);
        write_fvecs(&dir, "a", 3);
        write_fvecs(&dir, "b", 200_000);
        let first = add(&service, "c", "a").await.unwrap();
        let second = add(&service, "c", "b").await.unwrap();
        assert_eq!((first.num_rows, second.num_rows), (3, 200_000));
        let request = Request::new(AllocIdRequest { count: 1 });
        let next = service.alloc_id(request).await.unwrap().into_inner().id;
        let mut ranges = vec![
            (collection.collection_id, 1),
            (first.segment_id, 1),
            (first.first_id, 3),
            (second.segment_id, 1),
            (second.first_id, 200_000),
            (next, 1),
        ];
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?}");
    }

    #[tokio::test]
    async fn two_that_create_the_same_collection_at_once_get_one() {
        let (_dir, service) = service();
        let answers = tokio::join!(create(&service, "c"), create(&service, "c"), create(&service, "c"));
        let codes = [answers.0, answers.1, answers.2].map(|answer| answer.err().map(|status| status.code()));
        assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1);
        assert_eq!(codes.iter().filter(|code| **code == Some(Code::AlreadyExists)).count(), 2);
    }

    #[tokio::test]
    async fn a_bad_segment_is_refused_and_leaves_nothing() {
        let (dir, service) = service();
        let collection = create(&service, "c").await.unwrap();
        write_fvecs(&dir, "good", 3);
        let other = [1_u32.to_le_bytes(), 1_f32.to_le_bytes()].concat();
        std::fs::write(dir.path().join("other"), other).unwrap();
        std::fs::write(dir.path().join("empty"), "").unwrap();
        let cases = [
            ("none", "good", Code::NotFound, "there is no collection 'none'"),
            ("c", "missing", Code::NotFound, "missing: there is no such file"),
            ("c", "/etc/hostname", Code::PermissionDenied, "in none of the data_dirs"),
            ("c", "empty", Code::InvalidArgument, "found an empty file"),
            ("c", "other", Code::InvalidArgument, "other: its dimension has to be 2, that of collection 'c', found 1"),
        ];
        for (name, path, code, text) in cases {
            let error = add(&service, name, path).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().contains(text), "{error}");
        }
        let request = Request::new(ShowSegmentsRequest { collection_id: collection.collection_id });
        assert!(service.show_segments(request).await.unwrap().into_inner().segments.is_empty());
        add(&service, "c", "good").await.unwrap();
        // The same file by another way.
        let absolute = dir.path().join("good");
        let again = add(&service, "c", absolute.to_str().unwrap()).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    }
}

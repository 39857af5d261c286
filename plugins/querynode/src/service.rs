//! The gRPC service: checks what it is asked, and hands what computes or reads files to blocking threads.

use std::collections::HashMap;
use std::sync::Arc;

use plugin_api::Call;
use proto::batch::{Batch, MAX_DIMENSION};
use proto::files::DataDirs;
use proto::querynode::v1::query_node_server::QueryNode;
use proto::querynode::v1::{
    DismissRequest, DismissResponse, GetSegmentInfoRequest, GetSegmentInfoResponse, LoadSegmentsRequest,
    LoadSegmentsResponse, ReleaseSegmentsRequest, ReleaseSegmentsResponse, SearchRequest, SearchResponse,
};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use tokio::sync::Semaphore;
use tokio::task;
use tonic::{Request, Response, Status, async_trait};

use crate::QueryNodeConfig;
use crate::catalogue::Catalogue;
use crate::reading::{self, ReadingError};
use crate::scan::Scan;
use crate::searches::Searches;
use crate::segments::Segments;

/// The service over what the node holds.
pub(crate) struct Service<C> {
    catalogue: C,
    data_dirs: Arc<DataDirs>,
    segments: Arc<Segments>,
    searches: Searches,
    /// One load at a time: two that read from one disk are not faster, and take the memory of both.
    loads: Arc<Semaphore>,
}

impl<C: Catalogue> Service<C> {
    pub(crate) fn new(config: &QueryNodeConfig, segments: Arc<Segments>, catalogue: C) -> Self {
        Self {
            catalogue,
            data_dirs: Arc::new(DataDirs::new(config.data_dirs.clone())),
            segments,
            searches: Searches::new(config.parallel_searches, config.waiting_searches),
            loads: Arc::new(Semaphore::new(1)),
        }
    }

    /// The collection of a load, as the call says it or else RootCoord.
    async fn collection(&self, request: &LoadSegmentsRequest) -> Result<CollectionInfo, Status> {
        let collection = match &request.collection {
            Some(collection) => collection.clone(),
            None => self.catalogue.collection(request.collection_id).await?,
        };
        let id = collection.collection_id;
        if request.collection_id != 0 && request.collection_id != id {
            let text = format!("collection_id is {}, and the collection's own is {id}", request.collection_id);
            return Err(Status::invalid_argument(text));
        }
        if !(1..=MAX_DIMENSION).contains(&collection.dimension) {
            let text =
                format!("collection {id}: dimension is {}, has to be 1 to {MAX_DIMENSION}", collection.dimension);
            return Err(Status::invalid_argument(text));
        }
        if collection.metric_type() == MetricType::MetricUnspecified {
            let text =
                format!("collection {id}: metric_type is {}, has to be L2, IP or COSINE", collection.metric_type);
            return Err(Status::invalid_argument(text));
        }
        Ok(collection)
    }

    /// The segments of a load, those without a path as RootCoord has them.
    async fn particulars(&self, collection_id: i64, wanted: Vec<SegmentInfo>) -> Result<Vec<SegmentInfo>, Status> {
        let mut known = HashMap::new();
        if wanted.iter().any(|info| info.path.is_empty()) {
            let all = self.catalogue.segments(collection_id).await?;
            known.extend(all.into_iter().map(|info| (info.segment_id, info)));
        }
        let complete = |info: SegmentInfo| {
            let segment_id = info.segment_id;
            let info = if info.path.is_empty() { known.remove(&segment_id) } else { Some(info) };
            match info {
                Some(info) if info.collection_id == collection_id => Ok(info),
                _ => Err(Status::not_found(format!("collection {collection_id} has no segment {segment_id}"))),
            }
        };
        wanted.into_iter().map(complete).collect()
    }
}

#[async_trait]
impl<C: Catalogue> QueryNode for Service<C> {
    async fn load_segments(
        &self,
        request: Request<LoadSegmentsRequest>,
    ) -> Result<Response<LoadSegmentsResponse>, Status> {
        let request = request.into_inner();
        let collection = self.collection(&request).await?;
        let mut wanted = request.segments;
        wanted.sort_by_key(|info| info.segment_id);
        wanted.dedup_by_key(|info| info.segment_id);
        if wanted.is_empty() {
            return Err(Status::invalid_argument("segments is empty"));
        }
        let wanted = self.particulars(collection.collection_id, wanted).await?;
        let permit = Arc::clone(&self.loads).acquire_owned().await.map_err(closed)?;
        let missing = self.segments.missing(wanted)?;
        let dirs = Arc::clone(&self.data_dirs);
        let read = move || {
            let load = |info| reading::read(&dirs, &collection, info);
            let loaded = missing.into_iter().map(load).collect::<Result<Vec<_>, ReadingError>>();
            // Kept until here, so that a caller that has gone does not let a second load begin beside this one.
            drop(permit);
            loaded
        };
        let loaded = task::spawn_blocking(read).await.map_err(failed)??;
        let newly_loaded = loaded.len() as u32;
        for segment in &loaded {
            let info = &segment.info;
            tracing::info!(segment = info.segment_id, collection = info.collection_id, path = %info.path,
                rows = info.num_rows, "segment loaded");
        }
        self.segments.insert(loaded);
        Ok(Response::new(LoadSegmentsResponse { newly_loaded }))
    }

    async fn release_segments(
        &self,
        request: Request<ReleaseSegmentsRequest>,
    ) -> Result<Response<ReleaseSegmentsResponse>, Status> {
        let segment_ids = request.into_inner().segment_ids;
        if segment_ids.is_empty() {
            return Err(Status::invalid_argument("segment_ids is empty"));
        }
        let released = self.segments.release(&segment_ids) as u32;
        tracing::info!(segments = ?segment_ids, released, "segments released");
        Ok(Response::new(ReleaseSegmentsResponse { released }))
    }

    async fn get_segment_info(
        &self,
        request: Request<GetSegmentInfoRequest>,
    ) -> Result<Response<GetSegmentInfoResponse>, Status> {
        let GetSegmentInfoRequest { collection_id, segment_ids } = request.into_inner();
        let of_collection = Some(collection_id).filter(|id| *id != 0);
        let mut segments = self.segments.list(of_collection);
        if !segment_ids.is_empty() {
            segments.retain(|segment| segment_ids.contains(&segment.info.segment_id));
            let held = |id: &&i64| segments.iter().any(|segment| segment.info.segment_id == **id);
            if let Some(id) = segment_ids.iter().find(|id| !held(id)) {
                return Err(Status::not_found(format!("segment {id} is not loaded on this node")));
            }
        }
        let segments = segments.iter().map(|segment| segment.describe()).collect();
        Ok(Response::new(GetSegmentInfoResponse { segments, ..GetSegmentInfoResponse::default() }))
    }

    async fn dismiss(&self, request: Request<DismissRequest>) -> Result<Response<DismissResponse>, Status> {
        let reason = request.into_inner().reason;
        tracing::info!(reason, "this node need not wait any longer");
        self.segments.dismiss();
        Ok(Response::new(DismissResponse {}))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let request = request.into_inner();
        let chosen = self.segments.choose(request.collection_id, &request.segment_ids)?;
        let Some(dimension) = chosen.first().map(|segment| segment.dimension) else {
            return Err(Status::internal("no segment was chosen"));
        };
        let batch = Batch::new(&request.vectors, &request.packed_vectors, dimension, request.topk)?;
        let deadline = Call::current().and_then(|call| call.deadline);
        let results = self.searches.search(Scan::new(chosen, batch, request.topk as usize, deadline)).await?;
        Ok(Response::new(SearchResponse { results }))
    }
}

fn closed(_: tokio::sync::AcquireError) -> Status {
    Status::unavailable("the node is stopping")
}

/// A blocking thread panicked, or its runtime is going away.
fn failed(error: task::JoinError) -> Status {
    Status::internal(format!("the work has ended without a result: {error}"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use proto::querynode::v1::Vector;
    use tonic::Code;

    use super::*;

    /// RootCoord with one collection, 5, of dimension 2, and its segments.
    struct Fake(Vec<SegmentInfo>);

    #[async_trait]
    impl Catalogue for Fake {
        async fn collection(&self, collection_id: i64) -> Result<CollectionInfo, Status> {
            if collection_id == 5 { Ok(collection()) } else { Err(Status::not_found("no such collection")) }
        }

        async fn segments(&self, _: i64) -> Result<Vec<SegmentInfo>, Status> {
            Ok(self.0.clone())
        }
    }

    fn collection() -> CollectionInfo {
        CollectionInfo {
            collection_id: 5,
            collection_name: "c".to_owned(),
            dimension: 2,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        }
    }

    fn info(segment_id: i64, path: &str, num_rows: u64, first_id: i64) -> SegmentInfo {
        SegmentInfo { segment_id, collection_id: 5, path: path.to_owned(), num_rows, first_id }
    }

    /// Segment 7 with (0, 0), (1, 0) and (2, 0), ids from 100; segment 8 with (0, 1), id 200.
    fn infos() -> Vec<SegmentInfo> {
        vec![info(7, "seven.fvecs", 3, 100), info(8, "eight.fvecs", 1, 200)]
    }

    fn write_fvecs(dir: &Path, name: &str, rows: &[[f32; 2]]) {
        let row = |row: &[f32; 2]| [2_u32.to_le_bytes(), row[0].to_le_bytes(), row[1].to_le_bytes()].concat();
        std::fs::write(dir.join(name), rows.iter().flat_map(row).collect::<Vec<_>>()).unwrap();
    }

    fn node() -> (tempfile::TempDir, Service<Fake>) {
        let dir = tempfile::tempdir().unwrap();
        write_fvecs(dir.path(), "seven.fvecs", &[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]);
        write_fvecs(dir.path(), "eight.fvecs", &[[0.0, 1.0]]);
        let config = QueryNodeConfig {
            data_dirs: vec![dir.path().to_owned()],
            parallel_searches: NonZeroUsize::MIN,
            ..QueryNodeConfig::default()
        };
        let service = Service::new(&config, Arc::default(), Fake(infos()));
        (dir, service)
    }

    async fn load(node: &Service<Fake>, segments: Vec<SegmentInfo>) -> Result<u32, Status> {
        let request = LoadSegmentsRequest { collection_id: 5, collection: Some(collection()), segments };
        node.load_segments(Request::new(request)).await.map(|answer| answer.into_inner().newly_loaded)
    }

    async fn search(node: &Service<Fake>, segment_ids: &[i64], topk: u32, query: &[f32]) -> Result<Vec<i64>, Status> {
        let request = SearchRequest {
            collection_id: 5,
            segment_ids: segment_ids.to_vec(),
            topk,
            vectors: vec![Vector { values: query.to_vec() }],
            ..SearchRequest::default()
        };
        let results = node.search(Request::new(request)).await?.into_inner().results;
        Ok(results[0].hits.iter().map(|hit| hit.id).collect())
    }

    async fn loaded_ids(node: &Service<Fake>) -> Vec<i64> {
        let answer = node.get_segment_info(Request::new(GetSegmentInfoRequest::default())).await.unwrap().into_inner();
        answer.segments.iter().map(|loaded| loaded.segment.as_ref().unwrap().segment_id).collect()
    }

    #[tokio::test]
    async fn what_is_loaded_is_found_until_it_is_released() {
        let (_dir, node) = node();
        assert_eq!(load(&node, infos()).await.unwrap(), 2);
        assert_eq!(load(&node, infos()).await.unwrap(), 0);
        assert_eq!(search(&node, &[], 3, &[0.0, 0.0]).await.unwrap(), [100, 101, 200]);
        assert_eq!(search(&node, &[7, 7], 9, &[0.0, 0.0]).await.unwrap(), [100, 101, 102]);
        let release = || Request::new(ReleaseSegmentsRequest { segment_ids: vec![7] });
        assert_eq!(node.release_segments(release()).await.unwrap().into_inner().released, 1);
        assert_eq!(node.release_segments(release()).await.unwrap().into_inner().released, 0);
        assert_eq!(search(&node, &[], 3, &[0.0, 0.0]).await.unwrap(), [200]);
        let missing = search(&node, &[7, 8], 3, &[0.0, 0.0]).await.unwrap_err();
        assert_eq!((missing.code(), missing.message()), (Code::NotFound, "segment 7 is not loaded on this node"));
    }

    #[tokio::test]
    async fn what_a_load_does_not_say_rootcoord_is_asked_for() {
        let (_dir, node) = node();
        let only_ids = vec![SegmentInfo { segment_id: 8, ..SegmentInfo::default() }];
        let request = LoadSegmentsRequest { collection_id: 5, collection: None, segments: only_ids };
        node.load_segments(Request::new(request)).await.unwrap();
        assert_eq!(search(&node, &[8], 1, &[0.0, 0.0]).await.unwrap(), [200]);
    }

    #[tokio::test]
    async fn a_load_that_fails_loads_nothing() {
        let (dir, node) = node();
        write_fvecs(dir.path(), "short.fvecs", &[[0.0, 0.0]]);
        let cases = [
            (info(9, "none.npy", 1, 0), Code::NotFound, "segment 9: none.npy: there is no such file"),
            (info(9, "short.fvecs", 2, 0), Code::InvalidArgument, "has to have rows 2, found 1"),
            (info(9, "short.fvecs", 1, i64::MAX), Code::InvalidArgument, "1 ids from 9223372036854775807 are too many"),
            (info(9, "/etc/hostname", 1, 0), Code::PermissionDenied, "is in none of the data_dirs"),
            (SegmentInfo { segment_id: 9, ..SegmentInfo::default() }, Code::NotFound, "collection 5 has no segment 9"),
        ];
        for (bad, code, text) in cases {
            let error = load(&node, vec![infos().remove(0), bad]).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().contains(text), "{error}");
            assert_eq!(loaded_ids(&node).await, [0; 0]);
        }
    }

    #[tokio::test]
    async fn a_load_that_contradicts_itself_or_what_is_loaded_is_refused() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        let error = load(&node, vec![info(7, "eight.fvecs", 1, 0)]).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let with = |change: fn(&mut CollectionInfo)| {
            let mut collection = collection();
            change(&mut collection);
            LoadSegmentsRequest { collection_id: 5, collection: Some(collection), segments: infos() }
        };
        let cases = [
            (with(|collection| collection.collection_id = 6), "collection_id is 5, and the collection's own is 6"),
            (with(|collection| collection.dimension = 0), "dimension is 0"),
            (with(|collection| collection.metric_type = 0), "metric_type is 0"),
            (with(|collection| collection.metric_type = 77), "metric_type is 77"),
            (LoadSegmentsRequest { segments: vec![], ..with(|_| ()) }, "segments is empty"),
        ];
        for (request, text) in cases {
            let error = node.load_segments(Request::new(request)).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_bad_search_is_refused_with_what_is_wrong() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        let dimension = search(&node, &[], 1, &[0.0]).await.unwrap_err();
        assert_eq!(dimension.message(), "query 0 has 1 components, the collection's dimension is 2");
        let topk = search(&node, &[], 0, &[0.0, 0.0]).await.unwrap_err();
        assert_eq!((topk.code(), topk.message()), (Code::InvalidArgument, "topk is 0, it has to be 1 to 16384"));
        let request = SearchRequest { collection_id: 6, topk: 1, ..SearchRequest::default() };
        let unknown = node.search(Request::new(request.clone())).await.unwrap_err();
        assert_eq!(unknown.message(), "no segment of collection 6 is loaded on this node");
        let request = SearchRequest { segment_ids: vec![7], ..request };
        let other = node.search(Request::new(request)).await.unwrap_err();
        assert_eq!(other.message(), "segment 7 is of collection 5, not of 6");
    }
}

//! The gRPC service: checks what it is asked, and hands what computes or reads files to blocking threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::Call;
use proto::batch::Batch;
use proto::files::DataDirs;
use proto::querynode::v1::query_node_server::QueryNode;
use proto::querynode::v1::{
    DismissRequest, DismissResponse, GetSegmentInfoRequest, GetSegmentInfoResponse, LoadSegmentsRequest,
    LoadSegmentsResponse, ReleaseSegmentsRequest, ReleaseSegmentsResponse, SearchRequest, SearchResponse,
};
use proto::rootcoord::v1::SegmentInfo;
use tonic::{Request, Response, Status, async_trait};

use crate::QueryNodeConfig;
use crate::catalogue::Catalogue;
use crate::limit::MemoryLimit;
use crate::loads::Loads;
use crate::scan::Scan;
use crate::searches::Searches;
use crate::segments::Segments;
use crate::wanted::Wanted;

/// How long a stop may take from its mark in etcd, which peers see, to the component's own `on_stopping`: the host marks all
/// its components before it asks the first.
const STOP_COMES_WITHIN: Duration = Duration::from_secs(2);

/// The service over what the node holds.
pub(crate) struct Service<C> {
    catalogue: C,
    segments: Arc<Segments>,
    loads: Loads,
    searches: Searches,
}

impl<C: Catalogue> Service<C> {
    pub(crate) fn new(
        config: &QueryNodeConfig,
        segments: Arc<Segments>,
        memory: Arc<MemoryLimit>,
        catalogue: C,
    ) -> Self {
        let data_dirs = DataDirs::new(config.data_dirs.clone());
        Self {
            catalogue,
            loads: Loads::new(data_dirs, Arc::clone(&segments), memory, config.waiting_loads.get()),
            segments,
            searches: Searches::new(config.parallel_searches, config.waiting_searches),
        }
    }
}

#[async_trait]
impl<C: Catalogue> QueryNode for Service<C> {
    async fn load_segments(
        &self,
        request: Request<LoadSegmentsRequest>,
    ) -> Result<Response<LoadSegmentsResponse>, Status> {
        let wanted = Wanted::of(request.into_inner(), &self.catalogue).await?;
        let begun = Instant::now();
        let loaded = self.loads.load(wanted).await?;
        for SegmentInfo { segment_id, collection_id, path, num_rows, .. } in &loaded {
            tracing::info!(segment = segment_id, collection = collection_id, %path, rows = num_rows, "segment loaded");
        }
        if !loaded.is_empty() {
            tracing::info!(segments = loaded.len(), took = ?begun.elapsed(), memory = self.loads.memory().taken(),
                memory_limit = self.loads.memory().limit(), "a load is done");
        }
        Ok(Response::new(LoadSegmentsResponse { newly_loaded: loaded.len() as u32 }))
    }

    async fn release_segments(
        &self,
        request: Request<ReleaseSegmentsRequest>,
    ) -> Result<Response<ReleaseSegmentsResponse>, Status> {
        let segment_ids = request.into_inner().segment_ids;
        if segment_ids.is_empty() {
            return Err(Status::invalid_argument("segment_ids is empty"));
        }
        let released = self.segments.release(&segment_ids)? as u32;
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
        let memory = self.loads.memory();
        Ok(Response::new(GetSegmentInfoResponse {
            segments,
            memory_bytes: memory.taken(),
            memory_limit_bytes: memory.limit(),
        }))
    }

    async fn dismiss(&self, request: Request<DismissRequest>) -> Result<Response<DismissResponse>, Status> {
        // Peers may know of the stop a moment before this component does.
        let _ = tokio::time::timeout(STOP_COMES_WITHIN, self.segments.stopping()).await;
        self.segments.dismiss()?;
        let (reason, left) = (request.into_inner().reason, self.segments.list(None).len());
        tracing::info!(reason, left, "this node need not wait any longer");
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use proto::querynode::v1::Vector;
    use proto::rootcoord::v1::{CollectionInfo, MetricType};
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
        let memory = Arc::new(MemoryLimit::new(None).unwrap());
        let service = Service::new(&config, Arc::default(), memory, Fake(infos()));
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
        ];
        for (bad, code, text) in cases {
            let error = load(&node, vec![infos().remove(0), bad]).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().contains(text), "{error}");
            assert_eq!(loaded_ids(&node).await, [0; 0]);
        }
    }

    #[tokio::test]
    async fn a_load_that_contradicts_what_is_loaded_is_refused() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        let error = load(&node, vec![info(7, "eight.fvecs", 1, 0)]).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    }

    async fn dismiss(node: &Service<Fake>) -> Result<(), Status> {
        node.dismiss(Request::new(DismissRequest { reason: "no other node".to_owned() })).await.map(drop)
    }

    #[tokio::test]
    async fn a_stopping_node_waits_until_it_is_dismissed() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        tokio::time::pause();
        let error = dismiss(&node).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        // That was before the stop: it counts for nothing.
        node.segments.stop();
        let segments = Arc::clone(&node.segments);
        let mut waits = std::pin::pin!(segments.moved_away());
        assert!(tokio::time::timeout(Duration::from_secs(3600), &mut waits).await.is_err());
        dismiss(&node).await.unwrap();
        waits.await;
        assert_eq!(search(&node, &[], 1, &[0.0, 0.0]).await.unwrap(), [100], "it serves to its end");
    }

    #[tokio::test]
    async fn a_dismissal_that_comes_a_moment_before_the_stop_counts() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        let stops = async {
            tokio::task::yield_now().await;
            node.segments.stop();
            node.segments.moved_away().await;
        };
        let (dismissed, ()) = tokio::join!(dismiss(&node), stops);
        dismissed.unwrap();
    }

    #[tokio::test]
    async fn the_memory_is_told() {
        let (_dir, node) = node();
        load(&node, infos()).await.unwrap();
        let answer = node.get_segment_info(Request::new(GetSegmentInfoRequest::default())).await.unwrap().into_inner();
        let sum: u64 = answer.segments.iter().map(|segment| segment.memory_bytes).sum();
        assert!(answer.memory_bytes >= sum && sum > 0, "{answer:?}");
        assert_eq!(answer.memory_limit_bytes, MemoryLimit::new(None).unwrap().limit());
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

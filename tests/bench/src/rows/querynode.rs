//! A QueryNode in a host of its own, which holds what it is given.

use std::path::Path;
use std::time::Instant;

use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::querynode::v1::{LoadSegmentsRequest, SearchRequest};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use serde_json::json;
use tests::vectors::Vectors;
use tests::{Cluster, Host};
use tonic::transport::Channel;

/// So many numbers each row has.
pub const DIMENSION: usize = 128;

/// So many results each query has.
pub const TOP: usize = 10;

/// The rows' file.
pub const FILE: &str = "rows.npy";

/// A host with one QueryNode that holds all rows.
pub struct Node {
    /// The host.
    pub host: Host,
    client: QueryNodeClient<Channel>,
}

impl Node {
    /// It has loaded so many rows of [`FILE`] in that folder.
    pub async fn start(cluster: &Cluster, files: &Path, rows: usize, threads: usize) -> Self {
        let config = json!({ "data_dirs": [files], "parallel_searches": threads });
        let host = cluster.spawn(cluster.config().component("querynode", "querynode", config));
        let mut client = QueryNodeClient::new(host.healthy().await.channel().await);
        let collection = CollectionInfo {
            collection_id: 1,
            collection_name: "bench".to_owned(),
            dimension: DIMENSION as u32,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        };
        let segment =
            SegmentInfo { segment_id: 2, collection_id: 1, path: FILE.to_owned(), num_rows: rows as u64, first_id: 0 };
        let load = LoadSegmentsRequest { collection_id: 1, collection: Some(collection), segments: vec![segment] };
        client.load_segments(load).await.expect("the rows are loaded");
        Self { host, client }
    }

    /// Seconds for one search.
    pub async fn search(&self, queries: &Vectors, batch: usize) -> f64 {
        let first: Vec<_> = queries.packed().drain(..batch * DIMENSION * size_of::<f32>()).collect();
        let request = SearchRequest {
            collection_id: 1,
            topk: TOP as u32,
            packed_vectors: first.into(),
            ..SearchRequest::default()
        };
        let mut client = self.client.clone();
        let begin = Instant::now();
        let answer = client.search(request).await.expect("a search").into_inner();
        let took = begin.elapsed().as_secs_f64();
        assert_eq!(answer.results.len(), batch, "a result for each query");
        took
    }
}

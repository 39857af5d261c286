//! How long a QueryNode's exact search takes, as its caller sees it, to what else people search with.

mod baseline;

use std::path::Path;
use std::time::Instant;

use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::querynode::v1::{LoadSegmentsRequest, SearchRequest};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use serde_json::json;
use tempfile::TempDir;
use tests::vectors::Vectors;
use tests::{Cluster, Host};
use tonic::transport::Channel;

use self::baseline::Baseline;
use crate::peers::HOST;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "search",
    about: "an exact search of 1,000,000 x 128 by a QueryNode, to faiss-cpu or NumPy ($BENCH_PYTHON), else to plain loops",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

const ROWS: usize = 1_000_000;
const DIMENSION: usize = 128;
const TOP: usize = 10;

/// How many queries at a time, and how much longer than the baseline they may take.
const BATCHES: [(usize, f64); 2] = [(1, 1.0 / 0.9), (100, 1.0 / 0.7)];

const THREADS: [usize; 2] = [1, 2];

async fn measure(effort: Effort) -> Vec<Row> {
    let files = TempDir::with_prefix("componenthost-bench-").expect("a temporary directory can be made");
    let (rows, queries) = (Vectors::random(1, ROWS, DIMENSION), Vectors::random(2, 100, DIMENSION));
    let paths = [files.path().join("rows.npy"), files.path().join("queries.npy")];
    rows.write_npy(&paths[0]);
    queries.write_npy(&paths[1]);
    let cluster = Cluster::start().await;
    let rounds = effort.pick(5, 20);
    let mut measured = Vec::new();
    for threads in THREADS {
        let node = Node::start(&cluster, files.path(), threads).await;
        let mut baseline = Baseline::find([&paths[0], &paths[1]], &rows, &queries, threads, TOP);
        for (batch, most) in BATCHES {
            let mut pairs = Vec::new();
            for round in 0..=rounds {
                let pair = if round % 2 == 0 {
                    let ours = node.search(&queries, batch).await;
                    (ours, baseline.search(batch))
                } else {
                    let theirs = baseline.search(batch);
                    (node.search(&queries, batch).await, theirs)
                };
                if round > 0 {
                    pairs.push(pair);
                }
            }
            let name = format!("search: batch {batch}, threads {threads}");
            let counts = format!("{rounds} pairs of searches for {TOP}, one of warm-up; to {}", baseline.name());
            measured.push(Row::compared(&name, Unit::Seconds, &pairs, Target::RatioAtMost(most), counts));
        }
    }
    measured
}

/// A host with one QueryNode that holds all rows.
struct Node {
    client: QueryNodeClient<Channel>,
    _host: Host,
}

impl Node {
    async fn start(cluster: &Cluster, files: &Path, threads: usize) -> Self {
        let program = std::env::current_exe().expect("a process knows its executable");
        let config = json!({ "data_dirs": [files], "parallel_searches": threads });
        let host =
            cluster.spawn_program(&program, cluster.config().linked("querynode", "querynode", config), &[(HOST, "1")]);
        let mut client = QueryNodeClient::new(host.healthy().await.channel().await);
        let collection = CollectionInfo {
            collection_id: 1,
            collection_name: "bench".to_owned(),
            dimension: DIMENSION as u32,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        };
        let segment = SegmentInfo {
            segment_id: 2,
            collection_id: 1,
            path: "rows.npy".to_owned(),
            num_rows: ROWS as u64,
            first_id: 0,
        };
        let load = LoadSegmentsRequest { collection_id: 1, collection: Some(collection), segments: vec![segment] };
        client.load_segments(load).await.expect("the rows are loaded");
        Self { client, _host: host }
    }

    /// Seconds for one search.
    async fn search(&self, queries: &Vectors, batch: usize) -> f64 {
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

//! How long a QueryNode's exact search takes, as its caller sees it, to what else people search with.

mod baseline;

use tempfile::TempDir;
use tests::Cluster;
use tests::vectors::Vectors;

use self::baseline::Baseline;
use super::querynode::{DIMENSION, FILE, Node, TOP};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "search",
    about: "an exact search of 1,000,000 x 128 by a QueryNode, to faiss-cpu or NumPy ($BENCH_PYTHON), else to plain loops",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

const ROWS: usize = 1_000_000;

/// How many queries at a time, and how much longer than the baseline they may take.
const BATCHES: [(usize, f64); 2] = [(1, 1.0 / 0.9), (100, 1.0 / 0.7)];

const THREADS: [usize; 2] = [1, 2];

async fn measure(effort: Effort) -> Vec<Row> {
    let files = TempDir::with_prefix("componenthost-bench-").expect("a temporary directory can be made");
    let (rows, queries) = (Vectors::random(1, ROWS, DIMENSION), Vectors::random(2, 100, DIMENSION));
    let paths = [files.path().join(FILE), files.path().join("queries.npy")];
    rows.write_npy(&paths[0]);
    queries.write_npy(&paths[1]);
    let cluster = Cluster::start().await;
    let rounds = effort.pick(5, 20);
    let mut measured = Vec::new();
    for threads in THREADS {
        let node = Node::start(&cluster, files.path(), ROWS, threads).await;
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

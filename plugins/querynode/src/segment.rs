//! One segment in memory, and the search of it.
//!
//! All of it computes: callers are on `spawn_blocking`.

use std::sync::atomic::{AtomicBool, Ordering};

use proto::batch::Batch;
use proto::querynode::v1::{LoadedSegment, SearchResult};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};

use crate::distance::{self, Point};
use crate::memory::Rows;
use crate::nearest::Nearest;

/// So many bytes of vectors are compared with all queries before the next ones: they stay in a core's own cache.
const STRIP_BYTES: usize = 128 * 1024;

/// A segment that can be searched.
pub(crate) struct Segment {
    pub(crate) info: SegmentInfo,
    pub(crate) metric: MetricType,
    pub(crate) dimension: usize,
    values: Rows,
    norms: Vec<f64>,
}

impl Segment {
    /// A segment of this collection; `info` tells how many rows there are, and `values` has them.
    pub(crate) fn new(info: SegmentInfo, collection: &CollectionInfo, values: Rows) -> Self {
        let dimension = collection.dimension as usize;
        let norms = values.chunks_exact(dimension).map(distance::norm).collect();
        Self { info, metric: collection.metric_type(), dimension, values, norms }
    }

    /// What is told of it.
    pub(crate) fn describe(&self) -> LoadedSegment {
        let memory = size_of_val(&*self.values) + size_of_val(self.norms.as_slice());
        LoadedSegment { segment: Some(self.info.clone()), memory_bytes: memory as u64 }
    }

    /// Offers each vector to each query's nearest; ends early, with no meaning, where it is cancelled.
    fn search(&self, queries: &[Point<'_>], nearest: &mut [Nearest], cancelled: &AtomicBool) {
        let rows_in_strip = (STRIP_BYTES / size_of::<f32>() / self.dimension).max(1);
        let strips = self.values.chunks(rows_in_strip * self.dimension).zip(self.norms.chunks(rows_in_strip));
        for (strip, (values, norms)) in strips.enumerate() {
            if cancelled.load(Ordering::Relaxed) {
                return;
            }
            let first_id = self.info.first_id + (strip * rows_in_strip) as i64;
            for (query, nearest) in queries.iter().zip(&mut *nearest) {
                let rows = values.chunks_exact(self.dimension).zip(norms).zip(first_id..);
                for ((values, norm), id) in rows {
                    let row = Point { values, norm: *norm };
                    let bound = distance::at_least(self.metric, *query, row);
                    if !(bound.is_finite() && bound > nearest.reach()) {
                        nearest.offer(distance::exact(self.metric, *query, row), id);
                    }
                }
            }
        }
    }
}

/// The nearest vectors of each query in all these segments, which are of one collection.
pub(crate) fn search<'a>(
    segments: impl IntoIterator<Item = &'a Segment>,
    metric: MetricType,
    batch: &Batch,
    topk: usize,
    cancelled: &AtomicBool,
) -> Vec<SearchResult> {
    let queries: Vec<_> = batch.queries().map(|values| Point { values, norm: distance::norm(values) }).collect();
    let mut nearest: Vec<_> = queries.iter().map(|_| Nearest::new(topk)).collect();
    for segment in segments {
        segment.search(&queries, &mut nearest, cancelled);
    }
    nearest.into_iter().map(|nearest| nearest.into_result(metric)).collect()
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use proto::order;
    use proto::querynode::v1::{SearchHit, Vector};

    use super::*;

    const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

    fn segment(metric: MetricType, dimension: usize, first_id: i64, values: Vec<f32>) -> Segment {
        let collection =
            CollectionInfo { dimension: dimension as u32, metric_type: metric.into(), ..CollectionInfo::default() };
        let info = SegmentInfo { first_id, num_rows: (values.len() / dimension) as u64, ..SegmentInfo::default() };
        Segment::new(info, &collection, Rows::from_slice(&values).unwrap())
    }

    fn batch_of(values: &[f32], dimension: usize, topk: usize) -> Batch {
        let rows: Vec<_> = values.chunks(dimension).map(|row| Vector { values: row.to_vec() }).collect();
        Batch::new(&rows, &[], dimension, topk as u32).unwrap()
    }

    fn reference(segments: &[Segment], query: &[f32], topk: usize) -> Vec<SearchHit> {
        let metric = segments[0].metric;
        let score = |row: &[f32]| {
            let pairs = || query.iter().zip(row).map(|(left, right)| (f64::from(*left), f64::from(*right)));
            let product: f64 = pairs().map(|(left, right)| left * right).sum();
            let square = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            match metric {
                MetricType::L2 => pairs().map(|(left, right)| (left - right).powi(2)).sum(),
                MetricType::Ip => product,
                _ => product / (square(query) * square(row)).sqrt(),
            }
        };
        let rows = |segment: &Segment| {
            let ids = segment.info.first_id..;
            let rows = segment.values.chunks(segment.dimension).zip(ids);
            rows.map(|(row, id)| SearchHit { id, score: score(row) }).collect::<Vec<_>>()
        };
        let mut hits: Vec<_> = segments.iter().flat_map(rows).collect();
        hits.sort_by(|left, right| order::nearer(metric, left, right));
        hits.truncate(topk);
        hits
    }

    #[test]
    fn a_search_finds_what_float64_finds() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..60 {
            let metric = METRICS[round % 3];
            let dimension = random.usize(1..150);
            let topk = random.usize(1..40);
            let mut values = |rows: usize| (0..rows * dimension).map(|_| random.f32() - 0.5).collect::<Vec<_>>();
            let segments = [segment(metric, dimension, 1000, values(700)), segment(metric, dimension, 1, values(300))];
            let queries = values(5);
            let batch = batch_of(&queries, dimension, topk);
            let found = search(&segments, metric, &batch, topk, &AtomicBool::new(false));
            for (found, query) in found.iter().zip(queries.chunks(dimension)) {
                let expected = reference(&segments, query, topk);
                assert_eq!(found.hits.len(), expected.len());
                for (found, expected) in found.hits.iter().zip(&expected) {
                    let near = (found.score - expected.score).abs() <= 1e-12 * expected.score.abs().max(1e-3);
                    assert!(found.id == expected.id && near, "{metric:?} {dimension}: {found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn of_equal_vectors_the_smaller_ids_are_found() {
        for metric in METRICS {
            let segments =
                [segment(metric, 2, 50, [1.0, 2.0].repeat(30)), segment(metric, 2, 10, [1.0, 2.0].repeat(5))];
            let found = search(&segments, metric, &batch_of(&[1.0, 1.0], 2, 7), 7, &AtomicBool::new(false));
            let ids: Vec<_> = found[0].hits.iter().map(|hit| hit.id).collect();
            assert_eq!(ids, [10, 11, 12, 13, 14, 50, 51]);
        }
    }

    #[test]
    fn numbers_beyond_float32_squares_are_ordered_too() {
        let segments = [segment(MetricType::L2, 1, 0, vec![3e38, 1e30, -3e38, 2e30, 1e-40, 1e-45])];
        let found = search(&segments, MetricType::L2, &batch_of(&[0.0], 1, 6), 6, &AtomicBool::new(false));
        let ids: Vec<_> = found[0].hits.iter().map(|hit| hit.id).collect();
        assert_eq!(ids, [5, 4, 1, 3, 0, 2]);
    }

    #[test]
    fn a_cancelled_search_ends_at_once() {
        let segments = [segment(MetricType::L2, 1, 0, vec![1.0; 100_000])];
        let found = search(&segments, MetricType::L2, &batch_of(&[0.0], 1, 6), 6, &AtomicBool::new(true));
        assert!(found[0].hits.is_empty());
    }
}

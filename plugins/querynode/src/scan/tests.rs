#![expect(clippy::print_stdout, reason = "the seed of a run that failed")]

use proto::order;
use proto::querynode::v1::{SearchHit, Vector};
use proto::rootcoord::v1::{CollectionInfo, SegmentInfo};

use super::*;
use crate::segment::Rows;

const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

fn segment(metric: MetricType, dimension: usize, first_id: i64, values: &[f32]) -> Arc<Segment> {
    let collection =
        CollectionInfo { dimension: dimension as u32, metric_type: metric.into(), ..CollectionInfo::default() };
    let info = SegmentInfo { first_id, num_rows: (values.len() / dimension) as u64, ..SegmentInfo::default() };
    Arc::new(Segment::new(info, &collection, Rows::from_slice(values).unwrap(), None).unwrap())
}

fn batch_of(values: &[f32], dimension: usize, topk: usize) -> Batch {
    let rows: Vec<_> = values.chunks(dimension).map(|row| Vector { values: row.to_vec() }).collect();
    Batch::new(&rows, &[], dimension, topk as u32).unwrap()
}

fn scan(segments: &[Arc<Segment>], queries: &[f32], topk: usize) -> Scan {
    Scan::new(segments.to_vec(), batch_of(queries, segments[0].dimension, topk), topk, None)
}

/// By so many workers, which take turns share by share.
fn results(scan: &Scan, workers: usize) -> Vec<SearchResult> {
    let mut workers: Vec<_> = (0..workers).map(|_| scan.worker()).collect();
    while workers.iter_mut().filter_map(|worker| worker.search_share().then_some(())).count() > 0 {}
    let found = workers.into_iter().map(Worker::into_nearest);
    let merge = |one: Vec<Nearest>, other: Vec<Nearest>| {
        one.into_iter().zip(other).map(|(one, other)| one.merge(other)).collect()
    };
    scan.results(found.reduce(merge).unwrap())
}

/// The instructions that this machine has, from none to all.
fn levels() -> Vec<Arch> {
    let mut levels = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    levels.extend(pulp::x86::V3::try_new().map(Arch::V3));
    levels
}

/// The textbook's sums, one by one, and a sort.
fn brute_force(segments: &[Arc<Segment>], query: &[f32], topk: usize) -> Vec<SearchHit> {
    let metric = segments[0].metric;
    let score = |row: &[f32]| {
        let pairs = || query.iter().zip(row).map(|(left, right)| (f64::from(*left), f64::from(*right)));
        let product: f64 = pairs().map(|(left, right)| left * right).sum();
        let square = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        match metric {
            MetricType::L2 => pairs().map(|(left, right)| (left - right).powi(2)).sum(),
            MetricType::Ip => product,
            _ if square(query) * square(row) == 0.0 => 0.0,
            _ => product / (square(query) * square(row)).sqrt(),
        }
    };
    hits(segments, topk, |_, row, _| score(row))
}

/// All rows' remoteness in float64, as a search has to compute it, and a sort.
fn exactly(segments: &[Arc<Segment>], query: &[f32], topk: usize) -> Vec<SearchHit> {
    let query = Point::new(query);
    hits(segments, topk, |metric, row, _| {
        order::remoteness(metric, distance::exact(metric, query, Point::new(row))) + 0.0
    })
}

fn hits(segments: &[Arc<Segment>], topk: usize, score: impl Fn(MetricType, &[f32], i64) -> f64) -> Vec<SearchHit> {
    let metric = segments[0].metric;
    let rows = |segment: &Arc<Segment>| {
        let rows = segment.values.chunks(segment.dimension).zip(segment.info.first_id..);
        rows.map(|(row, id)| SearchHit { id, score: score(metric, row, id) }).collect::<Vec<_>>()
    };
    let mut hits: Vec<_> = segments.iter().flat_map(rows).collect();
    hits.sort_by(|left, right| order::nearer(metric, left, right));
    hits.truncate(topk);
    hits
}

/// Batches on both sides of [`MANY`] and [`BLOCK`].
const BATCHES: [usize; 4] = [1, MANY - 1, MANY, BLOCK + 3];

#[test]
fn a_search_finds_what_float64_finds() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..72 {
        let (metric, queries) = (METRICS[round % 3], BATCHES[round / 3 % 4]);
        let dimension = random.usize(1..150);
        let topk = random.usize(1..40);
        let mut values = |rows: usize| (0..rows * dimension).map(|_| random.f32() - 0.5).collect::<Vec<_>>();
        let mut first = values(1500);
        // Duplicates, of which the smaller ids are nearer, and vectors without a direction.
        first.copy_within(..300 * dimension, 700 * dimension);
        first[20 * dimension..23 * dimension].fill(0.0);
        let segments = [segment(metric, dimension, 5000, &first), segment(metric, dimension, 1, &values(300))];
        let queries = values(queries);
        let found = results(&scan(&segments, &queries, topk), 1);
        for (found, query) in found.iter().zip(queries.chunks(dimension)).step_by(9) {
            let expected = brute_force(&segments, query, topk);
            assert_eq!(found.hits.len(), expected.len());
            for (found, expected) in found.hits.iter().zip(&expected) {
                let near = (found.score - expected.score).abs() <= 1e-12 * expected.score.abs().max(1e-3);
                assert!(found.id == expected.id && near, "{metric:?} {dimension}: {found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn so_it_does_with_any_numbers_instructions_and_workers() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let (metric, queries) = (METRICS[round % 3], BATCHES[round / 3 % 4]);
        let dimension = random.usize(1..40);
        // Few of them are of one length, many are nearly equal, and some are beyond float32's squares.
        let (offset, spread, scales) =
            [(0.0, 1.0, 80.0), (0.0, 1.0, 0.0), (1.0, 1e-6, 0.0), (1.0, 1e-3, 40.0)][random.usize(0..4)];
        let scale = if round % 2 == 0 { 1.0 } else { 10_f64.powf(random.f64() * 70.0 - 35.0) };
        let mut values = |rows: usize| {
            let mut row = || {
                let scale = scale * 10_f64.powf((random.f64() - 0.5) * scales);
                let value = |random: &mut fastrand::Rng| (scale * (offset + spread * (random.f64() - 0.5))) as f32;
                let finite = |value: f32| value.clamp(f32::MIN, f32::MAX);
                (0..dimension).map(|_| finite(value(&mut random))).collect::<Vec<_>>()
            };
            (0..rows).flat_map(|_| row()).collect::<Vec<_>>()
        };
        let segments = [segment(metric, dimension, 100, &values(900)), segment(metric, dimension, 1, &values(70))];
        let queries = values(queries);
        let topk = random.usize(1..1200);
        for arch in levels() {
            let scan = Scan { arch, ..scan(&segments, &queries, topk) };
            let found = results(&scan, random.usize(1..4));
            assert!(scan.is_complete());
            for (found, query) in found.iter().zip(queries.chunks(dimension)).step_by(19) {
                assert_eq!(
                    found.hits,
                    exactly(&segments, query, topk),
                    "{metric:?} {dimension} {scale} {offset} {scales} {arch:?}"
                );
            }
        }
    }
}

#[test]
fn vectors_of_many_components_are_searched_like_others() {
    let mut random = fastrand::Rng::with_seed(7);
    for dimension in [768, 1536, 32_768] {
        let mut values = |rows: usize| (0..rows * dimension).map(|_| random.f32()).collect::<Vec<_>>();
        for metric in METRICS {
            let segments = [segment(metric, dimension, 0, &values(100))];
            let queries = values(MANY);
            for queries in [&queries[..dimension], &queries] {
                let found = results(&scan(&segments, queries, 5), 1);
                assert_eq!(found[0].hits, exactly(&segments, &queries[..dimension], 5), "{metric:?} {dimension}");
            }
        }
    }
}

#[test]
fn of_equal_vectors_the_smaller_ids_are_found() {
    for metric in METRICS {
        let segments = [segment(metric, 2, 50, &[1.0, 2.0].repeat(30)), segment(metric, 2, 10, &[1.0, 2.0].repeat(5))];
        for queries in BATCHES {
            for found in results(&scan(&segments, &[1.0, 1.0].repeat(queries), 7), 2) {
                let ids: Vec<_> = found.hits.iter().map(|hit| hit.id).collect();
                assert_eq!(ids, [10, 11, 12, 13, 14, 50, 51]);
            }
        }
    }
}

#[test]
fn numbers_beyond_float32_squares_are_ordered_too() {
    let segments = [segment(MetricType::L2, 1, 0, &[3e38, 1e30, -3e38, 2e30, 1e-40, 1e-45])];
    for queries in BATCHES {
        let found = results(&scan(&segments, &vec![0.0; queries], 6), 1);
        let ids: Vec<_> = found[0].hits.iter().map(|hit| hit.id).collect();
        assert_eq!(ids, [5, 4, 1, 3, 0, 2]);
    }
}

#[test]
fn a_search_that_is_stopped_or_late_ends_at_once() {
    let segments = [segment(MetricType::L2, 1, 0, &vec![1.0; 100_000])];
    for queries in BATCHES {
        let queries = vec![0.0; queries];
        let stopped = scan(&segments, &queries, 6);
        stopped.stop();
        let late = Scan { deadline: Some(Instant::now()), ..scan(&segments, &queries, 6) };
        for scan in [stopped, late] {
            assert!(!scan.worker().search_share());
            assert_eq!(scan.progress(), (0, 100_000));
        }
    }
}

#[test]
fn what_a_search_holds_does_not_grow_with_what_it_searches() {
    for rows in [10, 100_000] {
        let segments = [segment(MetricType::L2, 4, 0, &vec![1.0; rows * 4])];
        let scan = scan(&segments, &vec![0.0; 4 * 4096], 6);
        assert_eq!(scan.worker().estimates.len(), BLOCK * STRIP_ROWS.1);
    }
}

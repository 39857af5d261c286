//! One search's computing: which rows of its segments are the nearest of each query.
//!
//! Any number of threads may work on it, each with a [`Worker`] of its own: they take *shares* of rows until none is left,
//! and what they found is merged. A share is gone through in strips that stay in a core's own cache. Of few queries each
//! row's distance is estimated by itself, at the speed of the memory; of many all products of a strip with a *block* of
//! queries are one product of matrices. What the estimates leave in the running ([`crate::sieve`]) is computed in float64.
//!
//! Nothing here waits or knows of threads: [`crate::searches`] does.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use proto::batch::Batch;
use proto::querynode::v1::SearchResult;
use proto::rootcoord::v1::MetricType;
use pulp::{Arch, Simd, WithSimd};

use crate::distance::{self, Point};
use crate::nearest::Nearest;
use crate::segment::Segment;
use crate::sieve::{Precision, Sieve};

/// So many bytes of rows are a strip, within these numbers of rows.
const STRIP_BYTES: usize = 256 * 1024;
const STRIP_ROWS: (usize, usize) = (32, 1024);

/// So many strips are a share where there are few queries: some tens of microseconds.
const STRIPS_OF_FEW: usize = 8;

/// From so many queries on a product of matrices is faster than each row by itself.
const MANY: usize = 24;

/// So many queries are multiplied with a strip at a time: the products of a block take 512 KiB at most.
const BLOCK: usize = 128;

/// So many estimates are looked at together.
const GLANCE: usize = 32;

/// A search that is computed.
pub(crate) struct Scan {
    /// Of one collection, each with the number of shares before it.
    segments: Vec<(usize, Arc<Segment>)>,
    batch: Batch,
    topk: usize,
    shares: usize,
    rows_in_strip: usize,
    rows_in_share: usize,
    /// The first share that nobody has taken.
    next: AtomicUsize,
    /// How many rows have been compared with all queries.
    searched: AtomicU64,
    rows: u64,
    stopped: AtomicBool,
    deadline: Option<Instant>,
    arch: Arch,
}

impl Scan {
    /// A search of these queries in these segments of one collection, at least one, until the deadline.
    pub(crate) fn new(segments: Vec<Arc<Segment>>, batch: Batch, topk: usize, deadline: Option<Instant>) -> Self {
        let strip = STRIP_BYTES / size_of::<f32>() / batch.dimension();
        let rows_in_strip = strip.clamp(STRIP_ROWS.0, STRIP_ROWS.1);
        let rows_in_share = rows_in_strip * if batch.len() < MANY { STRIPS_OF_FEW } else { 1 };
        let mut shares = 0;
        let rows = segments.iter().map(|segment| segment.rows() as u64).sum();
        let numbered = segments.into_iter().map(|segment| {
            let before = shares;
            shares += segment.rows().div_ceil(rows_in_share);
            (before, segment)
        });
        let segments = numbered.collect();
        let (next, searched, stopped) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let arch = Arch::new();
        Self {
            segments,
            batch,
            topk,
            shares,
            rows_in_strip,
            rows_in_share,
            next,
            searched,
            rows,
            stopped,
            deadline,
            arch,
        }
    }

    /// When its caller stops to wait.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets all workers end within a strip.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Of how many rows, how many have been searched.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.searched.load(Ordering::Acquire), self.rows)
    }

    /// Have all rows been searched?
    pub(crate) fn is_complete(&self) -> bool {
        let (searched, rows) = self.progress();
        searched == rows
    }

    /// How many shares nobody has taken yet.
    pub(crate) fn shares_left(&self) -> usize {
        self.shares.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// One thread's part in it.
    pub(crate) fn worker(&self) -> Worker<'_> {
        let queries: Vec<_> = self.batch.queries().map(Point::new).collect();
        let nearest = queries.iter().map(|_| Nearest::new(self.topk)).collect();
        let block = if queries.len() < MANY { 1 } else { queries.len().min(BLOCK) };
        Worker { scan: self, queries, nearest, estimates: vec![0.0; block * self.rows_in_strip] }
    }

    /// What was found, of all that the workers have found.
    pub(crate) fn results(&self, nearest: Vec<Nearest>) -> Vec<SearchResult> {
        nearest.into_iter().map(|nearest| nearest.into_result(self.metric())).collect()
    }

    fn metric(&self) -> MetricType {
        self.segments.first().map_or(MetricType::MetricUnspecified, |(_, segment)| segment.metric)
    }

    /// Is the rest of no use to anybody?
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The segment and the rows of a share.
    fn share(&self, number: usize) -> (&Segment, Range<usize>) {
        let at = self.segments.partition_point(|(before, _)| *before <= number) - 1;
        let (before, segment) = &self.segments[at];
        let first = (number - before) * self.rows_in_share;
        (segment, first..segment.rows().min(first + self.rows_in_share))
    }
}

/// What one thread has found so far.
pub(crate) struct Worker<'a> {
    scan: &'a Scan,
    queries: Vec<Point<'a>>,
    nearest: Vec<Nearest>,
    /// Of a strip's rows with a block of queries.
    estimates: Vec<f32>,
}

impl Worker<'_> {
    /// Searches one share more; `false` where there was none, or the search is over.
    pub(crate) fn search_share(&mut self) -> bool {
        let number = self.scan.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.scan.shares || self.scan.is_over() {
            return false;
        }
        let (segment, rows) = self.scan.share(number);
        for first in rows.clone().step_by(self.scan.rows_in_strip) {
            let strip = Strip::of(segment, first..rows.end.min(first + self.scan.rows_in_strip));
            let all = if self.queries.len() < MANY { self.each_by_itself(&strip) } else { self.by_matrices(&strip) };
            if !all {
                return false;
            }
            self.scan.searched.fetch_add(strip.rows() as u64, Ordering::Release);
        }
        true
    }

    /// What it has found, for each query.
    pub(crate) fn into_nearest(self) -> Vec<Nearest> {
        self.nearest
    }

    fn each_by_itself(&mut self, strip: &Strip<'_>) -> bool {
        for (query, nearest) in self.queries.iter().zip(&mut self.nearest) {
            if self.scan.is_over() {
                return false;
            }
            let estimates = &mut self.estimates[..strip.rows()];
            self.scan.arch.dispatch(EachByItself(Sifting { strip, query: *query, nearest, estimates }));
        }
        true
    }

    fn by_matrices(&mut self, strip: &Strip<'_>) -> bool {
        let dimension = strip.dimension;
        let blocks = self.scan.batch.values().chunks(BLOCK * dimension);
        for (block, values) in blocks.enumerate() {
            if self.scan.is_over() {
                return false;
            }
            let queries = values.len() / dimension;
            let estimates = &mut self.estimates[..queries * strip.rows()];
            let left = ArrayView2::from_shape((queries, dimension), values).expect("whole queries");
            let right = ArrayView2::from_shape((strip.rows(), dimension), strip.values).expect("whole rows");
            let mut products =
                ArrayViewMut2::from_shape((queries, strip.rows()), &mut *estimates).expect("room for each product");
            general_mat_mul(1.0, &left, &right.t(), 0.0, &mut products);
            let queries = block * BLOCK..block * BLOCK + queries;
            let each = self.queries[queries.clone()].iter().zip(&mut self.nearest[queries]);
            for ((query, nearest), estimates) in each.zip(estimates.chunks_mut(strip.rows())) {
                if self.scan.is_over() {
                    return false;
                }
                self.scan.arch.dispatch(OfProducts(Sifting { strip, query: *query, nearest, estimates }));
            }
        }
        true
    }
}

/// Some rows of a segment.
struct Strip<'a> {
    metric: MetricType,
    dimension: usize,
    precision: Precision,
    values: &'a [f32],
    weights: &'a [f32],
    norms: Option<&'a [f64]>,
    first_id: i64,
}

impl<'a> Strip<'a> {
    fn of(segment: &'a Segment, rows: Range<usize>) -> Self {
        let Segment { metric, dimension, ref norms, ref values, ref info, .. } = *segment;
        Self {
            metric,
            dimension,
            precision: Precision::of(dimension),
            first_id: info.first_id + rows.start as i64,
            values: &values[rows.start * dimension..rows.end * dimension],
            weights: &norms.weights()[rows.clone()],
            norms: norms.exact().map(|norms| &norms[rows]),
        }
    }

    fn rows(&self) -> usize {
        self.weights.len()
    }

    #[inline(always)]
    fn row(&self, number: usize) -> Point<'a> {
        // Only COSINE asks for the norm.
        let norm = self.norms.map_or(0.0, |norms| norms[number]);
        Point { values: &self.values[number * self.dimension..][..self.dimension], norm }
    }
}

/// One query's estimates for a strip, and what they are for.
struct Sifting<'a> {
    strip: &'a Strip<'a>,
    query: Point<'a>,
    nearest: &'a mut Nearest,
    estimates: &'a mut [f32],
}

/// Makes the estimates first, row by row.
struct EachByItself<'a>(Sifting<'a>);

/// The estimates are there already.
struct OfProducts<'a>(Sifting<'a>);

impl WithSimd for EachByItself<'_> {
    type Output = ();

    // The loops are plain; here they are compiled for each level of vector instructions.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(mut sifting) = self;
        match sifting.strip.metric {
            MetricType::L2 | MetricType::MetricUnspecified => {
                sifting.estimate(distance::squared_distance);
                sifting.sift_distances();
            }
            MetricType::Ip | MetricType::Cosine => {
                sifting.estimate(distance::product);
                sifting.sift_products();
            }
        }
    }
}

impl WithSimd for OfProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(mut sifting) = self;
        sifting.sift_products();
    }
}

impl Sifting<'_> {
    #[inline(always)]
    fn estimate(&mut self, of: impl Fn(&[f32], &[f32]) -> f32) {
        let rows = self.strip.values.chunks_exact(self.strip.dimension);
        for (estimate, row) in self.estimates.iter_mut().zip(rows) {
            *estimate = of(self.query.values, row);
        }
    }

    #[inline(always)]
    fn sift_distances(&mut self) {
        let precision = self.strip.precision;
        let sieve = |_: &Self, reach| Sieve::of_distances(precision, reach);
        self.sift(sieve, |sieve, estimate, _| sieve.lets_distance(estimate), |_, _| true);
    }

    #[inline(always)]
    fn sift_products(&mut self) {
        // A call for each metric, so that none is asked for within the loops.
        match self.strip.metric {
            MetricType::L2 | MetricType::MetricUnspecified => self.sift_products_of(MetricType::L2),
            MetricType::Ip => self.sift_products_of(MetricType::Ip),
            MetricType::Cosine => self.sift_products_of(MetricType::Cosine),
        }
    }

    #[inline(always)]
    fn sift_products_of(&mut self, metric: MetricType) {
        let precision = self.strip.precision;
        let sieve = |this: &Self, reach| Sieve::of_products(metric, precision, this.query, reach);
        let passes = |sieve: Sieve, product, weight| sieve.lets_product(metric, product, weight);
        // The product says little of a distance that is small beside the norms; the differences do.
        let confirms = |this: &Self, row: Point<'_>| {
            let distance = || distance::squared_distance(this.query.values, row.values);
            metric != MetricType::L2 || Sieve::of_distances(precision, this.nearest.reach()).lets_distance(distance())
        };
        self.sift(sieve, passes, confirms);
    }

    /// Offers all rows that pass to the nearest. The sieve is made again whenever the nearest have changed.
    #[inline(always)]
    fn sift(
        &mut self,
        sieve: impl Fn(&Self, f64) -> Sieve,
        passes: impl Fn(Sieve, f32, f32) -> bool,
        confirms: impl Fn(&Self, Point<'_>) -> bool,
    ) {
        let mut current = sieve(self, self.nearest.reach());
        for first in (0..self.strip.rows()).step_by(GLANCE) {
            let rows = first..self.strip.rows().min(first + GLANCE);
            let glance = self.estimates[rows.clone()].iter().zip(&self.strip.weights[rows.clone()]);
            // All of them, without a branch: seldom does one pass.
            let any = glance.fold(false, |any, (estimate, weight)| any | passes(current, *estimate, *weight));
            if !any {
                continue;
            }
            for number in rows {
                if passes(current, self.estimates[number], self.strip.weights[number]) {
                    let row = self.strip.row(number);
                    if confirms(self, row) {
                        let remoteness = distance::exact(self.strip.metric, self.query, row);
                        self.nearest.offer(remoteness, self.strip.first_id + number as i64);
                        current = sieve(self, self.nearest.reach());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! How long calls take, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds: those of OpenTelemetry's conventions for RPC, and three decades below them,
/// where calls within a rack and within a host are.
pub const BOUNDS: [f64; 18] = [
    0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Of each bucket alone; the last is for what is longer than every bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// What a histogram has counted up to a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// Seconds in all.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// Of each bucket alone, with its upper bound.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it has counted. Its count is always the sum of its buckets.
    pub fn counted(&self) -> Counted {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        Counted { sum, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        let times =
            [Duration::ZERO, Duration::from_micros(100), Duration::from_nanos(100_001), Duration::from_secs(31)];
        times.into_iter().for_each(|took| histogram.observe(took));
        let counted = histogram.counted();
        let filled: Vec<(f64, u64)> = counted.buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_01, 1), (0.000_1, 1), (0.000_25, 1), (f64::INFINITY, 1)]);
        assert_eq!(counted.count, 4);
        assert!((counted.sum - 31.000_200_001).abs() < 1e-9, "{}", counted.sum);
    }
}

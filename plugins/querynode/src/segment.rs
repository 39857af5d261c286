//! One segment in memory, with what a search needs of each row beside its components.
//!
//! Making one computes: callers are on `spawn_blocking`.

use proto::querynode::v1::LoadedSegment;
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};

use crate::distance;
use crate::memory::Rows;
use crate::sieve::Precision;

/// A segment that can be searched.
pub(crate) struct Segment {
    pub(crate) info: SegmentInfo,
    pub(crate) metric: MetricType,
    pub(crate) dimension: usize,
    /// All rows, one after the other.
    pub(crate) values: Rows,
    pub(crate) norms: Norms,
}

/// What a search needs of each row beside its components, by the metric.
pub(crate) struct Norms {
    /// The Euclidean norms; only for COSINE.
    pub(crate) exact: Option<Vec<f64>>,
    /// The weights of [`crate::sieve`].
    pub(crate) weights: Vec<f32>,
}

impl Segment {
    /// A segment of this collection; `info` tells how many rows there are, and `values` has them.
    pub(crate) fn new(info: SegmentInfo, collection: &CollectionInfo, values: Rows) -> Self {
        let (metric, dimension) = (collection.metric_type(), collection.dimension as usize);
        let norms = Norms::of(&values, metric, dimension);
        Self { info, metric, dimension, values, norms }
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.norms.weights.len()
    }

    /// What is told of it.
    pub(crate) fn describe(&self) -> LoadedSegment {
        let memory = size_of_val(&*self.values) + self.norms.bytes();
        LoadedSegment { segment: Some(self.info.clone()), memory_bytes: memory as u64 }
    }
}

impl Norms {
    fn of(values: &[f32], metric: MetricType, dimension: usize) -> Self {
        let precision = Precision::of(dimension);
        let norms = values.chunks_exact(dimension).map(distance::norm);
        let (exact, weights) = match metric {
            MetricType::Cosine => {
                let exact: Vec<_> = norms.collect();
                let weights = exact.iter().map(|norm| precision.weight(metric, *norm)).collect();
                (Some(exact), weights)
            }
            _ => (None, norms.map(|norm| precision.weight(metric, norm)).collect()),
        };
        Self { exact, weights }
    }

    fn bytes(&self) -> usize {
        size_of_val(self.exact.as_deref().unwrap_or_default()) + size_of_val(&*self.weights)
    }
}

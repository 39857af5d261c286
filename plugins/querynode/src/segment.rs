//! One segment in memory: read from its file, checked, searched.
//!
//! All of it computes or reads files: callers are on `spawn_blocking`.

use std::path::{Path, PathBuf};

use proto::files::{DataDirs, FileError, VectorFile};
use proto::querynode::v1::LoadedSegment;
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use tonic::{Code, Status};

use crate::distance;
use crate::sieve::Precision;

/// A segment that can be searched.
pub(crate) struct Segment {
    pub(crate) info: SegmentInfo,
    pub(crate) metric: MetricType,
    pub(crate) dimension: usize,
    /// All rows, one after the other.
    pub(crate) values: Vec<f32>,
    pub(crate) norms: Norms,
}

/// What a search needs of each row beside its components, by the metric.
pub(crate) struct Norms {
    /// The Euclidean norms; only for COSINE.
    pub(crate) exact: Option<Vec<f64>>,
    /// The weights of [`crate::sieve`].
    pub(crate) weights: Vec<f32>,
}

/// Why a segment cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    /// The file.
    #[error("segment {segment_id}")]
    File { segment_id: i64, source: FileError },
    /// The file is not the one that was added.
    #[error("segment {segment_id}: {path} has to have {what} {expected}, found {found}")]
    Changed { segment_id: i64, path: PathBuf, what: &'static str, expected: u64, found: u64 },
    /// Its ids do not fit in 63 bits.
    #[error("segment {segment_id}: {num_rows} ids from {first_id} are too many")]
    Ids { segment_id: i64, first_id: i64, num_rows: u64 },
}

impl From<SegmentError> for Status {
    fn from(error: SegmentError) -> Self {
        let code = match &error {
            SegmentError::File { source, .. } => source.code(),
            SegmentError::Changed { .. } | SegmentError::Ids { .. } => Code::InvalidArgument,
        };
        Self::new(code, plugin_api::error::chain(&error))
    }
}

impl Segment {
    /// Reads a segment of this collection from its file.
    pub(crate) fn load(dirs: &DataDirs, collection: &CollectionInfo, info: SegmentInfo) -> Result<Self, SegmentError> {
        let segment_id = info.segment_id;
        if i64::try_from(info.num_rows).ok().and_then(|rows| info.first_id.checked_add(rows)).is_none() {
            return Err(SegmentError::Ids { segment_id, first_id: info.first_id, num_rows: info.num_rows });
        }
        let named = |source| SegmentError::File { segment_id, source };
        let path = dirs.resolve(Path::new(&info.path)).map_err(named)?;
        let file = VectorFile::open(&path).map_err(named)?;
        let header = file.header();
        let checks = [
            ("dimension", u64::from(collection.dimension), u64::from(header.dimension)),
            ("rows", info.num_rows, header.rows),
        ];
        for (what, expected, found) in checks {
            if expected != found {
                return Err(SegmentError::Changed { segment_id, path, what, expected, found });
            }
        }
        Ok(Self::new(info, collection, file.read().map_err(named)?))
    }

    /// A segment of these rows.
    pub(crate) fn new(info: SegmentInfo, collection: &CollectionInfo, values: Vec<f32>) -> Self {
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
    /// Of rows one after the other.
    pub(crate) fn of(values: &[f32], metric: MetricType, dimension: usize) -> Self {
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

//! What a swap hands over of a node: its segments, as descriptors of the memory that they are in, not as bytes.
//!
//! With each segment come two files, first its rows, then its norms. Whoever gets them looks at each before it is mapped
//! ([`crate::memory`]); that the numbers in it are the segment's own is taken from the other generation, which sealed them.
//! The memory is the same, and counts in the limit of each generation that has it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use proto::batch::MAX_DIMENSION;
use proto::records::SegmentRecord;
use proto::rootcoord::v1::{MetricType, SegmentInfo};
use serde::{Deserialize, Serialize};

use crate::limit::LimitExceeded;
use crate::memory::{NotSealed, Sealed};
use crate::norms::Norms;
use crate::segment::{Rows, Segment};

/// The files of each segment.
const FILES: usize = 2;

/// The segments of a node: version 1 of its state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    segments: Vec<HandedSegment>,
}

/// A segment, and how its rows are to be read.
#[derive(Debug, Serialize, Deserialize)]
struct HandedSegment {
    segment: SegmentRecord,
    metric: String,
    dimension: u32,
}

/// Why segments cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandedError {
    /// Too many files are open.
    #[error("segment {segment_id}: no descriptor more for its {what}")]
    NoDescriptor { segment_id: i64, what: &'static str, source: io::Error },
    /// Files are missing, or too many.
    #[error("{found} files came with {segments} segments, which have {FILES} each")]
    Files { found: usize, segments: usize },
    /// There cannot be such a segment.
    #[error("segment {segment_id}: its {what} cannot be {found}")]
    Impossible { segment_id: i64, what: &'static str, found: String },
    /// It is there twice.
    #[error("segment {segment_id} was handed over twice")]
    Twice { segment_id: i64 },
    /// A file is not what it has to be.
    #[error("segment {segment_id}: its {what}")]
    Descriptor { segment_id: i64, what: &'static str, source: NotSealed },
    /// This generation may hold less than the other.
    #[error("segment {segment_id}")]
    Memory { segment_id: i64, source: LimitExceeded },
}

impl Handed {
    /// These segments, and descriptors of their memory.
    pub(crate) fn of(segments: &[Arc<Segment>]) -> Result<(Self, Vec<OwnedFd>), HandedError> {
        let mut files = Vec::with_capacity(segments.len() * FILES);
        for segment in segments {
            let segment_id = segment.info.segment_id;
            for (what, sealed) in [("rows", segment.values.sealed()), ("norms", segment.norms.sealed())] {
                let descriptor = sealed.descriptor();
                files.push(descriptor.map_err(|source| HandedError::NoDescriptor { segment_id, what, source })?);
            }
        }
        let describe = |segment: &Arc<Segment>| HandedSegment {
            segment: (&segment.info).into(),
            metric: segment.metric.as_str_name().to_owned(),
            dimension: segment.dimension as u32,
        };
        Ok((Self { segments: segments.iter().map(describe).collect() }, files))
    }

    /// The segments that were handed over, mapped; nothing has been taken of a limit for them.
    ///
    /// # Errors
    ///
    /// Where one of them is not just as it has to be.
    pub(crate) fn receive(self, files: Vec<OwnedFd>) -> Result<Vec<Segment>, HandedError> {
        let (found, segments) = (files.len(), self.segments.len());
        if found != segments * FILES {
            return Err(HandedError::Files { found, segments });
        }
        let (mut ids, mut files) = (BTreeSet::new(), files.into_iter());
        let mut received = Vec::with_capacity(segments);
        for handed in self.segments {
            let segment_id = handed.segment.id;
            if !ids.insert(segment_id) {
                return Err(HandedError::Twice { segment_id });
            }
            let [Some(rows), Some(norms)] = [files.next(), files.next()] else {
                return Err(HandedError::Files { found, segments });
            };
            received.push(handed.receive(rows, norms)?);
        }
        Ok(received)
    }
}

impl HandedSegment {
    fn receive(self, rows: OwnedFd, norms: OwnedFd) -> Result<Segment, HandedError> {
        let Self { segment, metric, dimension } = self;
        let segment_id = segment.id;
        let impossible = |what, found: String| HandedError::Impossible { segment_id, what, found };
        let known = MetricType::from_str_name(&metric).filter(|metric| *metric != MetricType::MetricUnspecified);
        let metric = known.ok_or_else(|| impossible("metric", metric))?;
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(impossible("dimension", dimension.to_string()));
        }
        let has_ids = |rows: &u64| i64::try_from(*rows).is_ok_and(|rows| segment.first_id.checked_add(rows).is_some());
        let count = Some(segment.rows).filter(|rows| *rows > 0).filter(has_ids);
        let components = count.and_then(|rows| rows.checked_mul(u64::from(dimension)));
        let bytes = components.and_then(|components| components.checked_mul(size_of::<f32>() as u64));
        let (Some(bytes), Some(beside)) = (bytes, Norms::size(metric, segment.rows)) else {
            return Err(impossible("number of rows", format!("{} from id {}", segment.rows, segment.first_id)));
        };
        let receive = |what, descriptor, bytes| {
            Sealed::receive(descriptor, bytes).map_err(|source| HandedError::Descriptor { segment_id, what, source })
        };
        let no_numbers = |error| HandedError::Descriptor { segment_id, what: "rows", source: NotSealed::Map(error) };
        let values = Rows::new(receive("rows", rows, bytes)?).map_err(no_numbers)?;
        let norms = Norms::received(receive("norms", norms, beside)?, metric, segment.rows);
        let info = SegmentInfo::from(segment);
        Ok(Segment { info, metric, dimension: dimension as usize, values, norms, share: None })
    }
}

#[cfg(test)]
mod tests;

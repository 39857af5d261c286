//! One segment in memory, with what a search needs of each row beside its components.
//!
//! It takes two descriptors, one for its rows and one for its norms: a swap hands these over, and the new generation has
//! two of its own for as long as the old one lasts. The host raises the limit of open files as far as it may.
//!
//! Making one computes: callers are on `spawn_blocking`.

use std::io;
use std::ops::Deref;

use proto::querynode::v1::LoadedSegment;
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};

use crate::limit::Share;
use crate::memory::Sealed;
use crate::norms::Norms;

/// A segment that can be searched.
pub(crate) struct Segment {
    pub(crate) info: SegmentInfo,
    pub(crate) metric: MetricType,
    pub(crate) dimension: usize,
    /// All rows, one after the other.
    pub(crate) values: Rows,
    pub(crate) norms: Norms,
    /// Given back after the memory: fields are dropped in this order.
    pub(crate) share: Option<Share>,
}

/// Components of vectors, one after the other: a whole number of them.
#[derive(Debug)]
pub(crate) struct Rows(Sealed);

/// The most that a segment takes beside its components, in bytes for each row.
const BYTES_BESIDE_ROW: u64 = 12;

/// The most memory that a segment takes, in bytes: what is counted before it is loaded.
pub(crate) fn memory_bytes(rows: u64, dimension: u32) -> u64 {
    /// Memory is had by pages.
    const PAGE: u64 = 4096;
    let pages = |bytes: u64| bytes.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let components = rows.saturating_mul(u64::from(dimension)).saturating_mul(size_of::<f32>() as u64);
    pages(components).saturating_add(pages(rows.saturating_mul(BYTES_BESIDE_ROW)))
}

impl Segment {
    /// A segment of this collection; `info` tells how many rows there are, `values` has them, and `share` is what they take.
    ///
    /// # Errors
    ///
    /// Where there is no memory for the norms, or the process has too many open files.
    pub(crate) fn new(
        info: SegmentInfo,
        collection: &CollectionInfo,
        values: Rows,
        share: Option<Share>,
    ) -> io::Result<Self> {
        let (metric, dimension) = (collection.metric_type(), collection.dimension as usize);
        let norms = Norms::of(&format!("norms-{}", info.segment_id), &values, metric, dimension)?;
        Ok(Self { info, metric, dimension, values, norms, share })
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.norms.weights().len()
    }

    /// What is told of it.
    pub(crate) fn describe(&self) -> LoadedSegment {
        let memory = self.values.sealed().len() + self.norms.sealed().len();
        LoadedSegment { segment: Some(self.info.clone()), memory_bytes: memory as u64 }
    }

    /// Is it the very same, in the very same memory?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.info == other.info
            && (self.metric, self.dimension) == (other.metric, other.dimension)
            && self.values.sealed().is_same(other.values.sealed())
            && self.norms.sealed().is_same(other.norms.sealed())
    }
}

impl Rows {
    /// What is sealed, where it is a whole number of components.
    pub(crate) fn new(sealed: Sealed) -> io::Result<Self> {
        if sealed.len().is_multiple_of(size_of::<f32>()) {
            return Ok(Self(sealed));
        }
        let text = format!("{} bytes are no float32 numbers", sealed.len());
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// These components, at least one, in a memfd of their own.
    #[cfg(test)]
    pub(crate) fn from_slice(values: &[f32]) -> io::Result<Self> {
        let unsealed = crate::memory::Unsealed::new("from_slice")?;
        unsealed.write_at(bytemuck::cast_slice(values), 0)?;
        Self::new(unsealed.seal()?)
    }

    /// The memory that has them.
    pub(crate) fn sealed(&self) -> &Sealed {
        &self.0
    }
}

impl Deref for Rows {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // A mapping begins at a page, and its size was checked.
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Unsealed;

    #[test]
    fn the_rows_are_what_was_written() {
        assert_eq!(*Rows::from_slice(&[1.0, -2.5, f32::MIN_POSITIVE]).unwrap(), [1.0, -2.5, f32::MIN_POSITIVE]);
    }

    #[test]
    fn what_is_no_whole_number_of_components_is_refused() {
        for bytes in [3, 4097] {
            let unsealed = Unsealed::new("odd").unwrap();
            unsealed.write_at(&vec![0; bytes], 0).unwrap();
            assert!(Rows::new(unsealed.seal().unwrap()).is_err(), "{bytes}");
        }
    }
}

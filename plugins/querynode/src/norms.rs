//! What a search needs of each row beside its components, in a sealed memfd of its own: so a swap hands it over as it does the
//! rows, and computes nothing anew.
//!
//! For COSINE first the Euclidean norms in float64; then, for each metric, the weights of [`crate::sieve`] in float32. What a
//! weight means is part of the state that is handed over: whoever changes that raises both numbers of its version.

use std::io;

use proto::rootcoord::v1::MetricType;

use crate::distance;
use crate::memory::{Sealed, Unsealed};
use crate::sieve::Precision;

/// So many rows are computed before they are written: what is in between stays in a core's own cache.
const ROWS_AT_ONCE: usize = 4096;

/// What is known of each row.
pub(crate) struct Norms {
    sealed: Sealed,
    /// Where the weights begin.
    weights: usize,
}

/// How many bytes the norms of so many rows take before their weights, and in all; `None` where that is beyond counting.
fn bytes(metric: MetricType, rows: u64) -> Option<(u64, u64)> {
    let exact = if metric == MetricType::Cosine { size_of::<f64>() as u64 } else { 0 };
    let before = rows.checked_mul(exact)?;
    Some((before, before.checked_add(rows.checked_mul(size_of::<f32>() as u64)?)?))
}

impl Norms {
    /// Computes those of these rows, at least one.
    ///
    /// # Errors
    ///
    /// Where there is no memory for them, or the process has too many open files.
    pub(crate) fn of(name: &str, values: &[f32], metric: MetricType, dimension: usize) -> io::Result<Self> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidData, "too many rows");
        let (weights, _) = bytes(metric, (values.len() / dimension) as u64).ok_or_else(too_many)?;
        let precision = Precision::of(dimension);
        let unsealed = Unsealed::new(name)?;
        let mut row = 0;
        for some in values.chunks(ROWS_AT_ONCE.saturating_mul(dimension)) {
            let exact: Vec<f64> = some.chunks_exact(dimension).map(distance::norm).collect();
            let light: Vec<f32> = exact.iter().map(|norm| precision.weight(metric, *norm)).collect();
            if weights > 0 {
                unsealed.write_at(bytemuck::cast_slice(&exact), row * size_of::<f64>() as u64)?;
            }
            unsealed.write_at(bytemuck::cast_slice(&light), weights + row * size_of::<f32>() as u64)?;
            row += exact.len() as u64;
        }
        Ok(Self { sealed: unsealed.seal()?, weights: weights as usize })
    }

    /// The bytes that those of so many rows take; `None` where that is beyond counting.
    pub(crate) fn size(metric: MetricType, rows: u64) -> Option<u64> {
        bytes(metric, rows).map(|(_, all)| all)
    }

    /// Those that another generation has computed: `sealed` has the [`size`](Self::size) of so many rows.
    pub(crate) fn received(sealed: Sealed, metric: MetricType, rows: u64) -> Self {
        let weights = bytes(metric, rows).map_or(0, |(before, _)| before as usize);
        Self { sealed, weights }
    }

    /// The Euclidean norms; only for COSINE.
    pub(crate) fn exact(&self) -> Option<&[f64]> {
        // A mapping begins at a page.
        (self.weights > 0).then(|| bytemuck::cast_slice(&self.sealed[..self.weights]))
    }

    /// The weights of [`crate::sieve`].
    pub(crate) fn weights(&self) -> &[f32] {
        bytemuck::cast_slice(&self.sealed[self.weights..])
    }

    /// The memory that has all of it.
    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

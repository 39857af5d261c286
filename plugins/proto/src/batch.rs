//! The queries of a search, checked against the collection that they ask.
//!
//! QueryCoord checks before it sends anything to a node, and a QueryNode checks again, as it can be called by itself.

use std::fmt;

use bytes::Bytes;
use tonic::{Code, Status};

use crate::querynode::v1::Vector;

/// The most components that a vector may have; Milvus' limit.
pub const MAX_DIMENSION: u32 = 32_768;

/// The most queries in one search; Milvus' limit.
pub const MAX_QUERIES: usize = 16_384;

/// The most vectors to find for one query; Milvus' limit.
pub const MAX_TOPK: u32 = 16_384;

/// The most vectors to find for all queries of one search: each takes up to 22 bytes of an answer, and the answers of all
/// nodes have to stay well under [`crate::MAX_MESSAGE_BYTES`].
pub const MAX_HITS: usize = 1_000_000;

/// Queries of one dimension, one after the other, all finite.
#[derive(Clone, PartialEq)]
pub struct Batch {
    dimension: usize,
    values: Vec<f32>,
}

/// Why queries are refused. The caller's fault, whatever it is: `INVALID_ARGUMENT`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// No query at all.
    #[error("the search has no queries: give vectors or packed_vectors")]
    Empty,
    /// Queries in both fields.
    #[error("the search has vectors and packed_vectors: give one of them")]
    Both,
    /// More queries than allowed.
    #[error("the search has {found} queries, at most {MAX_QUERIES} are allowed")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A query of another dimension.
    #[error("query {index} has {found} components, the collection's dimension is {expected}")]
    Dimension {
        /// Which query, from 0.
        index: usize,
        /// The collection's dimension.
        expected: usize,
        /// The query's.
        found: usize,
    },
    /// The bytes are no whole number of queries.
    #[error("packed_vectors has {found} bytes, which is no multiple of {expected} (dimension {dimension} × 4)")]
    Packed {
        /// The bytes of one query.
        expected: usize,
        /// The collection's dimension.
        dimension: usize,
        /// The bytes that came.
        found: usize,
    },
    /// A component that is no number, or infinite.
    #[error("component {component} of query {index} is {value}: all have to be finite")]
    NotFinite {
        /// Which query, from 0.
        index: usize,
        /// Which of its components, from 0.
        component: usize,
        /// What it is.
        value: f32,
    },
    /// A number of hits that is not allowed.
    #[error("topk is {found}, it has to be 1 to {MAX_TOPK}")]
    TopK {
        /// What was asked for.
        found: u32,
    },
    /// More hits in all than allowed.
    #[error("{queries} queries with topk {topk} ask for more than {MAX_HITS} hits: send fewer queries at a time")]
    TooManyHits {
        /// How many queries.
        queries: usize,
        /// How many hits for each.
        topk: u32,
    },
}

impl From<BatchError> for Status {
    fn from(error: BatchError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

impl Batch {
    /// The queries of a search with this `topk` in a collection of this dimension.
    ///
    /// # Errors
    ///
    /// Each [`BatchError`], the first that is found.
    pub fn new(vectors: &[Vector], packed: &[u8], dimension: usize, topk: u32) -> Result<Self, BatchError> {
        check(vectors, packed, dimension, topk)?;
        let values = match packed {
            [] => vectors.iter().flat_map(|vector| vector.values.iter().copied()).collect(),
            packed => values_of(packed).collect(),
        };
        Ok(Self { dimension, values })
    }

    /// How many queries; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// How many components each query has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The queries, in order.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }

    /// The queries, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} queries of dimension {}", self.len(), self.dimension)
    }
}

/// Queries as `packed_vectors` has them, checked as a [`Batch`] is, for one who sends them on: bytes that came packed are
/// shared, not copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    queries: usize,
    bytes: Bytes,
}

impl Packed {
    /// The queries of a search with this `topk` in a collection of this dimension.
    ///
    /// # Errors
    ///
    /// Each [`BatchError`], the first that is found.
    pub fn new(vectors: &[Vector], packed: Bytes, dimension: usize, topk: u32) -> Result<Self, BatchError> {
        let queries = check(vectors, &packed, dimension, topk)?;
        let values = vectors.iter().flat_map(|vector| &vector.values);
        let bytes = if packed.is_empty() { values.flat_map(|value| value.to_le_bytes()).collect() } else { packed };
        Ok(Self { queries, bytes })
    }

    /// How many queries; never 0.
    #[expect(clippy::len_without_is_empty, reason = "there is always a query")]
    pub fn len(&self) -> usize {
        self.queries
    }

    /// The queries one after the other.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} queries in {} bytes", self.queries, self.bytes.len())
    }
}

/// How many queries there are, where they are what they have to be.
fn check(vectors: &[Vector], packed: &[u8], dimension: usize, topk: u32) -> Result<usize, BatchError> {
    if topk == 0 || topk > MAX_TOPK {
        return Err(BatchError::TopK { found: topk });
    }
    let queries = match (vectors, packed) {
        ([], []) => return Err(BatchError::Empty),
        (vectors, []) => rows_of(vectors, dimension)?,
        ([], packed) => rows_in(packed, dimension)?,
        (_, _) => return Err(BatchError::Both),
    };
    if queries > MAX_QUERIES {
        return Err(BatchError::TooMany { found: queries });
    }
    if queries * topk as usize > MAX_HITS {
        return Err(BatchError::TooManyHits { queries, topk });
    }
    let infinite = |(_, value): &(usize, f32)| !value.is_finite();
    let mut in_vectors = vectors.iter().flat_map(|vector| vector.values.iter().copied()).enumerate();
    let mut in_packed = values_of(packed).enumerate();
    match in_vectors.find(infinite).or_else(|| in_packed.find(infinite)) {
        Some((at, value)) => Err(BatchError::NotFinite { index: at / dimension, component: at % dimension, value }),
        None => Ok(queries),
    }
}

fn rows_of(vectors: &[Vector], expected: usize) -> Result<usize, BatchError> {
    match vectors.iter().position(|vector| vector.values.len() != expected) {
        Some(index) => Err(BatchError::Dimension { index, expected, found: vectors[index].values.len() }),
        None => Ok(vectors.len()),
    }
}

fn rows_in(packed: &[u8], dimension: usize) -> Result<usize, BatchError> {
    let expected = dimension * size_of::<f32>();
    if !packed.len().is_multiple_of(expected) {
        return Err(BatchError::Packed { expected, dimension, found: packed.len() });
    }
    Ok(packed.len() / expected)
}

fn values_of(packed: &[u8]) -> impl Iterator<Item = f32> {
    packed.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[f32]]) -> Vec<Vector> {
        rows.iter().map(|row| Vector { values: row.to_vec() }).collect()
    }

    #[test]
    fn rows_and_packed_bytes_are_the_same_queries() {
        let rows = rows(&[&[1.0, 2.0], &[3.0, -4.5]]);
        let batch = Batch::new(&rows, &[], 2, 1).unwrap();
        assert_eq!(batch.queries().collect::<Vec<_>>(), [[1.0, 2.0], [3.0, -4.5]]);
        let packed = Packed::new(&rows, Bytes::new(), 2, 1).unwrap();
        assert_eq!(packed.len(), 2);
        assert_eq!(Batch::new(&[], &packed.bytes(), 2, 1), Ok(batch));
        assert_eq!(Packed::new(&[], packed.bytes(), 2, 1), Ok(packed));
    }

    #[test]
    fn packed_bytes_are_not_copied() {
        let bytes = Bytes::from(vec![0; 8]);
        let packed = Packed::new(&[], bytes.clone(), 2, 1).unwrap();
        assert_eq!(packed.bytes().as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn each_bad_batch_is_refused_with_what_is_wrong() {
        let one = rows(&[&[1.0, 2.0]]);
        let cases = [
            (vec![], vec![], 1, "has no queries"),
            (one.clone(), vec![0; 8], 1, "vectors and packed_vectors"),
            (rows(&[&[1.0, 2.0], &[1.0]]), vec![], 1, "query 1 has 1 components, the collection's dimension is 2"),
            (vec![], [1.0, f32::INFINITY].map(f32::to_le_bytes).concat(), 1, "component 1 of query 0 is inf"),
            (vec![], vec![0; 12], 1, "12 bytes, which is no multiple of 8"),
            (rows(&[&[1.0, 2.0], &[1.0, f32::NAN]]), vec![], 1, "component 1 of query 1 is NaN"),
            (rows(&[&[f32::NEG_INFINITY, 2.0]]), vec![], 1, "component 0 of query 0 is -inf"),
            (one.clone(), vec![], 0, "topk is 0"),
            (one.clone(), vec![], MAX_TOPK + 1, "topk is 16385"),
            (vec![], vec![0; 8 * (MAX_QUERIES + 1)], 1, "16385 queries, at most 16384"),
            (vec![], vec![0; 8 * 100], 10_001, "more than 1000000 hits"),
        ];
        for (vectors, packed, topk, text) in cases {
            let error = Batch::new(&vectors, &packed, 2, topk).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            let packed = Packed::new(&vectors, packed.into(), 2, topk).unwrap_err();
            assert_eq!(packed.to_string(), error.to_string());
            assert_eq!(Status::from(error).code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert!(Batch::new(&rows(&[&[1.0]]), &[], 1, MAX_TOPK).is_ok());
        assert!(Batch::new(&[], &vec![0; 4 * MAX_QUERIES], 1, 61).is_ok());
    }
}

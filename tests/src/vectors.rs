//! Vectors for a search: made, written as `.npy`, and searched by a float64 brute force.

use std::io::Write;
use std::path::Path;

use proto::rootcoord::v1::MetricType;

/// Rows of vectors of one dimension.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// How many components a row has.
    pub dimension: usize,
    /// All rows, one after the other.
    pub values: Vec<f32>,
}

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: i64,
    /// How near it is: squared distance, inner product or cosine.
    pub score: f64,
}

impl Vectors {
    /// So many rows with components in [-1, 1), the same for the same seed.
    pub fn random(seed: u64, rows: usize, dimension: usize) -> Self {
        let mut random = SplitMix(seed);
        Self { dimension, values: (0..rows * dimension).map(|_| random.component()).collect() }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// A row.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..][..self.dimension]
    }

    /// The same with these rows, in order, in place of its first.
    #[must_use]
    pub fn beginning_with(mut self, other: &[f32]) -> Self {
        self.values[..other.len()].copy_from_slice(other);
        self
    }

    /// The rows one after the other, little-endian, as a search takes them.
    pub fn packed(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Writes a NumPy file: version 1.0, float32, C order.
    pub fn write_npy(&self, path: &Path) {
        let write = || -> std::io::Result<()> {
            let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
            file.write_all(&npy_header("<f4", false, self.rows(), self.dimension))?;
            file.write_all(&self.packed())?;
            file.flush()
        };
        write().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Of each query the `k` nearest of these rows, in float64, as [`before`] orders them. Row r has the id `first_id` + r.
    pub fn nearest(&self, metric: MetricType, first_id: i64, queries: &Self, k: usize) -> Vec<Vec<Found>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let numbers: Vec<_> = (0..queries.rows()).collect();
        let share = numbers.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let one = |at: &usize| self.nearest_of_one(metric, first_id, queries.row(*at), k);
            let shares: Vec<_> = numbers
                .chunks(share)
                .map(|share| scope.spawn(move || share.iter().map(one).collect::<Vec<_>>()))
                .collect();
            shares.into_iter().flat_map(|share| share.join().expect("it does not panic")).collect()
        })
    }

    fn nearest_of_one(&self, metric: MetricType, first_id: i64, query: &[f32], k: usize) -> Vec<Found> {
        let mut best: Vec<Found> = Vec::with_capacity(k.min(self.rows()) + 1);
        for (row, id) in (0..self.rows()).zip(first_id..) {
            let found = Found { id, score: score(metric, query, self.row(row)) };
            if best.len() < k || before(metric, &found, &best[k - 1]) {
                let at = best.partition_point(|other| before(metric, other, &found));
                best.insert(at, found);
                best.truncate(k);
            }
        }
        best
    }
}

/// What a NumPy file of version 1.0 begins with, before its data.
///
/// # Panics
///
/// Where it is longer than such a file has it.
pub fn npy_header(descr: &str, fortran_order: bool, rows: usize, dimension: usize) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({rows}, {dimension}), }}");
    // Magic, version and length take 10 bytes; the data begins at a multiple of 64, after a line's end.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let length = u16::try_from(padded).expect("a short header").to_le_bytes();
    let text = format!("{header:<width$}\n", width = padded - 1);
    [b"\x93NUMPY\x01\x00".as_slice(), &length, text.as_bytes()].concat()
}

/// Does one come before the other: is it nearer, or as near and its id smaller?
pub fn before(metric: MetricType, one: &Found, other: &Found) -> bool {
    match metric {
        MetricType::L2 => (one.score, one.id) < (other.score, other.id),
        _ => (-one.score, one.id) < (-other.score, other.id),
    }
}

/// How near two vectors are, in float64.
///
/// # Panics
///
/// Where no metric is said.
pub fn score(metric: MetricType, one: &[f32], other: &[f32]) -> f64 {
    match metric {
        MetricType::L2 => squared_distance(one, other),
        MetricType::Ip => product(one, other),
        MetricType::Cosine => {
            let norms = product(one, one).sqrt() * product(other, other).sqrt();
            if norms == 0.0 { 0.0 } else { product(one, other) / norms }
        }
        MetricType::MetricUnspecified => panic!("no metric is said"),
    }
}

// Plain loops: this is a debug build, and they do most of what a test computes.

fn squared_distance(one: &[f32], other: &[f32]) -> f64 {
    let mut sum = 0.0;
    for at in 0..one.len() {
        let difference = f64::from(one[at]) - f64::from(other[at]);
        sum += difference * difference;
    }
    sum
}

fn product(one: &[f32], other: &[f32]) -> f64 {
    let mut sum = 0.0;
    for at in 0..one.len() {
        sum += f64::from(one[at]) * f64::from(other[at]);
    }
    sum
}

/// `SplitMix64`: small, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 24 random bits are all that an f32 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    fn component(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

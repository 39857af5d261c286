//! Vectors for a search: made, written as `.npy`, and searched by a float64 brute force.

use std::io::Write;
use std::path::Path;

/// Rows of vectors of one dimension.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// How many components a row has.
    pub dimension: usize,
    /// All rows, one after the other.
    pub values: Vec<f32>,
}

/// A vector that was found, with its squared distance.
pub type Found = (i64, f64);

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
        let shape = format!("({}, {})", self.rows(), self.dimension);
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        // Magic, version and length take 10 bytes; the data begins at a multiple of 64, after a line's end.
        let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let length = u16::try_from(padded).expect("a short header").to_le_bytes();
        let write = || -> std::io::Result<()> {
            let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
            file.write_all(b"\x93NUMPY\x01\x00")?;
            file.write_all(&length)?;
            file.write_all(format!("{header:<width$}\n", width = padded - 1).as_bytes())?;
            file.write_all(&self.packed())?;
            file.flush()
        };
        write().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// The `k` nearest of each query by squared Euclidean distance in float64; of equal distances the smaller id first.
    /// Row r of a part has the id that the part's first row has, plus r.
    pub fn brute_force(parts: &[(i64, &Self)], queries: &Self, k: usize) -> Vec<Vec<Found>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let numbers: Vec<_> = (0..queries.rows()).collect();
        let share = numbers.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let shares = numbers.chunks(share).map(|share| {
                scope.spawn(move || share.iter().map(|at| nearest(parts, queries.row(*at), k)).collect::<Vec<_>>())
            });
            let shares: Vec<_> = shares.collect();
            shares.into_iter().flat_map(|share| share.join().expect("it does not panic")).collect()
        })
    }
}

fn nearest(parts: &[(i64, &Vectors)], query: &[f32], k: usize) -> Vec<Found> {
    let mut best: Vec<Found> = Vec::with_capacity(k + 1);
    for (first, vectors) in parts {
        for (row, id) in (0..vectors.rows()).zip(*first..) {
            let found = (id, squared_distance(vectors.row(row), query));
            if best.len() < k || nearer(&found, &best[k - 1]) {
                let at = best.partition_point(|other| nearer(other, &found));
                best.insert(at, found);
                best.truncate(k);
            }
        }
    }
    best
}

fn nearer(one: &Found, other: &Found) -> bool {
    (one.1, one.0) < (other.1, other.0)
}

/// In float64.
pub fn squared_distance(one: &[f32], other: &[f32]) -> f64 {
    let mut sum = 0.0;
    for at in 0..one.len() {
        let difference = f64::from(one[at]) - f64::from(other[at]);
        sum += difference * difference;
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

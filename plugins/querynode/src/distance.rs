//! How far a vector is from a query: an estimate in float32 that is fast, and the answer in float64.
//!
//! Both give a *remoteness* (see [`proto::order::remoteness`]): the smaller the nearer. The float64 one is the same to the
//! last bit on every machine, whatever its vector instructions: its sums have one order, and no product is fused into one.
//! What an estimate allows to say is in [`crate::sieve`].
//!
//! All is `inline(always)`, so that it is compiled with the vector instructions of whoever calls it ([`crate::scan`]).

use proto::rootcoord::v1::MetricType;

/// Sums that run side by side in float32: two registers of AVX-512, four of AVX2, eight of NEON and SSE.
const LANES: usize = 32;

/// Sums that run side by side in float64.
const EXACT_LANES: usize = 16;

/// A vector with what its distances need.
#[derive(Clone, Copy)]
pub(crate) struct Point<'a> {
    /// Its components.
    pub(crate) values: &'a [f32],
    /// Its Euclidean norm, of [`norm`].
    pub(crate) norm: f64,
}

impl<'a> Point<'a> {
    /// The point at the end of this vector.
    pub(crate) fn new(values: &'a [f32]) -> Self {
        Self { values, norm: norm(values) }
    }
}

/// The Euclidean norm.
#[inline(always)]
pub(crate) fn norm(values: &[f32]) -> f64 {
    exact_sum(values, values, |left, right| left * right).sqrt()
}

/// The remoteness in float64.
#[inline(always)]
pub(crate) fn exact(metric: MetricType, query: Point<'_>, row: Point<'_>) -> f64 {
    let product = || exact_sum(query.values, row.values, |left, right| left * right);
    match metric {
        MetricType::L2 | MetricType::MetricUnspecified => {
            exact_sum(query.values, row.values, |left, right| (left - right) * (left - right))
        }
        MetricType::Ip => -product(),
        MetricType::Cosine => match query.norm * row.norm {
            0.0 => 0.0,
            norms => -product() / norms,
        },
    }
}

/// The inner product in float32.
#[inline(always)]
pub(crate) fn product(left: &[f32], right: &[f32]) -> f32 {
    sum(left, right, |left, right| left * right)
}

/// The squared distance in float32, by the differences of the components.
#[inline(always)]
pub(crate) fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    sum(left, right, |left, right| (left - right) * (left - right))
}

#[inline(always)]
fn sum(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += term(left[lane], right[lane]);
        }
    }
    for (sum, (left, right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum += term(*left, *right);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The product of two float32 is exact in float64, and so is their difference for all that matters here.
#[inline(always)]
fn exact_sum(left: &[f32], right: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; EXACT_LANES];
    let (left, left_rest) = left.as_chunks::<EXACT_LANES>();
    let (right, right_rest) = right.as_chunks::<EXACT_LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..EXACT_LANES {
            sums[lane] += term(f64::from(left[lane]), f64::from(right[lane]));
        }
    }
    for (sum, (left, right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum += term(f64::from(*left), f64::from(*right));
    }
    sums.into_iter().sum()
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use super::*;

    const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

    /// The textbook's sum, one by one.
    fn reference(metric: MetricType, left: &[f32], right: &[f32]) -> f64 {
        let pairs = || left.iter().zip(right).map(|(left, right)| (f64::from(*left), f64::from(*right)));
        let product: f64 = pairs().map(|(left, right)| left * right).sum();
        let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        match metric {
            MetricType::L2 => pairs().map(|(left, right)| (left - right).powi(2)).sum(),
            MetricType::Ip => -product,
            _ if norm(left) * norm(right) == 0.0 => 0.0,
            _ => -product / (norm(left) * norm(right)),
        }
    }

    #[test]
    fn the_exact_remoteness_is_the_textbooks() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for dimension in (1..200).chain([768, 1536, 32_768]) {
            let mut vector = || (0..dimension).map(|_| random.f32() * 2.0 - 1.0).collect::<Vec<_>>();
            let (left, right) = (vector(), vector());
            for metric in METRICS {
                let found = exact(metric, Point::new(&left), Point::new(&right));
                let expected = reference(metric, &left, &right);
                let scale = norm(&left) * norm(&right) + expected.abs();
                assert!((found - expected).abs() <= 1e-12 * scale, "{metric:?} {dimension}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_zero_vector_is_at_right_angles_to_all() {
        assert_eq!(exact(MetricType::Cosine, Point::new(&[0.0, 0.0]), Point::new(&[1.0, 2.0])), 0.0);
    }
}

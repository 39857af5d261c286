//! How far a vector is from a query: an estimate in float32 that is fast, and the answer in float64.
//!
//! A search asks for the estimate of every vector, and for the answer only where the estimate, with its greatest possible
//! error, leaves the vector a place among the nearest. So it finds what a float64 search finds, at the speed of float32.
//! Both give a *remoteness* (see [`proto::order::remoteness`]): the smaller the nearer.

use proto::rootcoord::v1::MetricType;

/// Sums that run side by side, so that the compiler makes vector instructions of them.
const LANES: usize = 16;

/// So many components are summed up in float32 before they are added to a float64, so that the error does not grow with
/// the dimension.
const BLOCK: usize = 64;

/// The greatest relative error of an estimated sum of terms of one sign: one rounding (half an epsilon) for each term of a
/// block, and a few for each term and for the norms. Counted twice over.
const RELATIVE_ERROR: f64 = (BLOCK + 8) as f64 * f32::EPSILON as f64;

/// The greatest error of one product that is too small for float32.
const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64;

/// A vector with what its distances need.
#[derive(Clone, Copy)]
pub(crate) struct Point<'a> {
    /// Its components.
    pub(crate) values: &'a [f32],
    /// Its Euclidean norm, of [`norm`].
    pub(crate) norm: f64,
}

/// The Euclidean norm.
pub(crate) fn norm(values: &[f32]) -> f64 {
    exact_sum(values, values, |left, right| left * right).sqrt()
}

/// The remoteness in float64.
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

/// A remoteness that [`exact`] is not below. It is not finite where float32 does not reach: then it says nothing.
pub(crate) fn at_least(metric: MetricType, query: Point<'_>, row: Point<'_>) -> f64 {
    let underflow = query.values.len() as f64 * UNDERFLOW;
    let product = || estimated_sum(query.values, row.values, |left, right| left * right);
    match metric {
        MetricType::L2 | MetricType::MetricUnspecified => {
            let sum = estimated_sum(query.values, row.values, |left, right| (left - right) * (left - right));
            sum * (1.0 - RELATIVE_ERROR) - underflow
        }
        MetricType::Ip => -product() - RELATIVE_ERROR * query.norm * row.norm - underflow,
        MetricType::Cosine => {
            let norms = query.norm * row.norm;
            -(product() + underflow) / norms - RELATIVE_ERROR
        }
    }
}

fn estimated_sum(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0;
    for (left, right) in left.chunks(BLOCK).zip(right.chunks(BLOCK)) {
        let mut sums = [0.0_f32; LANES];
        let (left, left_rest) = left.as_chunks::<LANES>();
        let (right, right_rest) = right.as_chunks::<LANES>();
        for (left, right) in left.iter().zip(right) {
            for lane in 0..LANES {
                sums[lane] += term(left[lane], right[lane]);
            }
        }
        let rest = left_rest.iter().zip(right_rest).map(|(left, right)| term(*left, *right));
        total += f64::from(sums.into_iter().chain(rest).sum::<f32>());
    }
    total
}

/// The product of two float32 is exact in float64, and so is their difference for all that matters here.
fn exact_sum(left: &[f32], right: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    for (left, right) in left.chunks(LANES).zip(right.chunks(LANES)) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += term(f64::from(*left), f64::from(*right));
        }
    }
    sums.into_iter().sum()
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use super::*;

    const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

    fn point(values: &[f32]) -> Point<'_> {
        Point { values, norm: norm(values) }
    }

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
                let (found, expected) = (exact(metric, point(&left), point(&right)), reference(metric, &left, &right));
                let scale = norm(&left) * norm(&right) + expected.abs();
                assert!((found - expected).abs() <= 1e-12 * scale, "{metric:?} {dimension}: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_estimate_is_never_above_the_exact_remoteness_and_close_to_it() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..20_000 {
            let dimension = random.usize(1..300);
            // From the smallest numbers that float32 has to the greatest, and vectors that are nearly equal.
            let scale = 10_f32.powi(random.i32(-44..38));
            let (offset, spread) = if round % 2 == 0 { (0.0, 1.0) } else { (1.0, 1e-5) };
            let mut vector =
                || (0..dimension).map(|_| scale * (offset + spread * (random.f32() - 0.5))).collect::<Vec<_>>();
            let (left, right) = (vector(), vector());
            for metric in METRICS {
                let exact = exact(metric, point(&left), point(&right));
                let bound = at_least(metric, point(&left), point(&right));
                assert!(!bound.is_finite() || bound <= exact, "{metric:?} {dimension} {scale}: {bound} > {exact}");
                if (-15..15).contains(&(scale.log10().round() as i32)) && spread == 1.0 {
                    let scale = norm(&left) * norm(&right) + exact.abs();
                    let relative = if metric == MetricType::Cosine { exact - bound } else { (exact - bound) / scale };
                    assert!(relative < 1e-4, "{metric:?} {dimension}: {bound} is no estimate of {exact}");
                }
            }
        }
    }

    #[test]
    fn a_zero_vector_is_at_right_angles_to_all() {
        assert_eq!(exact(MetricType::Cosine, point(&[0.0, 0.0]), point(&[1.0, 2.0])), 0.0);
        assert!(!at_least(MetricType::Cosine, point(&[0.0, 0.0]), point(&[1.0, 2.0])).is_finite());
    }
}

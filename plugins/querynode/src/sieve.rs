//! Which rows an estimate in float32 leaves in the running.
//!
//! A search estimates every row and computes in float64 only those that may be among the nearest; so it finds what a
//! float64 search finds. For that each estimate has a proven greatest error. With `u` the rounding of one operation in
//! float32 and `d` components, a sum of products in any order, fused or not, is off by at most `γ |q| |r|` with
//! `γ = d u / (1 - d u)` (Higham, *Accuracy and Stability*, 3.1), and by the least normal number for each product that
//! underflows. From that, with `e` a bit more than `γ` for what else is rounded here, a row `r` that is no remoter from a
//! query `q` than `R` has an estimated product `p` with
//!
//! * L2: `p - w ≥ (|q|² (1 - e) - R) / 2` where `w = |r|² (1 - e) / 2`, as `2 |q| |r| ≤ |q|² + |r|²`;
//! * IP: `p + e |q| w ≥ -R` where `w = |r|`;
//! * COSINE: `p w ≥ |q| (-R - e)` where `w = 1 / |r|`.
//!
//! By the differences of components the squared distance is off by `γ` of itself. Vectors so long or short that float32
//! could overflow, or underflow in a way that counts, have a weight or a bound that is not a number: nothing is said of
//! them, and they always pass.

use proto::rootcoord::v1::MetricType;

use crate::distance::Point;

/// The rounding of one operation.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// For all that is rounded beside the sum: weights, bounds, and what is done with them. Four would do.
const BESIDE: f64 = 16.0;

/// Norms between which no product, square or sum of them leaves float32's range, and no underflow counts.
const LONGEST: f64 = 1e18;
const SHORTEST: f64 = 1e-12;

/// Squared distances up to here cannot have overflowed on their way.
const REMOTEST: f64 = 1e37;

/// How exact float32 is for a dimension.
#[derive(Clone, Copy)]
pub(crate) struct Precision {
    /// `e` above.
    relative: f64,
    /// What underflows may add.
    absolute: f64,
}

impl Precision {
    pub(crate) fn of(dimension: usize) -> Self {
        // For 32,768 components 1 / (1 - d u) is 1.002.
        let operations = dimension as f64 + BESIDE;
        Self { relative: 1.01 * operations * ROUNDING, absolute: 2.0 * operations * f64::from(f32::MIN_POSITIVE) }
    }

    /// `w` of a row.
    pub(crate) fn weight(self, metric: MetricType, norm: f64) -> f32 {
        match metric {
            _ if norm > LONGEST => f32::NAN,
            MetricType::L2 | MetricType::MetricUnspecified => (norm * norm * (1.0 - self.relative) / 2.0) as f32,
            MetricType::Ip => up(norm),
            MetricType::Cosine if norm < SHORTEST => f32::NAN,
            MetricType::Cosine => norm.recip() as f32,
        }
    }
}

/// What a row's estimate has to reach, for one query and what has been found for it so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sieve {
    bound: f32,
    /// For IP: `e |q|`.
    slope: f32,
}

impl Sieve {
    /// For estimated products. All that is no remoter than `reach` passes.
    #[inline(always)]
    pub(crate) fn of_products(metric: MetricType, precision: Precision, query: Point<'_>, reach: f64) -> Self {
        let Precision { relative, absolute } = precision;
        let bound = match metric {
            _ if query.norm > LONGEST => f64::NAN,
            MetricType::L2 | MetricType::MetricUnspecified => {
                (query.norm * query.norm * (1.0 - relative) - reach) / 2.0 - absolute
            }
            MetricType::Ip => -reach - absolute,
            MetricType::Cosine if query.norm < SHORTEST => f64::NAN,
            MetricType::Cosine => query.norm * (-reach - relative),
        };
        Self { bound: down(bound), slope: up(relative * query.norm) }
    }

    /// For estimated squared distances.
    #[inline(always)]
    pub(crate) fn of_distances(precision: Precision, reach: f64) -> Self {
        let bound = reach * (1.0 + precision.relative) + precision.absolute;
        Self { bound: if bound < REMOTEST { up(bound) } else { f32::INFINITY }, slope: 0.0 }
    }

    /// Does a row with this product and weight pass? One that is not a number does.
    #[inline(always)]
    pub(crate) fn lets_product(self, metric: MetricType, product: f32, weight: f32) -> bool {
        let misses = match metric {
            MetricType::L2 | MetricType::MetricUnspecified => product - weight < self.bound,
            MetricType::Ip => product + self.slope * weight < self.bound,
            MetricType::Cosine => product * weight < self.bound,
        };
        !misses
    }

    /// Does a row at this squared distance pass?
    #[inline(always)]
    pub(crate) fn lets_distance(self, squared_distance: f32) -> bool {
        squared_distance <= self.bound
    }
}

/// The nearest float32 that is not greater.
#[inline(always)]
fn down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

/// The nearest float32 that is not smaller.
#[inline(always)]
fn up(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use ndarray::ArrayView1;

    use super::*;
    use crate::distance;

    const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

    /// One after the other: of all orders the one that loses most.
    fn product_in_order(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).fold(0.0, |sum, (left, right)| sum + left * right)
    }

    fn product_of_matrices(left: &[f32], right: &[f32]) -> f32 {
        let (left, right) = (ArrayView1::from(left), ArrayView1::from(right));
        left.insert_axis(ndarray::Axis(0)).dot(&right.insert_axis(ndarray::Axis(1)))[[0, 0]]
    }

    /// The row is let through as long as it is not remoter than the reach, whichever way its estimate was made.
    fn check(metric: MetricType, left: &[f32], right: &[f32]) -> bool {
        let (query, row) = (Point::new(left), Point::new(right));
        let precision = Precision::of(left.len());
        let exact = distance::exact(metric, query, row);
        let weight = precision.weight(metric, row.norm);
        let sieve = |reach| Sieve::of_products(metric, precision, query, reach);
        for of in [distance::product, product_in_order, product_of_matrices] {
            let product = of(left, right);
            let passes = sieve(exact).lets_product(metric, product, weight);
            assert!(passes, "{metric:?} {}: {product} {weight} {exact}", left.len());
        }
        if metric == MetricType::L2 {
            let estimate = distance::squared_distance(left, right);
            let lets = |reach| Sieve::of_distances(precision, reach).lets_distance(estimate);
            assert!(lets(exact), "{}: {estimate} {exact}", left.len());
        }
        // Is what is remoter than the reach by more than a few errors kept out?
        let error = match metric {
            MetricType::L2 | MetricType::MetricUnspecified => query.norm * query.norm + row.norm * row.norm,
            MetricType::Ip => query.norm * row.norm,
            MetricType::Cosine => 1.0,
        };
        !sieve(exact - 4.0 * precision.relative * error).lets_product(metric, distance::product(left, right), weight)
    }

    #[test]
    fn nothing_within_reach_is_kept_out_and_what_is_well_beyond_it_is() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for dimension in (1..200).chain([768, 1536, 32_768]) {
            // All of one sign, so that nothing cancels and errors add up; both signs; nearly equal ones.
            for (offset, spread) in [(0.5, 1.0), (0.0, 1.0), (1.0, 1e-5), (1.0, 0.0)] {
                for _ in 0..4 {
                    let mut vector =
                        || (0..dimension).map(|_| offset + spread * (random.f32() - 0.5)).collect::<Vec<_>>();
                    let (left, right) = (vector(), vector());
                    for metric in METRICS {
                        assert!(check(metric, &left, &right), "{metric:?} {dimension} {offset} {spread} says nothing");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_within_reach_is_kept_out_however_great_or_small_the_numbers_are() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let dimension = random.usize(1..100);
            let offset = if random.bool() { 0.0 } else { 1.0 };
            // From the smallest numbers that float32 has to the greatest, of each vector its own.
            let mut vector = || {
                let scale = 10_f64.powf(random.f64() * 82.5 - 44.5);
                (0..dimension).map(|_| (scale * (offset + random.f64() - 0.5)) as f32).collect::<Vec<_>>()
            };
            let (left, right) = (vector(), vector());
            for metric in METRICS {
                check(metric, &left, &right);
                check(metric, &left, &left);
            }
        }
    }

    #[test]
    fn what_float32_cannot_hold_always_passes() {
        let precision = Precision::of(2);
        let (zero, long, one) = ([0.0; 2], [3e38; 2], [1.0; 2]);
        for metric in METRICS {
            let lets = |query: &[f32], row: &[f32]| {
                let weight = precision.weight(metric, distance::norm(row));
                let sieve = Sieve::of_products(metric, precision, Point::new(query), f64::MIN);
                [f32::NEG_INFINITY, -1.0, 0.0, f32::INFINITY, f32::NAN].map(|p| sieve.lets_product(metric, p, weight))
            };
            assert_eq!((lets(&long, &one), lets(&one, &long)), ([true; 5], [true; 5]), "{metric:?}");
            if metric == MetricType::Cosine {
                assert_eq!((lets(&zero, &one), lets(&one, &zero)), ([true; 5], [true; 5]));
            }
        }
        let sieve = Sieve::of_distances(precision, 1e38);
        assert!(
            sieve.lets_distance(f32::INFINITY) && !Sieve::of_distances(precision, 1.0).lets_distance(f32::INFINITY)
        );
    }
}

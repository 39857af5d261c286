//! Which of two hits is nearer, by the metric.
//!
//! One rule for a node that searches and for the coordinator that merges, so that an answer does not depend on how the
//! segments are spread.

use std::cmp::Ordering;

use crate::querynode::v1::SearchHit;
use crate::rootcoord::v1::MetricType;

/// A number that is the smaller the nearer: the score of L2, the negated score of IP and COSINE.
pub fn remoteness(metric: MetricType, score: f64) -> f64 {
    match metric {
        MetricType::L2 | MetricType::MetricUnspecified => score,
        MetricType::Ip | MetricType::Cosine => -score,
    }
}

/// `Less` where the left one is nearer; of equal scores the smaller id is.
pub fn nearer(metric: MetricType, left: &SearchHit, right: &SearchHit) -> Ordering {
    compare((remoteness(metric, left.score), left.id), (remoteness(metric, right.score), right.id))
}

/// As [`nearer`], for pairs of remoteness and id.
pub fn compare(left: (f64, i64), right: (f64, i64)) -> Ordering {
    // `total_cmp` puts -0 before 0, which are equal distances: the id has to decide between them.
    let by_remoteness = if left.0 == right.0 { Ordering::Equal } else { left.0.total_cmp(&right.0) };
    by_remoteness.then(left.1.cmp(&right.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(id: i64, score: f64) -> SearchHit {
        SearchHit { id, score }
    }

    #[test]
    fn a_small_distance_and_a_great_product_are_near() {
        assert_eq!(nearer(MetricType::L2, &hit(2, 1.0), &hit(1, 2.0)), Ordering::Less);
        assert_eq!(nearer(MetricType::Ip, &hit(2, 1.0), &hit(1, 2.0)), Ordering::Greater);
        assert_eq!(nearer(MetricType::Cosine, &hit(2, 0.9), &hit(1, 0.8)), Ordering::Less);
    }

    #[test]
    fn of_equal_scores_the_smaller_id_is_nearer() {
        for metric in [MetricType::L2, MetricType::Ip, MetricType::Cosine] {
            assert_eq!(nearer(metric, &hit(1, 0.0), &hit(2, -0.0)), Ordering::Less);
            assert_eq!(nearer(metric, &hit(2, -0.0), &hit(1, 0.0)), Ordering::Greater);
        }
    }
}

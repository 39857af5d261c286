//! The k nearest of all vectors that are offered.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use proto::order;
use proto::querynode::v1::{SearchHit, SearchResult};
use proto::rootcoord::v1::MetricType;

/// The nearest so far for one query.
pub(crate) struct Nearest {
    limit: usize,
    /// The remotest on top.
    heap: BinaryHeap<Candidate>,
}

struct Candidate {
    remoteness: f64,
    id: i64,
}

impl Nearest {
    /// None yet, of at most so many; `limit` is at least 1.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// A remoteness above which nothing has a place any more.
    pub(crate) fn reach(&self) -> f64 {
        match self.heap.peek() {
            Some(remotest) if self.heap.len() >= self.limit => remotest.remoteness,
            _ => f64::INFINITY,
        }
    }

    /// Takes the vector if it is among the nearest.
    pub(crate) fn offer(&mut self, remoteness: f64, id: i64) {
        let candidate = Candidate { remoteness, id };
        if self.heap.len() < self.limit {
            self.heap.push(candidate);
        } else if let Some(mut remotest) = self.heap.peek_mut()
            && candidate < *remotest
        {
            *remotest = candidate;
        }
    }

    /// The nearest of what both have.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for Candidate { remoteness, id } in other.heap {
            self.offer(remoteness, id);
        }
        self
    }

    /// What was found, the nearest first.
    pub(crate) fn into_result(self, metric: MetricType) -> SearchResult {
        // The remoteness of a score is the score again; adding 0 makes 0 of -0, which people would wonder about.
        let score = |remoteness| order::remoteness(metric, remoteness) + 0.0;
        let nearest_first = self.heap.into_sorted_vec().into_iter();
        SearchResult {
            hits: nearest_first.map(|each| SearchHit { id: each.id, score: score(each.remoteness) }).collect(),
        }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        order::compare((self.remoteness, self.id), (other.remoteness, other.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_those_of_a_sort_whatever_the_order_they_come_in() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            // Few distances, so that many are equal.
            let mut offered: Vec<_> = (0..random.i64(0..60)).map(|id| (f64::from(random.u8(0..8)) - 4.0, id)).collect();
            random.shuffle(&mut offered);
            let limit = random.usize(1..20);
            let mut nearest = Nearest::new(limit);
            for (remoteness, id) in &offered {
                nearest.offer(*remoteness, *id);
            }
            let reach = nearest.reach();
            offered.sort_by(|left, right| order::compare(*left, *right));
            assert_eq!(reach, offered.get(limit - 1).map_or(f64::INFINITY, |remotest| remotest.0));
            offered.truncate(limit);
            let expected: Vec<_> = offered.into_iter().map(|(score, id)| SearchHit { id, score }).collect();
            assert_eq!(nearest.into_result(MetricType::L2).hits, expected);
        }
    }

    #[test]
    fn the_scores_are_those_of_the_metric() {
        let mut nearest = Nearest::new(2);
        nearest.offer(-0.5, 1);
        nearest.offer(0.0, 2);
        let hits = nearest.into_result(MetricType::Ip).hits;
        assert_eq!(hits.iter().map(|hit| hit.score.to_string()).collect::<Vec<_>>(), ["0.5", "0"]);
    }
}

//! The nearest of what the nodes have found, as their answers come.

use std::ops::Range;

use proto::order;
use proto::querynode::v1::{SearchHit, SearchResult};
use proto::rootcoord::v1::MetricType;

/// The nearest so far, for each query.
pub(crate) struct Nearest {
    metric: MetricType,
    topk: usize,
    results: Vec<SearchResult>,
}

/// An answer that cannot be one of all segments that were asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongAnswer {
    #[error("it answered {found} of {expected} queries")]
    Queries { expected: usize, found: usize },
    #[error("it found {found} vectors for query {query}, where there are {expected}")]
    Hits { query: usize, expected: usize, found: usize },
    #[error("what it found for query {query} is not in order")]
    Order { query: usize },
}

impl Nearest {
    /// None yet.
    pub(crate) fn new(metric: MetricType, topk: usize, queries: usize) -> Self {
        Self { metric, topk, results: vec![SearchResult::default(); queries] }
    }

    /// Can these be the nearest of segments that have so many rows together?
    pub(crate) fn check(&self, answer: &[SearchResult], rows: u64) -> Result<(), WrongAnswer> {
        if answer.len() != self.results.len() {
            return Err(WrongAnswer::Queries { expected: self.results.len(), found: answer.len() });
        }
        let expected = usize::try_from(rows).unwrap_or(usize::MAX).min(self.topk);
        for (query, SearchResult { hits }) in answer.iter().enumerate() {
            if hits.len() != expected {
                return Err(WrongAnswer::Hits { query, expected, found: hits.len() });
            }
            // Not equal either: that would be one vector twice.
            if !hits.is_sorted_by(|left, right| order::nearer(self.metric, left, right).is_lt()) {
                return Err(WrongAnswer::Order { query });
            }
        }
        Ok(())
    }

    /// Adds an answer, but for the vectors with these ids: those of segments that another node has answered for already.
    pub(crate) fn add(&mut self, answer: Vec<SearchResult>, besides: &[Range<i64>]) {
        for (result, SearchResult { mut hits }) in self.results.iter_mut().zip(answer) {
            if !besides.is_empty() {
                hits.retain(|hit| !besides.iter().any(|ids| ids.contains(&hit.id)));
            }
            let before = std::mem::take(&mut result.hits);
            result.hits = if before.is_empty() { hits } else { merged(self.metric, self.topk, before, hits) };
        }
    }

    /// The nearest of all that was added.
    pub(crate) fn into_results(self) -> Vec<SearchResult> {
        self.results
    }
}

/// The nearest of two that are in order.
fn merged(metric: MetricType, topk: usize, left: Vec<SearchHit>, right: Vec<SearchHit>) -> Vec<SearchHit> {
    let mut merged = Vec::with_capacity(topk.min(left.len() + right.len()));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while merged.len() < topk {
        let next = match (left.peek(), right.peek()) {
            (Some(one), Some(other)) if order::nearer(metric, one, other).is_gt() => right.next(),
            (Some(_), _) => left.next(),
            (None, _) => right.next(),
        };
        match next {
            Some(hit) => merged.push(hit),
            None => break,
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(hits: &[(i64, f64)]) -> SearchResult {
        SearchResult { hits: hits.iter().map(|(id, score)| SearchHit { id: *id, score: *score }).collect() }
    }

    #[test]
    fn answers_are_merged_nearest_first_and_of_equals_the_smaller_id() {
        let mut nearest = Nearest::new(MetricType::L2, 3, 2);
        nearest.add(vec![result(&[(4, 1.0), (5, 2.0)]), result(&[(4, 0.0)])], &[]);
        nearest.add(vec![result(&[(1, 1.0), (9, 2.0)]), result(&[(1, -0.0)])], &[]);
        nearest.add(vec![result(&[]), result(&[])], &[]);
        assert_eq!(nearest.into_results(), [result(&[(1, 1.0), (4, 1.0), (5, 2.0)]), result(&[(1, -0.0), (4, 0.0)])]);
        let mut nearest = Nearest::new(MetricType::Ip, 2, 1);
        nearest.add(vec![result(&[(1, 3.0), (2, 1.0)])], &[]);
        nearest.add(vec![result(&[(3, 2.0)])], &[]);
        assert_eq!(nearest.into_results(), [result(&[(1, 3.0), (3, 2.0)])]);
    }

    #[test]
    fn what_another_has_answered_for_is_not_there_twice() {
        let mut nearest = Nearest::new(MetricType::L2, 3, 1);
        nearest.add(vec![result(&[(1, 1.0), (2, 2.0)])], &[]);
        // Another machine may round otherwise.
        nearest.add(vec![result(&[(1, 1.5), (7, 1.7), (2, 2.5)])], &[1..3, 20..30]);
        assert_eq!(nearest.into_results(), [result(&[(1, 1.0), (7, 1.7), (2, 2.0)])]);
    }

    #[test]
    fn an_answer_of_too_few_too_many_or_in_disorder_is_none() {
        let nearest = Nearest::new(MetricType::L2, 2, 1);
        let check = |hits: &[(i64, f64)], rows| nearest.check(&[result(hits)], rows);
        assert_eq!(check(&[(1, 1.0), (2, 1.0)], 9), Ok(()));
        assert_eq!(check(&[(1, 1.0)], 1), Ok(()));
        assert_eq!(nearest.check(&[], 9), Err(WrongAnswer::Queries { expected: 1, found: 0 }));
        assert_eq!(check(&[(1, 1.0)], 9), Err(WrongAnswer::Hits { query: 0, expected: 2, found: 1 }));
        let three = [(1, 1.0), (2, 1.0), (3, 1.0)];
        assert_eq!(check(&three, 9), Err(WrongAnswer::Hits { query: 0, expected: 2, found: 3 }));
        assert_eq!(check(&[(2, 1.0), (1, 1.0)], 9), Err(WrongAnswer::Order { query: 0 }));
        assert_eq!(check(&[(1, 2.0), (2, 1.0)], 9), Err(WrongAnswer::Order { query: 0 }));
        assert_eq!(check(&[(1, 1.0), (1, 1.0)], 9), Err(WrongAnswer::Order { query: 0 }));
    }
}

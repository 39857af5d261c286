//! A collection as the test wrote it, and what a search in it has to find: a brute force in float64.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use proto::querycoord::v1::SearchResponse;
use proto::querynode::v1::SearchHit;
use proto::rootcoord::v1::MetricType;
use tests::vectors::{Found, Vectors, before, score};

/// Two float64 sums of the same products in another order differ by less than this part of what was summed.
const ROUNDING: f64 = 1e-12;

/// A collection and its segments, in the order of their ids.
#[derive(Clone)]
pub struct Collection {
    pub name: String,
    pub id: i64,
    pub metric: MetricType,
    pub segments: Vec<Segment>,
}

/// A segment, as it was written.
#[derive(Clone)]
pub struct Segment {
    pub id: i64,
    pub first_id: i64,
    pub vectors: Vectors,
    pub path: PathBuf,
}

/// Queries, how many vectors to find for each, and what is right.
pub struct Question {
    pub collection: Arc<Collection>,
    pub queries: Vectors,
    pub topk: usize,
    /// Of each segment, for each query.
    nearest: Vec<Vec<Vec<Found>>>,
}

impl Collection {
    /// The ids of its segments.
    pub fn segment_ids(&self) -> BTreeSet<i64> {
        self.segments.iter().map(|segment| segment.id).collect()
    }

    /// How many vectors it has.
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.vectors.rows()).sum()
    }

    fn dimension(&self) -> usize {
        self.segments[0].vectors.dimension
    }

    /// The vector with that id.
    fn vector(&self, id: i64) -> Option<&[f32]> {
        self.segments.iter().find_map(|segment| {
            let row = usize::try_from(id - segment.first_id).ok().filter(|row| *row < segment.vectors.rows())?;
            Some(segment.vectors.row(row))
        })
    }

    /// A question with these queries.
    pub fn question(self: &Arc<Self>, queries: Vectors, topk: usize) -> Question {
        let nearest = |segment: &Segment| segment.vectors.nearest(self.metric, segment.first_id, &queries, topk);
        let nearest = self.segments.iter().map(nearest).collect();
        Question { collection: Arc::clone(self), queries, topk, nearest }
    }

    /// A question whose answer is of no interest.
    pub fn unjudged(self: &Arc<Self>, queries: Vectors, topk: usize) -> Question {
        Question { collection: Arc::clone(self), queries, topk, nearest: Vec::new() }
    }

    /// A question of so many queries, of which about half are vectors of the collection itself.
    pub fn any_question(self: &Arc<Self>, dice: &mut Rng, queries: usize, topk: usize) -> Question {
        let mut asked = Vectors::random(dice.u64(..), queries, self.dimension());
        let dimension = self.dimension();
        for number in 0..queries {
            if dice.bool() {
                let vectors = &self.segments[dice.usize(..self.segments.len())].vectors;
                let row = vectors.row(dice.usize(..vectors.rows()));
                asked.values[number * dimension..][..dimension].copy_from_slice(row);
            }
        }
        self.question(asked, topk)
    }
}

impl Question {
    /// What is right where these segments were not searched.
    fn expected(&self, query: usize, without: &BTreeSet<i64>) -> Vec<Found> {
        let segments = self.collection.segments.iter().zip(&self.nearest);
        let searched = segments.filter(|(segment, _)| !without.contains(&segment.id));
        let mut found: Vec<Found> = searched.flat_map(|(_, nearest)| nearest[query].iter().copied()).collect();
        let metric = self.collection.metric;
        // No two have one id, so one of the two comes before the other.
        found.sort_by(|one, other| if before(metric, one, other) { Ordering::Less } else { Ordering::Greater });
        found.truncate(self.topk);
        found
    }

    /// Is the answer right for all segments that it says it has searched? The ids of the others, or what is wrong.
    pub fn check(&self, answer: &SearchResponse) -> Result<BTreeSet<i64>, String> {
        let missing: BTreeSet<i64> = answer.missing.iter().map(|missing| missing.segment_id).collect();
        let honest = missing.len() == answer.missing.len()
            && answer.partial != missing.is_empty()
            && missing.is_subset(&self.collection.segment_ids())
            && missing.len() < self.collection.segments.len()
            && answer.collection_id == self.collection.id;
        if !honest {
            return Err(format!("partial is {}, missing are {:?}", answer.partial, answer.missing));
        }
        if answer.results.len() != self.queries.rows() {
            return Err(format!("{} results for {} queries", answer.results.len(), self.queries.rows()));
        }
        for (query, result) in answer.results.iter().enumerate() {
            let expected = self.expected(query, &missing);
            self.check_hits(query, &result.hits, &expected).map_err(|wrong| {
                format!(
                    "collection '{}', query {query}, without {missing:?}: {wrong}; found {:?}, expected {expected:?}",
                    self.collection.name, result.hits
                )
            })?;
        }
        Ok(missing)
    }

    /// The ids are those of the brute force; they may differ only where float64 scores differ, by no more than rounding.
    fn check_hits(&self, query: usize, hits: &[SearchHit], expected: &[Found]) -> Result<(), String> {
        if hits.len() != expected.len() {
            return Err(format!("{} hits", hits.len()));
        }
        if hits.iter().map(|hit| hit.id).collect::<HashSet<_>>().len() != hits.len() {
            return Err("one vector twice".to_owned());
        }
        for (place, (hit, right)) in hits.iter().zip(expected).enumerate() {
            let vector = self.collection.vector(hit.id).ok_or_else(|| format!("no vector has id {}", hit.id))?;
            let query = self.queries.row(query);
            let metric = self.collection.metric;
            // What all metrics sum up at most, so that sums near 0 are judged by what they were made of.
            let norms = score(MetricType::Ip, query, query) + score(MetricType::Ip, vector, vector);
            let rounding = ROUNDING * norms.max(1.0);
            let own = score(metric, query, vector);
            if (hit.score - own).abs() > rounding {
                return Err(format!("hit {place} has score {}, and is {own}", hit.score));
            }
            let difference = (own - right.score).abs();
            if hit.id != right.id && !(difference > 0.0 && difference <= rounding) {
                return Err(format!("hit {place} is {}, not {}", hit.id, right.id));
            }
        }
        Ok(())
    }

    /// The answer is right, and no segment is missing.
    #[track_caller]
    pub fn assert_whole(&self, answer: &SearchResponse) {
        match self.check(answer) {
            Ok(missing) => assert!(missing.is_empty(), "a partial answer: {:?}", answer.missing),
            Err(wrong) => panic!("{wrong}"),
        }
    }
}

/// Files of so many vectors each, with components in [-1, 1). About one vector in ten is there once more, in the same file or
/// another, and a few are zero: there are ties.
pub fn parts(dice: &mut Rng, rows: impl IntoIterator<Item = usize>, dimension: usize) -> Vec<Vectors> {
    let mut parts: Vec<Vectors> = Vec::new();
    for rows in rows {
        let mut part = Vectors::random(dice.u64(..), rows, dimension);
        for row in 0..rows {
            let at = row * dimension..(row + 1) * dimension;
            match dice.u32(..60) {
                0 => part.values[at].fill(0.0),
                1..=3 => part.values.copy_within(0..dimension, at.start),
                4..=6 if !parts.is_empty() => {
                    let other = &parts[dice.usize(..parts.len())];
                    let again = other.row(dice.usize(..other.rows()));
                    part.values[at].copy_from_slice(again);
                }
                _ => {}
            }
        }
        parts.push(part);
    }
    parts
}

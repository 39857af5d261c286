//! Where the segments of a collection are to be: a value, and the rule by which it is made.

use std::collections::{BTreeMap, BTreeSet};

use proto::records::{CollectionRecord, SegmentRecord};
use proto::rootcoord::v1::{CollectionInfo, SegmentInfo};
use serde::{Deserialize, Serialize};

/// Where the segments of one collection are to be. It is kept in the metadata, so that a restarted QueryCoord goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) collection: CollectionRecord,
    /// On how many nodes each segment is to be.
    #[serde(default = "one")]
    pub(crate) replica_number: u32,
    /// In the order of their ids.
    pub(crate) segments: Vec<Placed>,
}

fn one() -> u32 {
    1
}

/// A segment and the node that is to hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) segment: SegmentRecord,
    /// The server id of a QueryNode.
    pub(crate) node: i64,
}

/// There is no node to place segments on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no querynode can be called")]
pub(crate) struct NoNodes;

impl Plan {
    /// A plan for these segments. What `before` has on one of these nodes stays there; each of the others, the largest
    /// first, comes to the node that then has the fewest rows. `rows` are those that the nodes hold of other collections.
    pub(crate) fn new(
        collection: &CollectionInfo,
        segments: &[SegmentInfo],
        before: Option<&Self>,
        nodes: &BTreeSet<i64>,
        rows: &BTreeMap<i64, u64>,
    ) -> Result<Self, NoNodes> {
        let at_before = before.map(Self::nodes_of_segments).unwrap_or_default();
        let mut rows: BTreeMap<i64, u64> =
            nodes.iter().map(|node| (*node, rows.get(node).copied().unwrap_or(0))).collect();
        let mut placed = Vec::with_capacity(segments.len());
        let mut homeless = Vec::new();
        for segment in segments {
            match at_before.get(&segment.segment_id).filter(|node| nodes.contains(node)) {
                Some(node) => placed.push(Placed { segment: segment.into(), node: *node }),
                None => homeless.push(segment),
            }
        }
        for each in &placed {
            *rows.entry(each.node).or_default() += each.segment.rows;
        }
        homeless.sort_by_key(|segment| (u64::MAX - segment.num_rows, segment.segment_id));
        for segment in homeless {
            let (node, at) = rows.iter_mut().min_by_key(|(node, rows)| (**rows, **node)).ok_or(NoNodes)?;
            *at += segment.num_rows;
            placed.push(Placed { segment: segment.into(), node: *node });
        }
        placed.sort_by_key(|each| each.segment.id);
        let replica_number = before.map_or(1, |before| before.replica_number);
        Ok(Self { collection: collection.into(), replica_number, segments: placed })
    }

    /// The segments of each node.
    pub(crate) fn by_node(&self) -> BTreeMap<i64, Vec<&SegmentRecord>> {
        let mut nodes = BTreeMap::<_, Vec<_>>::new();
        for Placed { segment, node } in &self.segments {
            nodes.entry(*node).or_default().push(segment);
        }
        nodes
    }

    /// The vectors of all its segments.
    pub(crate) fn rows(&self) -> u64 {
        self.segments.iter().map(|placed| placed.segment.rows).sum()
    }

    /// What is in this plan and not in that: the segments of each node.
    pub(crate) fn without(&self, other: Option<&Self>) -> BTreeMap<i64, Vec<i64>> {
        let others = other.map(Self::nodes_of_segments).unwrap_or_default();
        let mut nodes = BTreeMap::<_, Vec<_>>::new();
        for Placed { segment, node } in &self.segments {
            if others.get(&segment.id) != Some(node) {
                nodes.entry(*node).or_default().push(segment.id);
            }
        }
        nodes
    }

    fn nodes_of_segments(&self) -> BTreeMap<i64, i64> {
        self.segments.iter().map(|placed| (placed.segment.id, placed.node)).collect()
    }
}

/// What has to be done with a node so that it holds what the plans want.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// To be loaded, by collection; with its plan, which says the collection.
    pub(crate) load: Vec<(CollectionRecord, Vec<SegmentRecord>)>,
    /// To be released.
    pub(crate) release: Vec<i64>,
}

impl Difference {
    /// What a node that holds these segments is short of, and has too much.
    pub(crate) fn new<'a>(node: i64, held: &BTreeSet<i64>, plans: impl IntoIterator<Item = &'a Plan>) -> Self {
        let mut difference = Self::default();
        let mut wanted = BTreeSet::new();
        for plan in plans {
            let of_node = plan.by_node().remove(&node).unwrap_or_default();
            wanted.extend(of_node.iter().map(|segment| segment.id));
            let missing: Vec<_> = of_node.into_iter().filter(|segment| !held.contains(&segment.id)).cloned().collect();
            if !missing.is_empty() {
                difference.load.push((plan.collection.clone(), missing));
            }
        }
        difference.release = held.difference(&wanted).copied().collect();
        difference
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use super::*;

    fn segment(segment_id: i64, num_rows: u64) -> SegmentInfo {
        SegmentInfo { segment_id, num_rows, ..SegmentInfo::default() }
    }

    fn plan(segments: &[SegmentInfo], before: Option<&Plan>, nodes: &[i64], rows: &[(i64, u64)]) -> Plan {
        let nodes = nodes.iter().copied().collect();
        Plan::new(&CollectionInfo::default(), segments, before, &nodes, &rows.iter().copied().collect()).unwrap()
    }

    fn at(plan: &Plan) -> Vec<(i64, i64)> {
        plan.segments.iter().map(|placed| (placed.segment.id, placed.node)).collect()
    }

    #[test]
    fn segments_are_spread_by_rows() {
        let segments = [segment(1, 10), segment(2, 60), segment(3, 30), segment(4, 20)];
        assert_eq!(at(&plan(&segments, None, &[7, 8], &[])), [(1, 8), (2, 7), (3, 8), (4, 8)]);
        // Node 8 has much of another collection.
        assert_eq!(at(&plan(&segments[..1], None, &[7, 8], &[(7, 5), (8, 1)])), [(1, 8)]);
        assert_eq!(at(&plan(&segments[..1], None, &[7, 8], &[(7, 5), (8, 9), (9, 0)])), [(1, 7)]);
    }

    #[test]
    fn what_is_placed_stays_and_what_lost_its_node_moves() {
        let segments = [segment(1, 10), segment(2, 10), segment(3, 10)];
        let before = plan(&segments[..2], None, &[7, 8], &[]);
        assert_eq!(at(&before), [(1, 7), (2, 8)]);
        let after = plan(&segments, Some(&before), &[8, 9], &[]);
        assert_eq!(at(&after), [(1, 9), (2, 8), (3, 8)]);
        assert_eq!(after.without(Some(&before)), [(8, vec![3]), (9, vec![1])].into());
        assert_eq!(before.without(Some(&after)), [(7, vec![1])].into());
        // A segment that the collection has no more is not placed.
        assert_eq!(at(&plan(&segments[1..], Some(&after), &[8, 9], &[])), [(2, 8), (3, 8)]);
    }

    #[test]
    fn without_nodes_only_a_collection_without_segments_is_placed() {
        let none = BTreeSet::new();
        let place =
            |segments: &[SegmentInfo]| Plan::new(&CollectionInfo::default(), segments, None, &none, &BTreeMap::new());
        assert_eq!(place(&[segment(1, 1)]), Err(NoNodes));
        assert_eq!(place(&[]).unwrap().segments, []);
    }

    #[test]
    fn any_plan_is_even_to_within_its_largest_segment() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let segments: Vec<_> = (0..random.i64(1..60)).map(|id| segment(id, random.u64(1..1000))).collect();
            let nodes: Vec<_> = (0..random.i64(1..8)).collect();
            let plan = plan(&segments, None, &nodes, &[]);
            let by_node = plan.by_node();
            let rows = |node| by_node.get(node).map_or(0, |held| held.iter().map(|segment| segment.rows).sum::<u64>());
            let rows: Vec<_> = nodes.iter().map(rows).collect();
            let largest = segments.iter().map(|segment| segment.num_rows).max().unwrap();
            assert!(rows.iter().max().unwrap() - rows.iter().min().unwrap() <= largest, "{rows:?}");
            assert_eq!(plan.rows(), segments.iter().map(|segment| segment.num_rows).sum::<u64>());
            assert_eq!(plan.segments.len(), segments.len());
        }
    }

    #[test]
    fn a_node_is_told_what_it_is_short_of_and_has_too_much() {
        let plan = plan(&[segment(1, 1), segment(2, 1), segment(3, 1), segment(4, 1)], None, &[7, 8], &[]);
        assert_eq!(at(&plan), [(1, 7), (2, 8), (3, 7), (4, 8)]);
        let difference = Difference::new(7, &[1, 2, 99].into(), [&plan]);
        let missing = plan.segments[2].segment.clone();
        assert_eq!(
            difference,
            Difference { load: vec![(plan.collection.clone(), vec![missing])], release: vec![2, 99] }
        );
        assert_eq!(Difference::new(8, &[2, 4].into(), [&plan]), Difference::default());
    }
}

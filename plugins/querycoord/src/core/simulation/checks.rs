//! What has to hold after each action, after each step, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Action, Core, Key, Record};
use super::world::{SETTINGS, World};
use crate::serving::Standing;

impl World {
    /// Nothing is released that is wanted there, by the metadata or by searches.
    pub(super) fn check_action(&self, action: &Action) {
        let Action::Release { node, segments, .. } = action else { return };
        let serving = serving(&self.core);
        for (key, value) in &self.metadata {
            let Key::Segment(_, id) = key else { continue };
            let Ok(Record::Segment { nodes, .. }) = serde_json::from_slice(value) else { panic!("{key}: {value:?}") };
            let is_wanted = serving.contains_key(id) && nodes.contains(node);
            assert!(!segments.contains(id) || !is_wanted, "{id} is released on {node}, and kept there");
        }
        for segment in segments {
            assert!(!serving.get(segment).is_some_and(|nodes| nodes.contains(node)), "{segment} is searched on {node}");
        }
    }

    /// What has become unreachable without a fault is lost to searches.
    pub(super) fn check_step(&self, before: &BTreeSet<i64>) {
        let loads = self.under_way.iter().filter(|(action, _)| matches!(action, Action::Load { .. })).count();
        assert!(loads <= SETTINGS.max_moves, "{loads} loads at once");
        let (serving, after) = (serving(&self.core), self.reachable());
        let lost = |id: &&i64| {
            let nodes = serving.get(id);
            nodes.is_some_and(|nodes| !nodes.iter().any(|node| self.is_mistaken_for_callable(*node)))
        };
        let lost = before.difference(&after).filter(lost).find(|id| !self.forgotten.contains(id));
        assert!(lost.is_none(), "{lost:?} could be searched, and cannot any more: {serving:?}");
    }

    /// It cannot be called any more, and nobody has been told so yet.
    fn is_mistaken_for_callable(&self, id: i64) -> bool {
        let callable = |standing| matches!(standing, Standing::Callable | Standing::Stopping);
        let thought = self.core.nodes.get(&id).is_some_and(|node| callable(node.standing));
        thought && !self.nodes.get(&id).is_some_and(|node| callable(node.standing))
    }

    /// The segments that searches are sent to a node for that holds them and can be called.
    pub(super) fn reachable(&self) -> BTreeSet<i64> {
        let callable = |standing| matches!(standing, Standing::Callable | Standing::Stopping);
        let holds = |node: &i64, segment: &i64| {
            self.nodes.get(node).is_some_and(|node| callable(node.standing) && node.held.contains(segment))
        };
        let serving = serving(&self.core).into_iter();
        let reachable = serving.filter(|(id, nodes)| nodes.iter().any(|node| holds(node, id)));
        reachable.map(|(id, _)| id).collect()
    }

    /// Where a search would be told that a segment is not there.
    pub(super) fn vain_search(&self) -> Option<(i64, i64)> {
        let sent =
            serving(&self.core).into_iter().flat_map(|(id, nodes)| nodes.into_iter().map(move |node| (node, id)));
        let mut vain = sent.filter(|(node, id)| self.nodes.get(node).is_some_and(|node| !node.held.contains(id)));
        vain.next()
    }

    pub(super) fn check_rest(&self) {
        assert!(self.callers.is_empty(), "nobody answered {:?}", self.callers);
        assert!(self.under_way.is_empty() && self.notices.is_empty());
        let mut held: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            node.held.iter().for_each(|segment| {
                held.entry(*segment).or_default().insert(*id);
            });
        }
        let (mut replicas, mut kept) = (BTreeMap::new(), BTreeMap::new());
        let mut rows = BTreeMap::new();
        for value in self.metadata.values() {
            match serde_json::from_slice(value).expect("a record") {
                Record::Collection { collection, replica_number, .. } => {
                    assert!(!self.dropped.contains(&collection.id), "{} is dropped, and loaded", collection.id);
                    replicas.insert(collection.id, replica_number);
                }
                Record::Segment { segment, nodes, .. } => {
                    let wanted = (replicas[&segment.collection] as usize).min(self.nodes.len());
                    let at = held.remove(&segment.id).unwrap_or_default();
                    assert_eq!(at.len(), wanted, "{} of {} is on {at:?}", segment.id, segment.collection);
                    if wanted > 0 {
                        assert_eq!(nodes, at.iter().copied().collect::<Vec<_>>(), "the metadata of {}", segment.id);
                    }
                    kept.entry(segment.collection).or_insert_with(BTreeSet::new).insert(segment.id);
                    rows.insert(segment.id, segment.rows);
                    let shown = serving(&self.core).remove(&segment.id);
                    assert_eq!(shown.map(BTreeSet::from_iter), Some(at), "what searches of {} go by", segment.id);
                }
            }
        }
        assert!(held.is_empty(), "held, and wanted by nobody: {held:?}");
        let told = |id: &i64| !self.doubtful.contains(id);
        for (id, (number, segments)) in self.promised.iter().filter(|(id, _)| told(id)) {
            assert_eq!(replicas.get(id), Some(number), "the replicas of {id}");
            assert_eq!(kept.get(id).unwrap_or(&BTreeSet::new()), segments, "the segments of {id}");
        }
        for id in replicas.keys().filter(|id| told(id)) {
            assert!(self.promised.contains_key(id), "{id} is loaded, and nobody was told so");
        }
        self.check_even(&rows);
    }

    fn check_even(&self, rows: &BTreeMap<i64, u64>) {
        let of = |held: &BTreeSet<i64>| held.iter().map(|id| rows[id]).sum::<u64>();
        for (most, more) in &self.nodes {
            let largest = more.held.iter().map(|id| rows[id]).max().unwrap_or(0);
            for (least, fewer) in &self.nodes {
                let (more, fewer) = (of(&more.held), of(&fewer.held));
                assert!(
                    more <= fewer + largest,
                    "{most} has {more} rows, {least} has {fewer}, the largest is {largest}"
                );
            }
        }
        let overview = self.core.overview(self.now);
        assert_eq!(overview.moves, 0);
        let lacking = overview.collections.iter().flat_map(|collection| {
            let enough = collection.replica_number as usize <= self.nodes.len();
            collection.segments.iter().filter(move |segment| enough && segment.lacking.is_some())
        });
        assert_eq!(lacking.count(), 0, "{overview:?}");
    }
}

/// By segment: the nodes that searches may be sent to.
fn serving(core: &Core) -> BTreeMap<i64, Vec<i64>> {
    let collections = core.collections.keys().filter_map(|id| core.serving(*id));
    collections.flat_map(|serving| serving.segments).map(|served| (served.segment.id, served.nodes)).collect()
}

//! What searches go by, and what people are shown.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Collection, Core, Key, Segment, Time, Trouble};
use crate::serving::{CollectionOverview, Copy, NodeOverview, Overview, SegmentOverview, Served, Serving, Standing};

impl Core {
    /// The collections whose `Serving` has changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.changed)
    }

    /// What searches of a collection go by, where a load of it was completed.
    pub(crate) fn serving(&self, id: i64) -> Option<Serving> {
        self.serving_by(id, |segment| {
            let rank = |node: &i64| match self.nodes.get(node).map(|node| node.standing) {
                Some(Standing::Callable) => 0,
                Some(Standing::Stopping) => 1,
                Some(Standing::Unreachable) => 2,
                Some(Standing::GivenUp) | None => 3,
            };
            let mut nodes: Vec<_> = segment.holders.iter().copied().collect();
            nodes.sort_by_key(rank);
            nodes
        })
    }

    /// The same by these records of the collection, which somebody else has written since.
    pub(crate) fn serving_by_records(
        &self,
        id: i64,
        records: impl IntoIterator<Item = (Key, Bytes)>,
    ) -> Option<Serving> {
        let mut now = Self::new(self.settings, records).0;
        for (node, at) in &mut now.nodes {
            at.standing = self.nodes.get(node).map_or(at.standing, |known| known.standing);
        }
        now.serving(id)
    }

    /// The same with the nodes that each segment is to be on.
    pub(super) fn placements(&self, id: i64) -> Option<Serving> {
        self.serving_by(id, |segment| segment.aim.iter().copied().collect())
    }

    fn serving_by(&self, id: i64, nodes: impl Fn(&Segment) -> Vec<i64>) -> Option<Serving> {
        let collection = self.collections.get(&id).filter(|collection| collection.replicas > 0)?;
        let callable = |id: &&i64| self.nodes.get(id).is_some_and(|node| node.standing == Standing::Callable);
        let served = |segment: &Segment| {
            let nodes = nodes(segment);
            Served { segment: segment.record.clone(), callable: nodes.iter().filter(callable).count(), nodes }
        };
        Some(Serving {
            collection: collection.record.clone(),
            replica_number: collection.replicas,
            segments: self.committed(collection).map(served).collect(),
        })
    }

    fn committed(&self, collection: &Collection) -> impl Iterator<Item = &Segment> {
        let segments = collection.segments.iter().filter_map(|id| self.segments.get(id));
        segments.filter(|segment| segment.committed)
    }

    /// Is a collection loaded, or being loaded?
    pub(crate) fn is_wanted(&self, id: i64) -> bool {
        self.collections.contains_key(&id)
    }

    /// The newest loaded collection that had this name when it was loaded.
    pub(crate) fn newest_named(&self, name: &str) -> Option<i64> {
        self.collections.iter().rev().find(|(_, collection)| collection.record.name == name).map(|(id, _)| *id)
    }

    /// How nodes and segments stand for all that is known.
    pub(crate) fn overview(&self, now: Time) -> Overview {
        let nodes = self.nodes.iter().map(|(id, node)| NodeOverview {
            id: *id,
            address: node.address.clone(),
            standing: node.standing,
            error: if node.told { String::new() } else { untold(&node.calls) },
            failed_loads: node.loads.count,
            last_load_error: node.loads.error.clone(),
            next_load: node.loads.until.checked_sub(now).filter(|left| !left.is_zero()),
        });
        let loaded = self.collections.values().filter(|collection| collection.replicas > 0);
        let collections = loaded.map(|collection| CollectionOverview {
            collection: collection.record.clone(),
            replica_number: collection.replicas,
            segments: self
                .committed(collection)
                .map(|segment| self.overview_of(segment, collection.replicas))
                .collect(),
        });
        Overview { nodes: nodes.collect(), collections: collections.collect(), moves: self.moves() as u32 }
    }

    fn overview_of(&self, segment: &Segment, replicas: u32) -> SegmentOverview {
        let id = segment.record.id;
        let nodes: BTreeSet<_> =
            segment.aim.iter().chain(&segment.holders).chain(segment.failures.keys()).copied().collect();
        let copies = nodes.into_iter().map(|node| Copy {
            node,
            wanted: segment.aim.contains(&node),
            held: segment.holders.contains(&node),
            loading: self.nodes.get(&node).is_some_and(|at| at.loading.contains_key(&id)),
            error: segment.failures.get(&node).map(|trouble| trouble.error.clone()).unwrap_or_default(),
        });
        let held = segment.aim.intersection(&segment.holders).count() as u32;
        let lacking = replicas.checked_sub(held).filter(|lacks| *lacks > 0);
        let lacking = lacking.map(|lacks| (lacks, self.why_lacking(segment, replicas)));
        SegmentOverview { segment: segment.record.clone(), copies: copies.collect(), lacking }
    }

    fn why_lacking(&self, segment: &Segment, replicas: u32) -> String {
        if !self.table {
            return "nobody has told yet which querynodes there are".to_owned();
        }
        let id = segment.record.id;
        let to_come = segment.aim.difference(&segment.holders);
        let to_come = to_come.map(|node| match self.nodes.get(node) {
            Some(at) if at.loading.contains_key(&id) => format!("querynode-{node} is loading it"),
            _ => format!("querynode-{node} is to load it"),
        });
        let mut reasons: Vec<_> = to_come.collect();
        if segment.aim.len() < replicas as usize {
            let callable = self.nodes.values().filter(|node| node.standing == Standing::Callable).count();
            let mut failed: Vec<_> = segment.failures.iter().collect();
            failed.sort_by_key(|(_, trouble)| Reverse(trouble.until));
            reasons.extend(
                failed.iter().map(|(node, trouble)| format!("querynode-{node} failed to load it ({})", trouble.error)),
            );
            if callable < replicas as usize {
                let nodes = if callable == 1 { "querynode" } else { "querynodes" };
                reasons.push(format!("{callable} {nodes} can be called"));
            }
            let alone = self.nodes.iter().filter(|(id, node)| {
                node.loads.until > self.now && !segment.aim.contains(id) && !segment.failures.contains_key(id)
            });
            reasons.extend(
                alone.map(|(id, node)| format!("querynode-{id} is left alone as it failed ({})", node.loads.error)),
            );
        }
        if self.fenced {
            reasons.push("the metadata cannot be written now".to_owned());
        }
        reasons.join("; ")
    }
}

fn untold(calls: &Trouble) -> String {
    if calls.error.is_empty() {
        "it has not said yet what it holds".to_owned()
    } else {
        format!("it does not say what it holds ({})", calls.error)
    }
}

//! What the rules know beside the metadata, for a generation that takes over: how nodes stand and what they hold, where
//! segments are to be, what has failed, and loads that nobody waits for any more but that go on.
//!
//! The metadata stays the truth of what is loaded: what is recalled says only where that is, and about anything else nothing.
//! So a search finds right after the switch what it found before, and no move is begun twice or undone. Nothing is done by
//! what is recalled before the first table of nodes; then each is asked what it holds, as after any table.
//!
//! While it is paused nothing is begun: what is known then is what is handed over.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::records::{CollectionRecord, SegmentRecord};
use serde::{Deserialize, Serialize};

use super::loads::Asked;
use super::{Asked as Request, Collection, Core, Dismissal, Key, Node, Time, Trouble, Writing};
use crate::serving::Standing;

/// What is known at a moment: a part of version 1 of QueryCoord's state. Nodes, segments and collections by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knowledge {
    /// These are all nodes that there are, as a table has come.
    table: bool,
    nodes: Vec<KnownNode>,
    segments: Vec<KnownSegment>,
    loads: Vec<KnownLoad>,
    /// Keys of the metadata that may be written a moment after it was read.
    unsure: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownNode {
    id: i64,
    address: String,
    standing: Standing,
    told: bool,
    dismissed: bool,
    held: Vec<i64>,
    loads: KnownTrouble,
    calls: KnownTrouble,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownSegment {
    id: i64,
    aim: Vec<i64>,
    failures: Vec<(i64, KnownTrouble)>,
}

/// A load that is under way or waits; its caller has gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownLoad {
    collection: CollectionRecord,
    segments: Vec<SegmentRecord>,
    replica_number: u32,
}

/// As [`Trouble`], with how long it is left alone still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KnownTrouble {
    count: u32,
    left_ms: u64,
    error: String,
}

impl Core {
    /// From here on nothing is begun: what is under way may still be told of.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Is nothing under way that changes what somebody else finds later: no write, and no release?
    pub(crate) fn is_quiet(&self) -> bool {
        let writes = matches!(self.writing, Writing::Under(_) | Writing::Reading(_));
        !writes && !self.calls.values().any(|asked| matches!(asked, Request::Release { .. }))
    }

    /// What is known now.
    pub(crate) fn knowledge(&self, now: Time) -> Knowledge {
        let trouble = |trouble: &Trouble| KnownTrouble {
            count: trouble.count,
            left_ms: u64::try_from(trouble.until.saturating_sub(now).as_millis()).unwrap_or(u64::MAX),
            error: trouble.error.clone(),
        };
        let nodes = self.nodes.iter().map(|(id, node)| KnownNode {
            id: *id,
            address: node.address.clone(),
            standing: node.standing,
            told: node.told,
            dismissed: node.dismissal == Dismissal::Done,
            held: node.held.iter().copied().collect(),
            loads: trouble(&node.loads),
            calls: trouble(&node.calls),
        });
        // What was handed over a moment ago is handed on, as no table has come to begin with it.
        let segments = self.segments.keys().chain(self.planned.keys()).collect::<BTreeSet<_>>().into_iter().map(|id| {
            let segment = self.segments.get(id);
            let aim = || segment.iter().flat_map(|segment| &segment.aim).copied().collect();
            let failures = segment.iter().flat_map(|segment| &segment.failures);
            KnownSegment {
                id: *id,
                aim: self.planned.get(id).cloned().unwrap_or_else(aim),
                failures: failures.map(|(node, failed)| (*node, trouble(failed))).collect(),
            }
        });
        Knowledge {
            table: self.table || self.all_known,
            nodes: nodes.collect(),
            segments: segments.collect(),
            loads: self.collections.values().flat_map(|collection| self.loads_of(collection)).collect(),
            unsure: self.unsure().iter().map(Key::to_string).collect(),
        }
    }

    /// Of a collection: the load that is under way, then those that wait.
    fn loads_of(&self, collection: &Collection) -> Vec<KnownLoad> {
        let load =
            |segments, replica_number| KnownLoad { collection: collection.record.clone(), segments, replica_number };
        let under_way = collection.load.as_ref().map(|under_way| {
            let segments = collection.segments.iter().filter_map(|id| self.segments.get(id));
            load(segments.map(|segment| segment.record.clone()).collect(), under_way.replicas)
        });
        let waiting = collection.waiting.iter().map(|asked| load(asked.segments.clone(), asked.replica_number));
        under_way.into_iter().chain(waiting).collect()
    }

    fn unsure(&self) -> Vec<Key> {
        match &self.writing {
            Writing::Idle => Vec::new(),
            Writing::Under(changes) => changes.iter().map(|change| change.key).collect(),
            Writing::Unsure(keys) | Writing::Reading(keys) => keys.clone(),
        }
    }

    /// One that goes on from what this one knows, the metadata among it, with nothing under way.
    pub(crate) fn again(&self, now: Time) -> Self {
        let mut core = Self::new(self.settings, self.mirror.clone()).0;
        core.recall(now, self.knowledge(now));
        core
    }

    /// Goes by this, as far as it is about what the metadata has. Nothing has happened yet.
    pub(crate) fn recall(&mut self, now: Time, knowledge: Knowledge) {
        let Knowledge { table, nodes, segments, loads, unsure } = knowledge;
        (self.now, self.all_known) = (now, table);
        if table {
            let known: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
            let gone: Vec<_> = self.nodes.keys().filter(|id| !known.contains(id)).copied().collect();
            gone.into_iter().for_each(|id| self.lose(id));
        }
        nodes.into_iter().for_each(|node| self.recall_node(node));
        for KnownSegment { id, aim, failures } in segments {
            let failures: Vec<_> =
                failures.into_iter().map(|(node, failed)| (node, self.recall_trouble(failed))).collect();
            // One that is not in the metadata comes with its load, where that goes on.
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.failures.extend(failures);
            }
            self.planned.insert(id, aim);
        }
        for KnownLoad { collection, segments, replica_number } in loads {
            self.load(collection, Asked { token: None, segments, replica_number });
        }
        let unsure: Vec<_> = unsure.iter().filter_map(|name| Key::parse(name)).collect();
        if !unsure.is_empty() {
            self.writing = Writing::Unsure(unsure);
        }
        self.changed.extend(self.collections.keys());
    }

    fn recall_node(&mut self, known: KnownNode) {
        let KnownNode { id, address, standing, told, dismissed, held, loads, calls } = known;
        let (loads, calls) = (self.recall_trouble(loads), self.recall_trouble(calls));
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(String::new(), standing));
        (node.address, node.standing, node.told) = (address, standing, told);
        (node.loads, node.calls) = (loads, calls);
        if dismissed {
            node.dismissal = Dismissal::Done;
        }
        let held: BTreeSet<_> = held.into_iter().collect();
        // Before it has told, it may hold what the metadata says as well.
        let released: Vec<_> = node.held.difference(&held).filter(|_| told).copied().collect();
        released.into_iter().for_each(|segment| self.holds(id, segment, false));
        held.into_iter().for_each(|segment| self.holds(id, segment, true));
    }

    fn recall_trouble(&mut self, known: KnownTrouble) -> Trouble {
        let KnownTrouble { count, left_ms, error } = known;
        let left = Duration::from_millis(left_ms).min(self.settings.backoff_max);
        let until = if left.is_zero() { Time::ZERO } else { self.now + left };
        if !left.is_zero() {
            self.timers.insert(until);
        }
        Trouble { count, until, error }
    }
}

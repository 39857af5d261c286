//! Aims: on which nodes a segment is to be.
//!
//! The node that holds the segment already; else, of those that are open and not left alone after a failure, the one with the
//! fewest rows of all collections. A `LoadCollection` tries each node once: one that is left alone, last.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use tonic::{Code, Status};

use super::{Core, Key, Node, Segment, text_of};
use crate::serving::Standing;

impl Core {
    /// On how many nodes a segment is to be.
    pub(super) fn replicas(&self, segment: &Segment) -> usize {
        let Some(collection) = self.collections.get(&segment.record.collection) else { return 0 };
        let asked = collection.load.as_ref().map_or(0, |load| load.replicas);
        // What is loaded stays as it is until the load is completed.
        (if segment.committed { collection.replicas.max(asked) } else { asked }) as usize
    }

    pub(super) fn aim(&mut self, id: i64, node: i64) {
        let (Some(segment), Some(at)) = (self.segments.get_mut(&id), self.nodes.get_mut(&node)) else { return };
        if segment.aim.insert(node) {
            at.aimed.insert(id);
            at.rows += segment.record.rows;
        }
        self.touched.insert(id);
    }

    pub(super) fn unaim(&mut self, id: i64, node: i64) {
        let (Some(segment), Some(at)) = (self.segments.get_mut(&id), self.nodes.get_mut(&node)) else { return };
        if segment.aim.remove(&node) {
            at.aimed.remove(&id);
            at.rows -= segment.record.rows;
        }
        self.unqueue(id, node);
        self.touched.insert(id);
    }

    /// Compares what is wanted of a segment with what is.
    pub(super) fn examine(&mut self, id: i64) {
        let Some(segment) = self.segments.get(&id) else {
            let holders = self.nodes.iter().filter(|(_, node)| node.held.contains(&id)).map(|(node, _)| (*node, id));
            self.surplus.extend(holders);
            return;
        };
        let (of, replicas) = (segment.record.collection, self.replicas(segment));
        let drops = segment.aim.len().saturating_sub(replicas);
        if drops > 0 {
            let mut aim: Vec<_> = segment.aim.iter().copied().collect();
            aim.sort_by_key(|node| self.worth(id, *node));
            aim.truncate(drops);
            aim.into_iter().for_each(|node| self.unaim(id, node));
        }
        self.prefer_holders(id);
        let Some(segment) = self.segments.get(&id) else { return };
        if segment.aim.len() < replicas {
            self.place_again |= self.lacking.insert(id);
        } else {
            self.lacking.remove(&id);
        }
        self.queue(id);
        self.count(of, id);
        self.dirty.insert(Key::Segment(of, id));
        self.trim(id);
        // Each of these has touched it.
        self.touched.remove(&id);
    }

    /// What an aim's node is worth: the least is given up first.
    fn worth(&self, id: i64, node: i64) -> (bool, bool, bool, Reverse<u64>, i64) {
        let Some(at) = self.nodes.get(&node) else { return (false, false, false, Reverse(u64::MAX), node) };
        let callable = at.standing == Standing::Callable;
        (at.held.contains(&id), at.loading.contains_key(&id), callable, Reverse(at.rows), node)
    }

    /// A load that has not begun is not needed where another node that may hold the segment does.
    fn prefer_holders(&mut self, id: i64) {
        while let Some(segment) = self.segments.get(&id) {
            let idle = |node: &&i64| {
                let at = self.nodes.get(node);
                !segment.holders.contains(node) && at.is_none_or(|at| !at.loading.contains_key(&id))
            };
            let other = |node: &&i64| !segment.aim.contains(node) && self.nodes.get(node).is_some_and(Node::is_open);
            let (Some(idle), Some(other)) = (segment.aim.iter().find(idle), segment.holders.iter().find(other)) else {
                return;
            };
            let (idle, other) = (*idle, *other);
            self.unaim(id, idle);
            self.aim(id, other);
        }
    }

    /// Which segments a holder need not hold any more: all of the aim hold it, the metadata says so, and one can be called. What
    /// is being loaded for the first time no search needs yet; but it may be aimed at whoever holds it.
    fn trim(&mut self, id: i64) {
        let Some(segment) = self.segments.get(&id) else { return };
        let is_aimed = segment.aim.len() >= self.replicas(segment);
        let settled = if segment.committed { self.is_safe(segment) } else { is_aimed };
        let due: Vec<_> = segment.holders.difference(&segment.aim).map(|node| (*node, id)).collect();
        for node in self.nodes.keys() {
            self.surplus.remove(&(*node, id));
        }
        if settled {
            self.surplus.extend(due);
        }
    }

    /// Is it where it is to be, and does the metadata say so?
    pub(super) fn is_settled(&self, segment: &Segment) -> bool {
        let kept = segment.kept.iter().flatten();
        let key = Key::Segment(segment.record.collection, segment.record.id);
        let known = !self.is_being_written(key) && kept.eq(&segment.aim);
        !segment.aim.is_empty() && segment.aim.is_subset(&segment.holders) && known
    }

    /// The same, and a search can be sent there.
    pub(super) fn is_safe(&self, segment: &Segment) -> bool {
        let callable = |node: &i64| self.nodes.get(node).is_some_and(|at| at.standing == Standing::Callable);
        self.is_settled(segment) && segment.aim.iter().any(callable)
    }

    /// Begins with what was handed over, else with what the metadata says, as far as the nodes are there.
    pub(super) fn aim_as_kept(&mut self) {
        let kept = self.segments.iter().filter(|(id, _)| !self.planned.contains_key(id));
        let kept = kept.filter_map(|(id, segment)| Some((*id, segment.kept.clone()?)));
        kept.collect::<Vec<_>>().into_iter().for_each(|(id, nodes)| self.aim_at(id, nodes));
        self.aim_as_planned(self.segments.keys().copied().collect());
    }

    /// Begins with what was handed over for these.
    pub(super) fn aim_as_planned(&mut self, segments: BTreeSet<i64>) {
        for id in segments {
            if let Some(nodes) = self.planned.remove(&id) {
                self.aim_at(id, nodes);
            }
        }
    }

    /// Aims at those of these nodes that stay.
    fn aim_at(&mut self, id: i64, nodes: Vec<i64>) {
        let stays = |at: &Node| matches!(at.standing, Standing::Callable | Standing::Unreachable);
        for node in nodes {
            if self.nodes.get(&node).is_some_and(stays) {
                self.aim(id, node);
            }
        }
    }

    /// Finds nodes for what is on too few.
    pub(super) fn place_lacking(&mut self) {
        let mut lacking: Vec<_> =
            self.lacking.iter().filter_map(|id| Some((self.segments.get(id)?.record.rows, *id))).collect();
        lacking.sort_unstable_by_key(|(rows, id)| (Reverse(*rows), *id));
        let untold = |node: &Node| node.standing == Standing::Callable && !node.told && node.calls.count == 0;
        let waits = self.nodes.values().any(untold);
        for (_, id) in lacking {
            // A load is spread over all nodes: those that have just come will have told in a moment.
            let of_load = |segment: &Segment| self.load_of(segment).is_some_and(|load| load.missing.contains(&id));
            if waits && self.segments.get(&id).is_some_and(of_load) {
                continue;
            }
            // A load that has failed meanwhile took its segments along.
            while let Some(segment) =
                self.segments.get(&id).filter(|segment| segment.aim.len() < self.replicas(segment))
            {
                match self.best(segment) {
                    Some(node) => self.aim(id, node),
                    None => {
                        self.cannot_place(id);
                        break;
                    }
                }
            }
        }
    }

    /// The best node for one replica more of a segment.
    fn best(&self, segment: &Segment) -> Option<i64> {
        let id = segment.record.id;
        let load = self.load_of(segment).filter(|load| load.missing.contains(&id));
        let open = |node: &&Node| node.is_open();
        let rest = self.nodes.iter().filter(|(id, node)| open(node) && !segment.aim.contains(id));
        let ranked = rest.filter_map(|(node, at)| {
            let holds = at.held.contains(&id);
            let alone = at.loads.until > self.now;
            let failed = segment.failures.get(node).is_some_and(|trouble| trouble.until > self.now);
            let may = match load {
                Some(load) => !load.failed.contains_key(&(id, *node)),
                None => !alone && !failed,
            };
            (holds || may).then_some((!holds, alone, at.rows, *node))
        });
        ranked.min().map(|(.., node)| node)
    }

    /// A load was refused, or not answered: the node is not asked for this segment for a while, and where the fault is not
    /// the file's, for none.
    pub(super) fn load_failed(&mut self, node: i64, id: i64, error: &Status) {
        let (settings, now) = (self.settings, self.now);
        tracing::warn!(segment = id, node, error = text_of(error), "a segment could not be loaded");
        let Some(at) = self.nodes.get_mut(&node) else { return };
        let of_file = matches!(error.code(), Code::NotFound | Code::InvalidArgument | Code::PermissionDenied);
        let mut waiting = Vec::new();
        if of_file {
            at.loads.count += 1;
            at.loads.error = text_of(error);
        } else {
            // Nobody may know whether it was loaded.
            at.to_ask = true;
            Self::fail(settings, now, &mut self.timers, &mut at.loads, error);
            at.calls.until = at.calls.until.max(now + settings.backoff_min);
            self.timers.insert(at.calls.until);
            let begun = |id: &&i64| at.held.contains(id) || at.loading.contains_key(id);
            waiting.extend(at.aimed.iter().filter(|id| !begun(id)).copied());
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            Self::fail(settings, now, &mut self.timers, segment.failures.entry(node).or_default(), error);
            let of = segment.record.collection;
            if let Some(load) = self.collections.get_mut(&of).and_then(|collection| collection.load.as_mut()) {
                load.failed.insert((id, node), error.clone());
            }
        }
        waiting.into_iter().chain([id]).for_each(|id| self.unaim(id, node));
        self.place_again = true;
    }
}

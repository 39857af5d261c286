//! What nodes are told to do: load, release, go; and which segment is moved so that nodes hold as much as each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Asked, Core, Dismissal, Node, Segment};
use crate::serving::Standing;

/// Which load comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// No node holds it that a search can ask, and none is loading it.
    Lost,
    /// A node that is stopping holds it, and waits for that.
    Leaving,
    /// It is on too few nodes, or a caller waits for it.
    Lacking,
    /// It is moved.
    Move,
}

impl Urgency {
    fn text(self) -> &'static str {
        match self {
            Self::Lost => "no querynode that can be called holds it",
            Self::Leaving => "a querynode that holds it is stopping",
            Self::Lacking => "too few querynodes hold it",
            Self::Move => "it is moved",
        }
    }
}

impl Core {
    fn urgency(&self, segment: &Segment) -> Urgency {
        let stands = |standing| move |node: &&i64| self.nodes.get(node).is_some_and(|at| at.standing == standing);
        let has = |standing| segment.holders.iter().find(stands(standing)).is_some();
        let replicas = self.replicas(segment);
        let is_coming = || {
            let loads =
                |node| self.nodes.get(node).is_some_and(|at: &Node| at.loading.contains_key(&segment.record.id));
            segment.aim.iter().any(loads)
        };
        if !segment.committed {
            Urgency::Lacking
        } else if has(Standing::Stopping) {
            Urgency::Leaving
        } else if !has(Standing::Callable) && !has(Standing::Unreachable) && !is_coming() {
            Urgency::Lost
        } else if segment.holders.len() < replicas {
            // One replica of each segment comes before a second of any.
            Urgency::Lacking
        } else {
            Urgency::Move
        }
    }

    /// Puts the loads of a segment where they belong.
    pub(super) fn queue(&mut self, id: i64) {
        let Some(segment) = self.segments.get(&id) else { return };
        let (at, aim) = ((self.urgency(segment), segment.record.collection), segment.aim.clone());
        for node in aim {
            let due = self.nodes.get(&node).is_some_and(|at| !at.held.contains(&id) && !at.loading.contains_key(&id));
            if self.queued.get(&(node, id)).copied() != due.then_some(at) {
                self.unqueue(id, node);
                if due {
                    self.queued.insert((node, id), at);
                    self.todo.entry(at).or_default().insert((node, id));
                }
            }
        }
    }

    pub(super) fn unqueue(&mut self, id: i64, node: i64) {
        let Some(at) = self.queued.remove(&(node, id)) else { return };
        if let Some(waiting) = self.todo.get_mut(&at) {
            waiting.remove(&(node, id));
            if waiting.is_empty() {
                self.todo.remove(&at);
            }
        }
    }

    fn loads_under_way(&self) -> usize {
        self.calls.values().filter(|asked| matches!(asked, Asked::Load { .. })).count()
    }

    /// Begins as many loads as may be under way: the most urgent, and of these those of the collection with the fewest.
    pub(super) fn start_loads(&mut self) {
        let mut under_way = BTreeMap::<i64, usize>::new();
        for asked in self.calls.values() {
            if let Asked::Load { segment, .. } = asked {
                let of = self.segments.get(segment).map_or(0, |segment| segment.record.collection);
                *under_way.entry(of).or_default() += 1;
            }
        }
        while self.loads_under_way() < self.settings.max_moves {
            let next = self.todo.iter().filter_map(|(at, waiting)| {
                let (node, id) = self.startable(waiting)?;
                Some((at.0, under_way.get(&at.1).copied().unwrap_or(0), at.1, node, id))
            });
            let Some((why, _, of, node, id)) = next.min() else { return };
            self.unqueue(id, node);
            let call = self.next_call();
            let (Some(at), Some(segment)) = (self.nodes.get_mut(&node), self.segments.get(&id)) else { return };
            let Some(collection) = self.collections.get(&of) else { return };
            at.loading.insert(id, call);
            at.changes(id);
            *under_way.entry(of).or_default() += 1;
            if segment.committed {
                tracing::info!(
                    segment = id,
                    collection = of,
                    node,
                    why = why.text(),
                    "a segment is loaded on one node more"
                );
            } else {
                // One line tells of the whole `LoadCollection`.
                tracing::debug!(segment = id, collection = of, node, "a segment is loaded");
            }
            let (collection, segment) = (collection.record.clone(), segment.record.clone());
            self.actions.push(Action::Load { call, node, collection, segment });
            self.calls.insert(call, Asked::Load { node, segment: id });
            // Its other replicas are less urgent now.
            self.queue(id);
        }
    }

    /// The first of these for whose node there is room.
    fn startable(&self, waiting: &BTreeSet<(i64, i64)>) -> Option<(i64, i64)> {
        let mut from = (i64::MIN, i64::MIN);
        while let Some((node, _)) = waiting.range(from..).next().copied() {
            let at = self.nodes.get(&node)?;
            let can = at.standing == Standing::Callable && at.loading.len() < self.settings.max_moves_per_node;
            let of_node = waiting.range((node, i64::MIN)..=(node, i64::MAX));
            if let Some(first) = of_node.take_while(|_| can).find(|(_, id)| !at.releasing.contains_key(id)) {
                return Some(*first);
            }
            from = (node.checked_add(1)?, i64::MIN);
        }
        None
    }

    /// Lets nodes release what nobody wants of them. One that is stopping keeps it: it goes anyway, and searches are on
    /// their way to it.
    pub(super) fn start_releases(&mut self) {
        let mut due = BTreeMap::<i64, Vec<i64>>::new();
        let nodes = &self.nodes;
        self.surplus.retain(|(id, segment)| {
            let Some(node) = nodes.get(id).filter(|node| node.held.contains(segment)) else { return false };
            if node.standing == Standing::Callable {
                due.entry(*id).or_default().push(*segment);
            }
            node.standing != Standing::Callable
        });
        for (id, segments) in due {
            for segment in &segments {
                // Searches must not go there any more.
                self.holds(id, *segment, false);
                self.touched.remove(segment);
            }
            tracing::info!(node = id, ?segments, "segments are released, as they are not wanted there");
            let call = self.next_call();
            if let Some(node) = self.nodes.get_mut(&id) {
                node.releasing.extend(segments.iter().map(|segment| (*segment, call)));
                segments.iter().for_each(|segment| node.changes(*segment));
            }
            self.calls.insert(call, Asked::Release { node: id, segments: segments.clone() });
            self.actions.push(Action::Release { call, node: id, segments });
        }
    }

    /// Aims one segment at a node with fewer rows, where that makes the two more even than their largest segment, nothing
    /// more urgent waits, and there is room for its load.
    pub(super) fn move_one(&mut self) -> bool {
        let idle = self.table && !self.fenced && self.todo.is_empty() && self.write_trouble.count == 0;
        if !self.even_again || !idle || self.loads_under_way() >= self.settings.max_moves {
            return false;
        }
        let mut nodes: Vec<_> = self.nodes.iter().filter(|(_, node)| node.is_open()).collect();
        nodes.sort_by_key(|(id, node)| (node.rows, **id));
        let takes = |node: &Node| node.loads.until <= self.now && node.loading.len() < self.settings.max_moves_per_node;
        let next = nodes.iter().filter(|(_, node)| takes(node)).find_map(|(to, least)| {
            let mut from = nodes.iter().rev().take_while(|(_, most)| most.rows > least.rows);
            from.find_map(|(from, most)| Some((self.best_move(most, **to, least)?, **from, **to)))
        });
        let Some((id, from, to)) = next else {
            self.even_again = false;
            return false;
        };
        tracing::info!(segment = id, from, node = to, "a segment is moved, to where fewer rows are");
        self.unaim(id, from);
        self.aim(id, to);
        // It holds the segment, and the rule that a holder is preferred would undo the move.
        self.begin_move(id, to);
        true
    }

    fn best_move(&self, from: &Node, to: i64, least: &Node) -> Option<i64> {
        let difference = from.rows - least.rows;
        let others = || from.aimed.difference(&least.aimed).filter_map(|id| self.segments.get(id));
        if others().any(|segment| segment.record.rows >= difference) {
            return None;
        }
        let can = |segment: &&Segment| {
            let left_alone = segment.failures.get(&to).is_some_and(|trouble| trouble.until > self.now);
            segment.record.rows > 0
                && segment.committed
                && !left_alone
                && self.is_settled(segment)
                && !least.releasing.contains_key(&segment.record.id)
        };
        let nearest = |segment: &&Segment| (segment.record.rows * 2).abs_diff(difference);
        others()
            .filter(can)
            .min_by_key(|segment| (nearest(segment), segment.record.rows, segment.record.id))
            .map(|best| best.record.id)
    }

    fn begin_move(&mut self, id: i64, to: i64) {
        let call = self.next_call();
        let (Some(segment), Some(node)) = (self.segments.get(&id), self.nodes.get_mut(&to)) else { return };
        let Some(collection) = self.collections.get(&segment.record.collection) else { return };
        node.loading.insert(id, call);
        node.changes(id);
        let (collection, segment) = (collection.record.clone(), segment.record.clone());
        self.actions.push(Action::Load { call, node: to, collection, segment });
        self.calls.insert(call, Asked::Load { node: to, segment: id });
    }

    /// Tells nodes that are stopping that they need not wait any more.
    pub(super) fn dismiss(&mut self) {
        let due = |node: &Node| {
            node.standing == Standing::Stopping && node.dismissal == Dismissal::Due && node.calls.until <= self.now
        };
        let due = self.nodes.iter().filter(|(_, node)| due(node));
        // The loads of the last of them are begun last.
        let free = due.filter(|(_, node)| !node.held.iter().rev().any(|id| self.is_leaving(*id)));
        for id in free.map(|(id, _)| *id).collect::<Vec<_>>() {
            let call = self.next_call();
            let stays = self.nodes.get(&id).map_or(0, |node| node.held.iter().filter(|id| self.is_left(**id)).count());
            let reason = match stays {
                0 => String::new(),
                count => format!("segments that stay, as no other querynode can take them: {count}"),
            };
            tracing::info!(node = id, reason, "a querynode that is stopping need not wait any longer");
            if let Some(node) = self.nodes.get_mut(&id) {
                node.dismissal = Dismissal::UnderWay(call);
            }
            self.actions.push(Action::Dismiss { call, node: id, reason });
        }
    }

    /// Has a node that is stopping to wait for this segment?
    fn is_leaving(&self, id: i64) -> bool {
        let Some(segment) = self.segments.get(&id).filter(|segment| segment.committed) else { return false };
        let could = |(node, at): (&i64, &Node)| {
            !segment.aim.contains(node) && matches!(at.standing, Standing::Callable | Standing::Unreachable)
        };
        let lacks = segment.aim.len() < self.replicas(segment);
        (!segment.aim.is_empty() && !self.is_safe(segment)) || (lacks && self.nodes.iter().any(could))
    }

    fn is_left(&self, id: i64) -> bool {
        self.segments.get(&id).is_some_and(|segment| segment.committed && segment.aim.is_empty())
    }

    /// How many segments are being loaded while a node outside their aim holds them.
    pub(super) fn moves(&self) -> usize {
        let moves = |segment: &&Segment| {
            segment.committed && !segment.aim.is_subset(&segment.holders) && !segment.holders.is_subset(&segment.aim)
        };
        self.segments.values().filter(moves).count()
    }
}

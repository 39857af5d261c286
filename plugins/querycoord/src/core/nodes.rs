//! Nodes: how they stand, and what they hold.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::{Action, Asked, CallId, Core, Dismissal, Input, Node, Seen, Trouble, text_of};
use crate::serving::Standing;

impl Node {
    pub(super) fn new(address: String, standing: Standing) -> Self {
        Self {
            address,
            standing,
            told: false,
            to_ask: false,
            asking: None,
            held: BTreeSet::new(),
            aimed: BTreeSet::new(),
            rows: 0,
            loading: BTreeMap::new(),
            releasing: BTreeMap::new(),
            loads: Trouble::default(),
            calls: Trouble::default(),
            dismissal: Dismissal::Due,
        }
    }

    /// May segments be placed on it?
    pub(super) fn is_open(&self) -> bool {
        self.standing == Standing::Callable && self.told
    }

    /// An answer that is under way may not know what has become of this segment.
    pub(super) fn changes(&mut self, segment: i64) {
        if let Some((_, changed)) = &mut self.asking {
            changed.insert(segment);
        }
    }
}

impl Core {
    pub(super) fn see_all(&mut self, seen: Vec<Seen>) {
        let there: BTreeSet<_> = seen.iter().map(|seen| seen.id).collect();
        let gone: Vec<_> = self.nodes.keys().filter(|id| !there.contains(id)).copied().collect();
        let first = !std::mem::replace(&mut self.table, true);
        self.place_again = true;
        gone.into_iter().for_each(|id| self.lose(id));
        for seen in seen {
            // Something may have been missed.
            let id = seen.id;
            self.see(seen);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.to_ask = true;
            }
        }
        if first {
            self.aim_as_kept();
        }
        let collections: Vec<_> = self.collections.keys().copied().collect();
        collections.into_iter().for_each(|id| self.begin_next(id));
    }

    pub(super) fn see(&mut self, seen: Seen) {
        let Seen { id, address, standing } = seen;
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(String::new(), Standing::Unreachable));
        let before = std::mem::replace(&mut node.standing, standing);
        node.address = address;
        if standing == Standing::Callable || !node.told {
            // Links that broke tell nothing of what the node did meanwhile.
            node.to_ask = true;
        }
        if standing == before {
            return;
        }
        tracing::info!(node = id, address = %node.address, ?standing, held = node.held.len(), "how a querynode stands");
        if standing == Standing::Callable {
            // What failed did so on a way that was broken.
            node.calls = Trouble::default();
        }
        let stays = |segment: &i64| match standing {
            Standing::Callable => true,
            Standing::Stopping | Standing::GivenUp => false,
            Standing::Unreachable => node.held.contains(segment) || node.loading.contains_key(segment),
        };
        let leaves: Vec<_> = node.aimed.iter().filter(|segment| !stays(segment)).copied().collect();
        // Who holds it no more than before, but can release it, or take others' place, or not any more.
        self.touched.extend(&node.held);
        for segment in leaves {
            self.unaim(segment, id);
        }
        self.place_again = true;
        self.even_again = true;
        self.changed.extend(self.collections.keys());
    }

    pub(super) fn lose(&mut self, id: i64) {
        let Some(node) = self.nodes.get(&id) else { return };
        let (held, aimed) = (node.held.clone(), node.aimed.clone());
        tracing::info!(node = id, address = %node.address, held = held.len(), "a querynode is gone");
        held.into_iter().for_each(|segment| self.holds(id, segment, false));
        aimed.into_iter().for_each(|segment| self.unaim(segment, id));
        self.nodes.remove(&id);
        self.surplus.retain(|(node, _)| *node != id);
        self.segments.values_mut().for_each(|segment| drop(segment.failures.remove(&id)));
        self.place_again = true;
        self.even_again = true;
    }

    /// A node holds a segment from now on, or does not any more.
    pub(super) fn holds(&mut self, node: i64, id: i64, holds: bool) {
        let Some(at) = self.nodes.get_mut(&node) else { return };
        let changed = if holds { at.held.insert(id) } else { at.held.remove(&id) };
        self.touched.insert(id);
        if !changed {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            if holds {
                segment.holders.insert(node);
            } else {
                segment.holders.remove(&node);
            }
            self.changed.insert(segment.record.collection);
        }
    }

    /// Asks the nodes that are to be asked what they hold.
    pub(super) fn ask(&mut self) {
        let due = |node: &Node| {
            let can = matches!(node.standing, Standing::Callable | Standing::Stopping);
            can && node.to_ask && node.asking.is_none() && node.calls.until <= self.now
        };
        let due: Vec<_> = self.nodes.iter().filter(|(_, node)| due(node)).map(|(id, _)| *id).collect();
        for id in due {
            let call = self.next_call();
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.to_ask = false;
            node.asking = Some((call, node.loading.keys().chain(node.releasing.keys()).copied().collect()));
            self.actions.push(Action::Ask { call, node: id });
        }
    }

    pub(super) fn told(&mut self, call: CallId, result: Result<Vec<i64>, Status>) {
        let is_asked = |node: &Node| node.asking.as_ref().is_some_and(|(asked, _)| *asked == call);
        let Some((id, node)) = self.nodes.iter_mut().find(|(_, node)| is_asked(node)) else { return };
        let id = *id;
        let changed = node.asking.take().map(|(_, changed)| changed).unwrap_or_default();
        let held: BTreeSet<i64> = match result {
            Ok(held) => held.into_iter().collect(),
            Err(error) => {
                tracing::warn!(node = id, error = text_of(&error), "a querynode does not say what it holds");
                node.to_ask = true;
                Self::fail(self.settings, self.now, &mut self.timers, &mut node.calls, &error);
                self.place_again = true;
                return;
            }
        };
        node.calls = Trouble::default();
        let is_new = !std::mem::replace(&mut node.told, true);
        let differs = held.symmetric_difference(&node.held).filter(|segment| !changed.contains(segment));
        for segment in differs.copied().collect::<Vec<_>>() {
            self.holds(id, segment, held.contains(&segment));
        }
        if is_new {
            // What it holds and nobody wants has not been looked at yet.
            self.touched.extend(held);
            self.place_again = true;
            self.even_again = true;
        }
    }

    pub(super) fn not_held(&mut self, id: i64, segments: &[i64]) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| segments.iter().any(|id| node.held.contains(id))) {
            node.to_ask = true;
        }
    }

    pub(super) fn loaded(&mut self, call: CallId, result: Result<(), Status>) {
        let Some(Asked::Load { node: id, segment }) = self.calls.remove(&call) else { return };
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.loading.get(&segment) == Some(&call)) else {
            // It went meanwhile; there is room for another load.
            return;
        };
        node.loading.remove(&segment);
        node.changes(segment);
        self.even_again = true;
        match result {
            Ok(()) => {
                node.loads = Trouble::default();
                if let Some(segment) = self.segments.get_mut(&segment) {
                    segment.failures.remove(&id);
                }
                self.holds(id, segment, true);
            }
            Err(error) => self.load_failed(id, segment, &error),
        }
    }

    pub(super) fn released(&mut self, call: CallId, result: Result<(), Status>) {
        let Some(Asked::Release { node: id, segments }) = self.calls.remove(&call) else { return };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for segment in &segments {
            if node.releasing.get(segment) == Some(&call) {
                node.releasing.remove(segment);
            }
            node.changes(*segment);
        }
        self.touched.extend(&segments);
        self.place_again = true;
        match result {
            Ok(()) => node.calls = Trouble::default(),
            Err(error) => {
                tracing::warn!(node = id, ?segments, error = text_of(&error), "a release has failed");
                // It may hold them or not: it tells.
                node.to_ask = true;
                Self::fail(self.settings, self.now, &mut self.timers, &mut node.calls, &error);
            }
        }
    }

    pub(super) fn dismissed(&mut self, call: CallId, result: Result<(), Status>) {
        let under_way = |node: &Node| node.dismissal == Dismissal::UnderWay(call);
        let Some((id, node)) = self.nodes.iter_mut().find(|(_, node)| under_way(node)) else { return };
        node.dismissal = match result {
            Ok(()) => Dismissal::Done,
            Err(error) => {
                tracing::warn!(
                    node = id,
                    error = text_of(&error),
                    "a querynode that is stopping does not hear that it may"
                );
                Self::fail(self.settings, self.now, &mut self.timers, &mut node.calls, &error);
                Dismissal::Due
            }
        };
    }
}

impl Input {
    /// Another process has taken a node's place: what the former held is gone.
    pub(crate) fn replaced(old: i64, new: Seen) -> [Self; 2] {
        [Self::Gone(old), Self::Node(new)]
    }
}

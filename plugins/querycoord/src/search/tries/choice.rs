//! Whom a search asks next: for each segment the holder that has the least to do, and few nodes where there is little to
//! compute.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Ask, Asked, Running, SHARE, Tries};
use crate::search::loads::Loads;

/// What a node computes in about a millisecond, in components compared. A call costs about a tenth of that: less work is not
/// worth another call.
const WORTH_A_CALL: u64 = 4_000_000;

/// What one node is to search.
#[derive(Default)]
struct Share {
    segments: Vec<usize>,
    work: u64,
}

impl Tries {
    /// Calls for all segments that can be asked for now, begun.
    pub(super) fn choose(&mut self, now: Instant, loads: &mut Loads) -> Vec<Ask> {
        self.tell_slow(now, loads);
        let open = (0..self.segments.len()).filter(|at| self.is_open(*at, now)).map(|at| (at, self.askable(at)));
        let mut open: Vec<_> = open.filter(|(_, nodes)| !nodes.is_empty()).collect();
        // Those with the least choice first, then the largest: the others even out what these make uneven.
        open.sort_by_key(|(at, nodes)| (nodes.len(), Reverse(self.rows(*at))));
        let mut shares: BTreeMap<i64, Share> = BTreeMap::new();
        for (at, nodes) in open {
            let work = self.rows(at).saturating_mul(self.work_per_row);
            let best = nodes.iter().enumerate().min_by_key(|(place, (node, callable))| {
                let mine = shares.get(node).map(|share| share.work);
                let joined = mine.is_some_and(|mine| mine.saturating_add(work) <= WORTH_A_CALL);
                // Of those that cannot be called the order says which is to be tried first.
                let place = if *callable { 0 } else { *place };
                let avoided = loads.is_avoided(*node, now);
                (!callable, avoided, place, !joined, loads.busy(*node, mine.unwrap_or(0)))
            });
            if let Some((_, (node, _))) = best {
                let share = shares.entry(*node).or_default();
                share.segments.push(at);
                share.work = share.work.saturating_add(work);
            }
        }
        shares.into_iter().map(|(node, share)| self.begin(node, share, now)).collect()
    }

    /// Nodes that have used up their share of the time are avoided by other searches too.
    fn tell_slow(&mut self, now: Instant, loads: &mut Loads) {
        for running in self.calls.values_mut().filter(|running| !running.slow && running.patience <= now) {
            running.slow = true;
            loads.avoid(running.node, now);
        }
    }

    /// Is the segment to be asked for: not found, and asked of nobody who still has time?
    fn is_open(&self, at: usize, now: Instant) -> bool {
        let segment = &self.segments[at];
        let patient = |call| self.calls.get(call).is_some_and(|running: &Running| running.patience > now);
        !segment.found && !segment.running.iter().any(patient)
    }

    /// The nodes that can be asked for the segment, and whether they can be called.
    fn askable(&self, at: usize) -> Vec<(i64, bool)> {
        let asked = &self.segments[at].asked;
        let may_be_asked = |node: i64| match asked.iter().find(|asked| asked.node == node) {
            None => true,
            Some(asked) => asked.may_be_asked_again(self.version, self.looks),
        };
        let Some(served) = self.holders_of(at) else { return Vec::new() };
        let nodes = served.nodes.iter().enumerate().map(|(place, node)| (*node, place < served.callable));
        nodes.filter(|(node, _)| may_be_asked(*node)).collect()
    }

    fn begin(&mut self, node: i64, share: Share, now: Instant) -> Ask {
        self.last_call += 1;
        let call = self.last_call;
        for at in &share.segments {
            let segment = &mut self.segments[*at];
            segment.running.push(call);
            let (version, looks) = (self.version, self.looks);
            match segment.asked.iter_mut().find(|asked| asked.node == node) {
                Some(again) => *again = Asked { times: again.times + 1, version, looks, node, failed: None },
                None => segment.asked.push(Asked { node, times: 1, version, looks, failed: None }),
            }
        }
        let segment_ids = share.segments.iter().map(|at| self.searched.segments[*at].segment.id).collect();
        let rows = share.segments.iter().map(|at| self.rows(*at)).fold(0, u64::saturating_add);
        let patience = now + self.deadline.saturating_duration_since(now) / SHARE;
        let running = Running { node, segments: share.segments, begun: now, patience, slow: false };
        self.calls.insert(call, running);
        Ask { call, node, segment_ids, rows, work: share.work }
    }

    fn rows(&self, at: usize) -> u64 {
        self.searched.segments[at].segment.rows
    }
}

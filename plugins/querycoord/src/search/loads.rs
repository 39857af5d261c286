//! What the nodes are busy with for all searches together, and which of them a search had better ask.
//!
//! No I/O: `tries` chooses by it, the driver says when a call begins and ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A node that has failed or hung is avoided so long where another holds the same; twice as long each time that it does so
/// again, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);

/// About as long as a session without its process lives.
const LONGEST: Duration = Duration::from_secs(16);

/// So many nodes are remembered; more are only those that have gone.
const MOST: usize = 4096;

/// What is known of the nodes.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    nodes: BTreeMap<i64, Load>,
    /// Counts the calls: of nodes with equal work the one that was not asked for longest is next.
    turn: u64,
}

#[derive(Debug, Default)]
struct Load {
    /// The work of the calls that run: vectors × their components × queries.
    running: u64,
    /// The turn of the last call.
    last: u64,
    avoided: Option<Span>,
}

#[derive(Debug)]
struct Span {
    until: Instant,
    span: Duration,
}

/// A node that is avoided for so long still, and was for so long in all: a part of the state that a swap hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Avoided {
    node: i64,
    left_ms: u64,
    span_ms: u64,
}

/// How good a node is to be asked; the smallest is best.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Busy {
    work: u64,
    last: u64,
}

impl Loads {
    /// A call with this work begins.
    pub(crate) fn begin(&mut self, node: i64, work: u64) {
        self.turn += 1;
        let load = self.nodes.entry(node).or_default();
        load.running = load.running.saturating_add(work);
        load.last = self.turn;
        if self.nodes.len() > MOST {
            let oldest = self.nodes.iter().filter(|(_, load)| load.running == 0).min_by_key(|(_, load)| load.last);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.nodes.remove(&oldest);
            }
        }
    }

    /// It has ended, however it did.
    pub(crate) fn end(&mut self, node: i64, work: u64) {
        if let Some(load) = self.nodes.get_mut(&node) {
            load.running = load.running.saturating_sub(work);
        }
    }

    /// The node has answered: it is not avoided any more.
    pub(crate) fn answered(&mut self, node: i64) {
        if let Some(load) = self.nodes.get_mut(&node) {
            load.avoided = None;
        }
    }

    /// The node has failed, or hangs: it is avoided for a while.
    pub(crate) fn avoid(&mut self, node: i64, now: Instant) {
        let load = self.nodes.entry(node).or_default();
        let span = match &load.avoided {
            // Many calls that fail at once are one failure.
            Some(avoided) if avoided.until > now => return,
            Some(avoided) => LONGEST.min(avoided.span * 2),
            None => SHORTEST,
        };
        load.avoided = Some(Span { until: now + span, span });
    }

    /// Is the node avoided now?
    pub(crate) fn is_avoided(&self, node: i64, now: Instant) -> bool {
        self.nodes.get(&node).and_then(|load| load.avoided.as_ref()).is_some_and(|avoided| avoided.until > now)
    }

    /// The nodes that are avoided now.
    pub(crate) fn avoided(&self, now: Instant) -> Vec<Avoided> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let left = |span: &Span| span.until.saturating_duration_since(now);
        let nodes = self.nodes.iter().filter_map(|(node, load)| {
            let span = load.avoided.as_ref().filter(|span| !left(span).is_zero())?;
            Some(Avoided { node: *node, left_ms: ms(left(span)), span_ms: ms(span.span) })
        });
        nodes.collect()
    }

    /// Another generation has avoided these.
    pub(crate) fn avoid_too(&mut self, avoided: Vec<Avoided>, now: Instant) {
        for Avoided { node, left_ms, span_ms } in avoided.into_iter().take(MOST) {
            let [left, span] = [left_ms, span_ms].map(|ms| Duration::from_millis(ms).clamp(Duration::ZERO, LONGEST));
            self.nodes.entry(node).or_default().avoided = Some(Span { until: now + left, span: span.max(SHORTEST) });
        }
    }

    /// The work of the calls that run.
    #[cfg(test)]
    pub(crate) fn running(&self, node: i64) -> u64 {
        self.nodes.get(&node).map_or(0, |load| load.running)
    }

    /// How busy the node would be with so much more.
    pub(crate) fn busy(&self, node: i64, more: u64) -> Busy {
        let (work, last) = self.nodes.get(&node).map_or((0, 0), |load| (load.running, load.last));
        Busy { work: work.saturating_add(more), last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_less_busy_is_next_and_of_equals_the_one_not_asked_for_longest() {
        let mut loads = Loads::default();
        assert_eq!(loads.busy(1, 0), loads.busy(2, 0));
        loads.begin(1, 10);
        assert!(loads.busy(2, 0) < loads.busy(1, 0));
        loads.begin(2, 20);
        assert!(loads.busy(1, 0) < loads.busy(2, 0));
        assert!(loads.busy(2, 0) < loads.busy(1, 11));
        loads.end(1, 10);
        loads.end(2, 20);
        assert!(loads.busy(1, 0) < loads.busy(2, 0));
        loads.begin(1, 1);
        loads.end(1, 1);
        assert!(loads.busy(2, 0) < loads.busy(1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_fails_again_is_avoided_for_longer_until_it_answers() {
        let mut loads = Loads::default();
        for seconds in [1, 2, 4, 8, 16, 16] {
            let now = Instant::now();
            for _ in 0..3 {
                loads.avoid(1, now);
            }
            let span = Duration::from_secs(seconds);
            assert!(loads.is_avoided(1, now + span - Duration::from_millis(1)));
            assert!(!loads.is_avoided(1, now + span));
            tokio::time::advance(span).await;
        }
        loads.answered(1);
        loads.avoid(1, Instant::now());
        assert!(!loads.is_avoided(1, Instant::now() + SHORTEST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_avoided_for_as_long_by_another_generation() {
        let mut old = Loads::default();
        let begun = Instant::now();
        old.avoid(1, begun);
        tokio::time::advance(SHORTEST).await;
        old.avoid(2, begun);
        old.avoid(1, Instant::now());
        tokio::time::advance(SHORTEST / 2).await;
        let mut new = Loads::default();
        new.avoid_too(old.avoided(Instant::now()), Instant::now());
        assert_eq!(new.avoided(Instant::now()), [Avoided { node: 1, left_ms: 1500, span_ms: 2000 }]);
        tokio::time::advance(SHORTEST * 3 / 2).await;
        assert!(!new.is_avoided(1, Instant::now()));
        new.avoid(1, Instant::now());
        assert!(new.is_avoided(1, Instant::now() + SHORTEST * 3), "and then for twice as long");
        let far = Avoided { node: 3, left_ms: u64::MAX, span_ms: u64::MAX };
        new.avoid_too(vec![far], Instant::now());
        assert!(!new.is_avoided(3, Instant::now() + LONGEST));
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_have_gone_are_forgotten() {
        let mut loads = Loads::default();
        loads.begin(0, 1);
        for node in 1..10_000 {
            loads.begin(node, 1);
            loads.end(node, 1);
        }
        assert_eq!(loads.nodes.len(), MOST);
        assert_eq!(loads.busy(0, 0).work, 1);
    }
}

//! Which segments of a search have been asked of which node, what came of it, and what is asked next.
//!
//! No I/O: the driver in `search` makes the calls that [`Tries::next`] says, and tells how they end. Searching a segment
//! twice is safe, so any failure sends its segments to another holder at once, and a node that is slow has only a share of
//! the time where another holds the same. Nothing is asked without end: one node for one segment at most [`MOST_TIMES`].

mod choice;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use proto::querycoord::v1::MissingSegment;
use tokio::time::Instant;
use tonic::Status;

use crate::search::failure::{self, Failure};
use crate::search::loads::Loads;
use crate::serving::{Served, Serving};

/// So often one node is asked for one segment: more than once only where it did not hold it and may by now, or where its
/// link broke and may be back.
pub(crate) const MOST_TIMES: u32 = 3;

/// Of the time that is left a node gets this part before another that holds the same is asked as well.
const SHARE: u32 = 4;

/// What is held where is looked at again after this time, then after twice that, and so on.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// So many looks in all: 0.6 s together. A node that has to read a segment from a disk takes longer; then the answer is
/// partial.
const MOST_LOOKS: u32 = 6;

/// A search's own name for one of its calls.
pub(crate) type CallId = u64;

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) call: CallId,
    pub(crate) node: i64,
    pub(crate) segment_ids: Vec<i64>,
    /// The vectors of all these.
    pub(crate) rows: u64,
    /// These vectors × their components × queries.
    pub(crate) work: u64,
}

/// How a search ends that has no answer, not even a partial one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// What a node says of the search itself.
    Refused { text: String },
    /// The nodes have too many searches.
    Exhausted { reasons: Vec<String> },
}

/// The bookkeeping of one search.
pub(crate) struct Tries {
    /// What is searched: what was there when the search began.
    searched: Arc<Serving>,
    /// Who holds it, by the newest that is known; `None` when it has been released.
    holders: Option<Arc<Serving>>,
    /// Counts the changes of `holders`.
    version: u64,
    /// The components of all queries: the work for one vector.
    work_per_row: u64,
    /// One for each of `searched`.
    segments: Vec<Segment>,
    /// Those that run.
    calls: BTreeMap<CallId, Running>,
    last_call: CallId,
    deadline: Instant,
    looks: u32,
    next_look: Option<Instant>,
    refused: Option<NoAnswer>,
}

#[derive(Default)]
struct Segment {
    found: bool,
    running: Vec<CallId>,
    /// In the order in which they were asked first.
    asked: Vec<Asked>,
}

/// One node that was asked for one segment.
struct Asked {
    node: i64,
    times: u32,
    /// The version of the holders, and the looks, when it was asked last.
    version: u64,
    looks: u32,
    /// `None` while it runs, and when the time was over.
    failed: Option<(Failure, Arc<str>)>,
}

struct Running {
    node: i64,
    /// Which of the segments.
    segments: Vec<usize>,
    begun: Instant,
    /// From here on another may be asked as well.
    patience: Instant,
    /// The node has been told of as slow.
    slow: bool,
}

impl Tries {
    /// Nothing is asked yet.
    pub(crate) fn new(searched: Arc<Serving>, work_per_row: u64, deadline: Instant) -> Self {
        let segments = searched.segments.iter().map(|_| Segment::default()).collect();
        Self {
            holders: Some(Arc::clone(&searched)),
            searched,
            version: 0,
            work_per_row,
            segments,
            calls: BTreeMap::new(),
            last_call: 0,
            deadline,
            looks: 0,
            next_look: None,
            refused: None,
        }
    }

    /// What is held where by now; `None` where the collection is released.
    pub(crate) fn look(&mut self, holders: Option<Arc<Serving>>) {
        let same = match (&self.holders, &holders) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.version += 1;
            self.holders = holders;
        }
    }

    /// The calls that are to be made now. They count as begun.
    pub(crate) fn next(&mut self, now: Instant, loads: &mut Loads) -> Vec<Ask> {
        if now >= self.deadline || self.refused.is_some() {
            return Vec::new();
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.looks += 1;
            self.next_look = None;
        }
        let asks = self.choose(now, loads);
        if self.next_look.is_none() && self.looks < MOST_LOOKS && self.segments.iter().any(Segment::may_come) {
            self.next_look = Some(now + FIRST_LOOK * 2_u32.pow(self.looks));
        }
        asks
    }

    /// The call has answered for all its segments. The ids of vectors in it that are known already, from other calls.
    pub(crate) fn answered(&mut self, call: CallId) -> Vec<Range<i64>> {
        let Some(running) = self.end_of(call) else { return Vec::new() };
        let mut known = Vec::new();
        for at in running.segments {
            if std::mem::replace(&mut self.segments[at].found, true) {
                let record = &self.searched.segments[at].segment;
                known.push(record.first_id..record.first_id.saturating_add_unsigned(record.rows));
            }
        }
        known
    }

    /// The call has failed. Of a node that does not hold all of its segments `held` are those that it does.
    pub(crate) fn failed(&mut self, call: CallId, status: &Status, held: &[i64]) {
        let Some(running) = self.end_of(call) else { return };
        let node = running.node;
        let (what, reason) = (Failure::of(node, status), failure::reason(node, status));
        if what == Failure::Refused {
            self.refused.get_or_insert(NoAnswer::Refused { text: reason });
            return;
        }
        let reason: Arc<str> = reason.into();
        for at in running.segments {
            let is_held = what == Failure::NotHeld && held.contains(&self.searched.segments[at].segment.id);
            let failure = if is_held { Failure::InBadCompany } else { what };
            if let Some(asked) = self.segments[at].asked.iter_mut().find(|asked| asked.node == node) {
                asked.failed = Some((failure, Arc::clone(&reason)));
            }
        }
    }

    /// Calls of which nothing is needed any more, since others have answered. They count as ended.
    pub(crate) fn overtaken(&mut self) -> Vec<CallId> {
        let needless = |running: &Running| running.segments.iter().all(|at| self.segments[*at].found);
        let calls: Vec<_> = self.calls.iter().filter(|(_, running)| needless(running)).map(|(call, _)| *call).collect();
        for call in &calls {
            self.end_of(*call);
        }
        calls
    }

    /// How many segments are searched.
    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Is nothing running that is needed, and nothing to be waited for?
    pub(crate) fn is_over(&self) -> bool {
        let exhausted = |at: usize| self.segments[at].is_exhausted() && !self.is_waiting(at);
        let all = 0..self.segments.len();
        self.refused.is_some() || all.clone().any(exhausted) || !all.into_iter().any(|at| self.is_waiting(at))
    }

    /// When to call [`Self::next`] again, unless a call ends before.
    pub(crate) fn wake(&self, now: Instant) -> Instant {
        let patience = self.calls.values().map(|running| running.patience).filter(|at| *at > now);
        patience.chain(self.next_look).chain([self.deadline]).min().unwrap_or(self.deadline)
    }

    /// Has the collection been released meanwhile?
    pub(crate) fn is_released(&self) -> bool {
        self.holders.is_none()
    }

    /// The segments that were not searched, with all that is known of why, or why there is no answer at all.
    pub(crate) fn end(&self, now: Instant) -> Result<Vec<MissingSegment>, NoAnswer> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let missing: Vec<_> = (0..self.segments.len()).filter(|at| !self.segments[*at].found).collect();
        if missing.iter().any(|at| self.segments[*at].is_exhausted()) {
            let asked = missing.iter().flat_map(|at| &self.segments[*at].asked);
            let reasons = asked.filter_map(|asked| asked.failed.as_ref()).map(|(_, reason)| reason.to_string());
            return Err(NoAnswer::Exhausted { reasons: reasons.collect() });
        }
        Ok(missing.into_iter().map(|at| self.missing(at, now)).collect())
    }

    fn missing(&self, at: usize, now: Instant) -> MissingSegment {
        let segment_id = self.searched.segments[at].segment.id;
        let server_ids = self.holders_of(at).map(|served| served.nodes.clone()).unwrap_or_default();
        let asked = &self.segments[at].asked;
        let mut reasons: Vec<_> = asked.iter().map(|asked| self.reason(at, asked, now)).collect();
        let not_asked = server_ids.iter().filter(|node| asked.iter().all(|asked| asked.node != **node));
        reasons.extend(not_asked.map(|node| format!("querynode-{node}: there was no time left to ask it")));
        if server_ids.is_empty() {
            reasons.push("no querynode holds it".to_owned());
        }
        MissingSegment { segment_id, server_ids, reason: reasons.join("; ") }
    }

    fn reason(&self, at: usize, asked: &Asked, now: Instant) -> String {
        let node = asked.node;
        let running = self.calls.values().find(|running| running.node == node && running.segments.contains(&at));
        match (&asked.failed, running) {
            (Some((_, reason)), _) => reason.to_string(),
            (None, Some(running)) => {
                let waited = now.saturating_duration_since(running.begun);
                format!("querynode-{node}: no answer within {} ms", waited.as_millis())
            }
            (None, None) => format!("querynode-{node}: the call was ended"),
        }
    }

    /// Who holds the segment by now.
    fn holders_of(&self, at: usize) -> Option<&Served> {
        let holders = &self.holders.as_ref()?.segments;
        let id = self.searched.segments[at].segment.id;
        // Mostly it is the same list.
        let same = holders.get(at).filter(|served| served.segment.id == id);
        same.or_else(|| holders.binary_search_by_key(&id, |served| served.segment.id).ok().map(|found| &holders[found]))
    }

    /// Is there something to be waited for before the segment is missing?
    fn is_waiting(&self, at: usize) -> bool {
        let segment = &self.segments[at];
        !segment.found && (!segment.running.is_empty() || (self.next_look.is_some() && segment.may_come()))
    }

    fn end_of(&mut self, call: CallId) -> Option<Running> {
        let ended = self.calls.remove(&call)?;
        for at in &ended.segments {
            self.segments[*at].running.retain(|running| *running != call);
        }
        Some(ended)
    }
}

impl Segment {
    /// Could it be searched a little later: has it just been moved, or is a link just being made again?
    fn may_come(&self) -> bool {
        let comes = |asked: &Asked| asked.times < MOST_TIMES && asked.may_recover();
        !self.found && self.running.is_empty() && self.asked.iter().any(comes)
    }

    fn is_exhausted(&self) -> bool {
        !self.found && self.asked.iter().any(|asked| matches!(asked.failed, Some((Failure::Exhausted, _))))
    }
}

impl Asked {
    fn may_recover(&self) -> bool {
        matches!(self.failed, Some((Failure::NotHeld | Failure::LinkLost | Failure::InBadCompany, _)))
    }

    /// May it be asked again now?
    fn may_be_asked_again(&self, version: u64, looks: u32) -> bool {
        let recovered = match self.failed {
            Some((Failure::InBadCompany, _)) => true,
            Some((Failure::NotHeld, _)) => version > self.version,
            Some((Failure::LinkLost, _)) => looks > self.looks,
            _ => false,
        };
        recovered && self.times < MOST_TIMES
    }
}

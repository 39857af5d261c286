//! How a range of keys is followed, without I/O: what to ask etcd next, and what its answers mean.
//!
//! To drive it: ask [`Resume::step`] for the next step, do just that, tell [`Resume::take`] what came of it, pass on the
//! update that it may give, and begin again. A stream of answers belongs to the last [`Step::Open`]: it is kept for
//! [`Step::Listen`] and [`Step::AskProgress`] and let go at any other step but [`Step::ReadRevision`]. The clock and the dice
//! are the driver's, and come in as a [`Moment`]. [`Watch`](super::Watch) drives it against etcd; a model of etcd can drive
//! it as well.
//!
//! * First a linearizable list, then a watch from that answer's revision + 1.
//! * What breaks is made again after a pause, from the last event's revision + 1; before any event from the list's + 1. What
//!   a `created`, `canceled` or progress answer has for a revision is another member's present, never a place to go on from.
//! * Where etcd has thrown away what would come next, it is listed again: the user computes the difference.
//! * A watch that is silent is asked for a sign of life. After a break it is asked at once, so that an etcd that has come
//!   back without its data is noticed.
//! * A member first tells what happened before a watch was opened; those before 3.4.25 and 3.5.8 may answer for progress
//!   before that (etcd's issue 15220). While etcd is known to have come further than a stream's begin and nothing has been
//!   told on it, such an answer counts only once the stream has been open for [`SETTLED_AFTER`]; after a break not even
//!   then, but everything is listed again.
//! * Where etcd is another cluster than before, or its revision went backwards, nothing that was known holds: the next
//!   list says so.
//!
//! More than 400 lines: places, steps and answers are one machine, and are read together.

use std::time::{Duration, Instant};

use super::{Cause, Change, Interruption, Patience, Stored, Update};

/// Pauses between tries: doubled from the first to the last, each shortened by up to a half.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The last of these. No longer, so that one who comes back is seen within a second.
pub const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A member has told by then what happened before the watch was opened: it looks for such watches each tenth of a second.
pub const SETTLED_AFTER: Duration = Duration::from_millis(250);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// List all keys, linearizably → [`Came::Listed`], [`Came::Broken`]
    List,
    /// Open a watch of the keys → [`Came::Opened`], [`Came::Broken`]
    Open {
        /// From this revision on, itself included.
        from: i64,
    },
    /// Wait for the watch's next answer → [`Came::Answer`], [`Came::Silence`], [`Came::Broken`]
    Listen {
        /// No longer than until then.
        until: Instant,
    },
    /// Ask for a progress answer on the watch's stream; do not wait for it → [`Came::Asked`], [`Came::Broken`]
    AskProgress,
    /// Read etcd's present revision, linearizably → [`Came::Revision`], [`Came::Broken`]
    ReadRevision {
        /// In no more time than this.
        within: Duration,
    },
    /// Go to another member of etcd, or to the same one by a new connection → [`Came::Left`]
    Leave,
    /// Do nothing until then, and ask for the next step.
    Pause {
        /// Until when.
        until: Instant,
    },
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// All keys.
    Listed(Listed),
    /// The watch is open.
    Opened,
    /// An answer of the watch.
    Answer(Answer),
    /// The time to listen is over.
    Silence,
    /// Progress was asked for.
    Asked,
    /// etcd's present revision.
    Revision {
        /// The revision.
        revision: i64,
        /// The cluster that answered.
        cluster_id: u64,
    },
    /// Another member is used from now on.
    Left,
    /// The step failed, or the stream has ended.
    Broken {
        /// What it was, for programs.
        cause: Cause,
        /// Why, for people.
        why: String,
        /// The member is the cause, and was not left yet.
        leave: bool,
    },
}

/// All keys, as one linearizable answer has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The keys, in order.
    pub entries: Vec<Stored>,
    /// The revision of etcd.
    pub revision: i64,
    /// The cluster that answered; 0 where it does not say.
    pub cluster_id: u64,
}

/// An answer of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It only says that the watch is there.
    pub created: bool,
    /// etcd has ended the watch, for this reason.
    pub canceled: Option<String>,
    /// Up to here history is gone, and the watch with it; 0 where it is not.
    pub compact_revision: i64,
    /// The present revision of the member that answers.
    pub revision: i64,
    /// The cluster that answers; 0 where it does not say.
    pub cluster_id: u64,
    /// What happened, in order. None in an answer that is no `created` or `canceled` one: a sign of life.
    pub changes: Vec<Change>,
}

/// etcd is not the one that it was: it has lost its data, or is another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// What was known of it before.
    pub before: Known,
    /// What it says now.
    pub now: Known,
}

/// Which etcd it is, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its cluster's id; 0 where it does not say.
    pub cluster_id: u64,
    /// Its revision.
    pub revision: i64,
}

/// Now, and a number by chance, for the jitter.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// From 0 to 1.
    pub chance: f64,
}

/// A range of keys that is followed.
#[derive(Clone, Debug)]
pub struct Resume {
    patience: Patience,
    place: Place,
    /// What etcd has said of itself in linearizable answers and in events. Its revision is never less than what was followed.
    known: Option<Known>,
    /// How many times in a row it failed.
    failures: u32,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    /// The member is to be left first.
    leave: bool,
    /// It was listed again for a doubt: once for each break, or an etcd that is slow to answer would be listed without end.
    relisted: bool,
}

#[derive(Clone, Debug)]
enum Place {
    /// The keys are to be listed.
    Unlisted,
    /// The watch is to be opened, from this revision on. `doubted` after a break: etcd may have lost its data meanwhile.
    Unwatched { from: i64, doubted: bool, since: Instant },
    /// Answers come.
    Watching(Watching),
}

#[derive(Clone, Debug)]
struct Watching {
    /// The next event's revision is at least this.
    next: i64,
    /// It was opened after a break.
    doubted: bool,
    /// This stream began with this revision.
    from: i64,
    opened: Instant,
    /// When etcd is to be asked for a sign of life.
    ask_at: Instant,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// etcd has come further than this stream's begin: it will answer for its progress.
    Further,
    Progress {
        until: Instant,
    },
}

impl Resume {
    /// Nothing is known so far.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            place: Place::Unlisted,
            known: None,
            failures: 0,
            not_before: None,
            leave: false,
            relisted: false,
        }
    }

    /// List again, whatever is known: the next update but a break is a table.
    pub fn again(&mut self) {
        self.place = Place::Unlisted;
    }

    /// What is to be done now. Asking changes nothing.
    pub fn step(&self, now: Instant) -> Step {
        if self.leave {
            return Step::Leave;
        }
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return Step::Pause { until };
        }
        match &self.place {
            Place::Unlisted => Step::List,
            Place::Unwatched { from, .. } => Step::Open { from: *from },
            Place::Watching(watching) => watching.step(now, self.patience),
        }
    }

    /// Takes what came of the last step. What does not fit to it changes nothing.
    pub fn take(&mut self, came: Came, at: Moment) -> Option<Update> {
        match (came, &mut self.place) {
            (Came::Broken { cause, why, leave }, _) => Some(self.broken(cause, why, leave, at)),
            (Came::Left, _) => {
                self.leave = false;
                None
            }
            (Came::Listed(listed), Place::Unlisted) => Some(self.listed(listed, at)),
            (Came::Opened, Place::Unwatched { from, doubted, since }) => {
                // What took long to open may have been cut meanwhile.
                let slow = at.now.duration_since(*since) > SETTLED_AFTER;
                let doubted = *doubted || (slow && !self.relisted);
                let ask_at = if doubted { at.now } else { at.now + self.patience.ask_after };
                let (next, from, opened) = (*from, *from, at.now);
                self.place = Place::Watching(Watching { next, from, doubted, opened, ask_at, asked: Asked::Nothing });
                None
            }
            (Came::Asked, Place::Watching(watching)) => {
                watching.asked = Asked::Progress { until: at.now + self.patience.answer_within };
                None
            }
            (Came::Revision { revision, cluster_id }, Place::Watching(_)) => {
                self.read(Known { cluster_id, revision }, at)
            }
            (Came::Silence, Place::Watching(Watching { asked: Asked::Progress { until }, .. })) if *until <= at.now => {
                let waited = humantime::format_duration(self.patience.answer_within);
                Some(self.broken(Cause::Silent, format!("the watch is silent: no answer within {waited}"), true, at))
            }
            (Came::Answer(answer), Place::Watching(_)) => self.answered(answer, at),
            (
                Came::Listed(_) | Came::Opened | Came::Asked | Came::Revision { .. } | Came::Silence | Came::Answer(_),
                _,
            ) => None,
        }
    }

    fn listed(&mut self, listed: Listed, at: Moment) -> Update {
        let Listed { entries, revision, cluster_id } = listed;
        let now = Known { cluster_id, revision };
        // A linearizable answer is never older than what was known before it was asked for.
        let lost = |before: &Known| before.is_another(cluster_id) || revision < before.revision;
        let reset = self.known.filter(lost).map(|before| Reset { before, now });
        self.known = Some(now);
        self.place = Place::Unwatched { from: revision + 1, doubted: false, since: at.now };
        Update::Table { entries, revision, reset }
    }

    /// etcd's present revision, while the watch is silent.
    fn read(&mut self, now: Known, at: Moment) -> Option<Update> {
        let (Place::Watching(watching), Some(known)) = (&mut self.place, &mut self.known) else { return None };
        if known.is_another(now.cluster_id) {
            return Some(self.broken(Cause::Reset, ANOTHER_CLUSTER.to_owned(), false, at));
        }
        if now.revision < known.revision {
            let why = format!("etcd's revision went backwards, from {} to {}", known.revision, now.revision);
            return Some(self.broken(Cause::Reset, why, false, at));
        }
        known.revision = now.revision;
        if now.revision + 1 == watching.next {
            // Nothing has happened that the watch could have told of.
            watching.heard(at.now, self.patience);
            self.failures = 0;
            return Some(Update::Fresh);
        }
        watching.asked = Asked::Further;
        None
    }

    fn answered(&mut self, answer: Answer, at: Moment) -> Option<Update> {
        let Place::Watching(watching) = &mut self.place else { return None };
        let next = watching.next;
        if answer.compact_revision != 0 {
            let compacted = answer.compact_revision;
            let why = format!("etcd has compacted its history up to {compacted}, past {next}");
            return Some(self.broken(Cause::Compacted, why, false, at));
        }
        if let Some(reason) = answer.canceled {
            return Some(self.broken(Cause::Cancelled, format!("etcd has cancelled the watch: {reason}"), true, at));
        }
        if self.known.is_some_and(|known| known.is_another(answer.cluster_id)) {
            return Some(self.broken(Cause::Reset, ANOTHER_CLUSTER.to_owned(), false, at));
        }
        if answer.created {
            // Its revision is that of a member which may lag behind the one that gave the list.
            return None;
        }
        if answer.changes.is_empty() {
            // A member that lags behind proves nothing; whether etcd has gone backwards, a read of the revision tells.
            if answer.revision + 1 < next {
                return None;
            }
            let settled_at = watching.opened + SETTLED_AFTER;
            let further = self.known.is_some_and(|known| known.revision >= next);
            if watching.next == watching.from && further && at.now < settled_at {
                (watching.asked, watching.ask_at) = (Asked::Nothing, settled_at);
                return None;
            }
            if watching.next == watching.from && further && watching.doubted {
                // It may still have to tell of what happened during the break, or that this is not to be had any more.
                self.place = Place::Unlisted;
                self.relisted = true;
                return None;
            }
            watching.heard(at.now, self.patience);
            self.failures = 0;
            return Some(Update::Fresh);
        }
        // etcd has been known to send what is older than the watch's begin, or to send it again (#15271, #19179).
        let changes: Vec<_> = answer.changes.into_iter().filter(|change| change.revision() >= next).collect();
        let last = changes.iter().map(Change::revision).max()?;
        watching.next = last + 1;
        watching.heard(at.now, self.patience);
        self.failures = 0;
        if let Some(known) = &mut self.known {
            known.revision = known.revision.max(last);
        }
        Some(Update::Changes(changes))
    }

    fn broken(&mut self, cause: Cause, why: String, leave: bool, at: Moment) -> Update {
        self.relisted = false;
        // What would come next is not to be had any more.
        let relist = matches!(cause, Cause::Compacted | Cause::Reset);
        self.place = match &self.place {
            Place::Watching(watching) if !relist => {
                // What has worked for a while begins with short pauses.
                if at.now.duration_since(watching.opened) >= LAST_PAUSE {
                    self.failures = 0;
                }
                Place::Unwatched { from: watching.next, doubted: true, since: at.now }
            }
            Place::Unwatched { from, .. } if !relist => Place::Unwatched { from: *from, doubted: true, since: at.now },
            _ => Place::Unlisted,
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(at.now + pause(self.failures, at.chance));
        self.leave = leave;
        Update::Interrupted(Interruption { cause, why })
    }
}

const ANOTHER_CLUSTER: &str = "this etcd is another cluster than before";

impl Watching {
    fn step(&self, now: Instant, patience: Patience) -> Step {
        match self.asked {
            Asked::Progress { until } => Step::Listen { until },
            Asked::Further => Step::AskProgress,
            Asked::Nothing if now < self.ask_at => Step::Listen { until: self.ask_at },
            // A watch whose begin etcd has not reached yet gets no progress answer from newer servers: the revision tells
            // whether there is anything to wait for.
            Asked::Nothing if self.next == self.from => Step::ReadRevision { within: patience.answer_within },
            Asked::Nothing => Step::AskProgress,
        }
    }

    fn heard(&mut self, now: Instant, patience: Patience) {
        self.asked = Asked::Nothing;
        self.ask_at = now + patience.ask_after;
    }
}

impl Known {
    fn is_another(&self, cluster_id: u64) -> bool {
        self.cluster_id != 0 && cluster_id != 0 && self.cluster_id != cluster_id
    }
}

fn pause(failures: u32, chance: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_PAUSE);
    longest.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;

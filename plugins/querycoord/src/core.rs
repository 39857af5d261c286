//! The rules of placement: a state machine that does no I/O. Inputs come in, actions go out; `engine` carries them out.
//!
//! It compares, each time that something has changed, what is wanted with what is, for the segments that the change touched:
//!
//! * a segment's **aim** is on which nodes it is to be: as many as its collection has replicas, each time the node with the
//!   fewest rows ([`placing`]);
//! * what is in an aim and not held is loaded, at most [`Settings::max_moves`] at once ([`moving`]);
//! * once all of an aim is held, the metadata is told so ([`records`]), and only then the others that hold it release it.
//!
//! So a move is an aim that changes: load there, switch, release here. A crash anywhere leaves holders that nobody wants, which
//! the next coordinator sees when nodes tell what they hold. What a `LoadCollection` asks for is kept once it is all
//! loaded ([`loads`]); before that a crash takes it back. A load that was begun goes on though its caller goes away: it is
//! completed or, where no node can take a segment, taken back.
//!
//! Until the first table of nodes has come nobody is taken for dead, and nothing is done. In a swap another generation goes on
//! from what this one knows ([`knowledge`]).

mod knowledge;
mod loads;
mod moving;
mod nodes;
mod placing;
mod records;
mod shown;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proto::records::{CollectionRecord, SegmentRecord};
use tonic::Status;

use crate::serving::Standing;

pub(crate) use self::knowledge::Knowledge;
pub(crate) use self::loads::Done;
pub(crate) use self::records::{Key, Record, Unreadable};

/// Time since the engine was begun.
pub(crate) type Time = Duration;

/// The numbers by which it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The most loads under way at once, and of these on one node.
    pub(crate) max_moves: usize,
    pub(crate) max_moves_per_node: usize,
    /// How long a node, or a segment on a node, is left alone after a failure: at first, and at most.
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// Which request of ours an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u64);

/// A node as a notice tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) id: i64,
    pub(crate) address: String,
    pub(crate) standing: Standing,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// All nodes as they stand: who is not among them is gone.
    Table(Vec<Seen>),
    /// A node stands so now.
    Node(Seen),
    /// A node is gone, with what it held.
    Gone(i64),
    /// A node was asked what it holds.
    Told(CallId, Result<Vec<i64>, Status>),
    /// A node was to load a segment.
    Loaded(CallId, Result<(), Status>),
    /// A node was to release segments.
    Released(CallId, Result<(), Status>),
    /// A node was told that it need not wait.
    Dismissed(CallId, Result<(), Status>),
    /// RootCoord was asked for a collection: `NOT_FOUND` where that has been dropped.
    Confirmed(CallId, Result<(), Status>),
    /// The metadata was to be changed: was it as it was thought to be?
    Written(Result<bool, Status>),
    /// The metadata was read again, key by key.
    Read(Result<Vec<Option<Bytes>>, Status>),
    /// The metadata cannot be written now, or can be again.
    Fenced(bool),
    /// A node has answered that it does not hold what it should.
    NotHeld(i64, Vec<i64>),
    /// `LoadCollection`: these segments on so many nodes, 0 for as many as before.
    Load { token: Token, collection: CollectionRecord, segments: Vec<SegmentRecord>, replica_number: u32 },
    /// `ReleaseCollection`.
    Release { token: Token, id: i64, name: String },
    /// The time of [`Core::timer`] has come.
    Timer,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Change the metadata, if it is as it is thought to be; answered by [`Input::Written`].
    Write(Vec<Change>),
    /// Read these keys; answered by [`Input::Read`].
    Read(Vec<Key>),
    /// Ask a node what it holds.
    Ask { call: CallId, node: i64 },
    /// Let a node load a segment.
    Load { call: CallId, node: i64, collection: CollectionRecord, segment: SegmentRecord },
    /// Let a node release segments.
    Release { call: CallId, node: i64, segments: Vec<i64> },
    /// Tell a stopping node that it need not wait.
    Dismiss { call: CallId, node: i64, reason: String },
    /// Ask RootCoord whether it has a collection still.
    Confirm { call: CallId, collection: i64 },
    /// Answer a caller.
    Answer(Token, Box<Result<Done, Status>>),
}

/// A change of one key of the metadata; `None` for no such key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) before: Option<Bytes>,
    pub(crate) after: Option<Bytes>,
}

/// Failures in a row.
#[derive(Clone, Debug, Default)]
struct Trouble {
    count: u32,
    /// Left alone until then.
    until: Time,
    error: String,
}

/// A node.
#[derive(Debug)]
struct Node {
    address: String,
    standing: Standing,
    /// It has told what it holds since it came.
    told: bool,
    /// It is to be asked what it holds; and is being asked: what has changed meanwhile it may not have seen.
    to_ask: bool,
    asking: Option<(CallId, BTreeSet<i64>)>,
    /// What it holds for all that is known: before it has told, what the metadata says.
    held: BTreeSet<i64>,
    /// What is to be on it, and the rows of that.
    aimed: BTreeSet<i64>,
    rows: u64,
    loading: BTreeMap<i64, CallId>,
    releasing: BTreeMap<i64, CallId>,
    /// Failed loads, and failed calls of other kinds.
    loads: Trouble,
    calls: Trouble,
    dismissal: Dismissal,
}

/// Does a stopping node know that it need not wait?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dismissal {
    Due,
    UnderWay(CallId),
    Done,
}

/// A segment of a collection that is loaded or being loaded.
#[derive(Debug)]
struct Segment {
    record: SegmentRecord,
    /// It belongs to a completed load.
    committed: bool,
    /// The epoch of its collection with which it came.
    since: u64,
    aim: BTreeSet<i64>,
    /// Who holds it, as [`Node::held`].
    holders: BTreeSet<i64>,
    /// The nodes of its record in the metadata, where it has one.
    kept: Option<Vec<i64>>,
    /// By node: loads of it that failed.
    failures: BTreeMap<i64, Trouble>,
}

/// A collection that is loaded or being loaded.
#[derive(Debug)]
struct Collection {
    record: CollectionRecord,
    /// Of the completed load; 0 where none was.
    replicas: u32,
    /// How many loads were completed.
    epoch: u64,
    segments: BTreeSet<i64>,
    load: Option<loads::Load>,
    /// Loads that wait for that one.
    waiting: VecDeque<loads::Asked>,
    /// Who waits for its release; it is being released where this is not empty.
    releasing: Vec<Token>,
}

/// How it stands with the one write that is under way.
#[derive(Debug)]
enum Writing {
    Idle,
    Under(Vec<Change>),
    /// Nobody knows what is there: to be read, and being read.
    Unsure(Vec<Key>),
    Reading(Vec<Key>),
}

/// What a request of ours was about.
#[derive(Debug)]
enum Asked {
    Load { node: i64, segment: i64 },
    Release { node: i64, segments: Vec<i64> },
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    now: Time,
    /// The first table has come; or another generation, to which it had come, has told of all nodes.
    table: bool,
    all_known: bool,
    fenced: bool,
    /// A swap hands over what is known: nothing is begun any more.
    paused: bool,
    collections: BTreeMap<i64, Collection>,
    segments: BTreeMap<i64, Segment>,
    nodes: BTreeMap<i64, Node>,
    /// By segment: the aim that another generation has handed over, until the first table.
    planned: BTreeMap<i64, Vec<i64>>,
    /// The metadata for all that is known, and the keys that may have to change.
    mirror: BTreeMap<Key, Bytes>,
    dirty: BTreeSet<Key>,
    writing: Writing,
    write_trouble: Trouble,
    /// Segments that are to be looked at, that are on too few nodes, and that nodes are to load: most urgent first.
    touched: BTreeSet<i64>,
    lacking: BTreeSet<i64>,
    todo: BTreeMap<(moving::Urgency, i64), BTreeSet<(i64, i64)>>,
    /// By node and segment: where it is in `todo`.
    queued: BTreeMap<(i64, i64), (moving::Urgency, i64)>,
    /// Segments that nodes are to release.
    surplus: BTreeSet<(i64, i64)>,
    calls: BTreeMap<CallId, Asked>,
    next_call: u64,
    /// Something has changed for those that are lacking; for the evenness of nodes.
    place_again: bool,
    even_again: bool,
    timers: BTreeSet<Time>,
    endings: Vec<loads::Ending>,
    /// Collections whose `Serving` has to be made again.
    changed: BTreeSet<i64>,
    actions: Vec<Action>,
}

impl Core {
    /// One that goes by what the metadata holds.
    pub(crate) fn new(settings: Settings, entries: impl IntoIterator<Item = (Key, Bytes)>) -> (Self, Vec<Unreadable>) {
        let mut core = Self {
            settings,
            now: Time::ZERO,
            table: false,
            all_known: false,
            fenced: false,
            paused: false,
            collections: BTreeMap::new(),
            segments: BTreeMap::new(),
            nodes: BTreeMap::new(),
            planned: BTreeMap::new(),
            mirror: BTreeMap::new(),
            dirty: BTreeSet::new(),
            writing: Writing::Idle,
            write_trouble: Trouble::default(),
            touched: BTreeSet::new(),
            lacking: BTreeSet::new(),
            todo: BTreeMap::new(),
            queued: BTreeMap::new(),
            surplus: BTreeSet::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            place_again: false,
            even_again: false,
            timers: BTreeSet::new(),
            endings: Vec::new(),
            changed: BTreeSet::new(),
            actions: Vec::new(),
        };
        let unreadable = core.take_over(entries);
        (core, unreadable)
    }

    /// What has happened by now, and what is to be done for it.
    pub(crate) fn step(&mut self, now: Time, input: Input) -> Vec<Action> {
        self.now = self.now.max(now);
        match input {
            Input::Table(seen) => self.see_all(seen),
            Input::Node(seen) => self.see(seen),
            Input::Gone(node) => self.lose(node),
            Input::Told(call, result) => self.told(call, result),
            Input::Loaded(call, result) => self.loaded(call, result),
            Input::Released(call, result) => self.released(call, result),
            Input::Dismissed(call, result) => self.dismissed(call, result),
            Input::Confirmed(call, result) => self.confirmed(call, result),
            Input::Written(result) => self.written(result),
            Input::Read(result) => self.read_back(result),
            Input::Fenced(fenced) => self.fenced = fenced,
            Input::NotHeld(node, segments) => self.not_held(node, &segments),
            Input::Load { token, collection, segments, replica_number } => {
                self.load(collection, loads::Asked { token: Some(token), segments, replica_number });
            }
            Input::Release { token, id, name } => self.release(token, id, &name),
            Input::Timer => {}
        }
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// When [`Input::Timer`] is due, where it is.
    pub(crate) fn timer(&self) -> Option<Time> {
        self.timers.first().copied()
    }

    /// Does all that follows from what was touched.
    fn settle(&mut self) {
        while self.timers.first().is_some_and(|at| *at <= self.now) {
            self.timers.pop_first();
            self.place_again = true;
            self.even_again = true;
        }
        if self.table && !self.paused {
            self.ask();
        }
        loop {
            while let Some(segment) = self.touched.pop_first() {
                self.examine(segment);
            }
            if self.table && std::mem::take(&mut self.place_again) {
                self.place_lacking();
            } else if self.touched.is_empty() && (self.paused || !self.move_one()) {
                break;
            }
        }
        if !self.paused {
            self.write();
        }
        if self.table && !self.fenced && !self.paused {
            self.start_releases();
            self.start_loads();
            self.dismiss();
        }
        self.end();
    }

    fn next_call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    fn touch(&mut self, segment: i64) {
        self.touched.insert(segment);
    }

    fn touch_collection(&mut self, id: i64) {
        if let Some(collection) = self.collections.get(&id) {
            self.touched.extend(&collection.segments);
        }
    }

    /// A failure more: how long to leave it alone, twice as long each time.
    fn fail(settings: Settings, now: Time, timers: &mut BTreeSet<Time>, trouble: &mut Trouble, error: &Status) {
        let factor = 1_u32.checked_shl(trouble.count).unwrap_or(u32::MAX);
        trouble.count = trouble.count.saturating_add(1);
        trouble.until = now + settings.backoff_min.saturating_mul(factor).min(settings.backoff_max);
        trouble.error = text_of(error);
        timers.insert(trouble.until);
    }
}

/// A failure as people are shown it.
fn text_of(error: &Status) -> String {
    format!("{:?}: {}", error.code(), error.message())
}

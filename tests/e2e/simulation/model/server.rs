//! The members as watchers see them: each has applied the history up to some point, and serves its watches from there.
//!
//! What etcd promises for a watch, and what is made use of here: the events of one revision come in one answer, those of several
//! may; in order, each once; an answer's revision is the member's, which may lead its last event. A `created` or
//! `canceled` answer's revision is the member's too: it may lag behind what the watch begins at, or lead events that are still
//! to come. A requested progress answer may overtake events. A watch from before the compaction is cancelled with the
//! compacted revision. A previous value that is compacted is left out.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use fastrand::Rng;

use crate::simulation::agenda::Moment;
use crate::simulation::model::Model;
use crate::simulation::model::history::{Entry, Event, History, KeyValue};

/// A watch's number.
pub type StreamId = u64;

/// What a watch is about.
#[derive(Clone, Debug)]
pub enum Range {
    One(String),
    Prefix(String),
}

/// An event on its way, with the previous value where the server still has it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub event: Event,
    pub previous: Option<Rc<KeyValue>>,
}

/// An answer of a watch.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub era: usize,
    pub cluster: u64,
    pub revision: i64,
    pub created: bool,
    pub canceled: bool,
    pub compacted: i64,
    pub events: Vec<Sent>,
}

/// What comes out of a watch.
#[derive(Clone, Debug)]
pub enum Arrival {
    Answer(Answer),
    /// It broke.
    Broken(&'static str),
}

/// One watch, and what it has on its way.
struct Stream {
    member: usize,
    range: Range,
    next: i64,
    era: usize,
    on_its_way: VecDeque<(Moment, Arrival)>,
    /// Nothing more is sent.
    ended: bool,
    /// Nothing more arrives, nor does any error.
    silent: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Member {
    era: usize,
    applied: usize,
    pub revision: i64,
    compacted: i64,
    /// Cut off from the others.
    pub cut: bool,
    /// How long, in milliseconds, it takes to apply what was written.
    pub lag: u64,
}

/// What the members send.
pub struct Server {
    pub members: Vec<Member>,
    streams: BTreeMap<StreamId, Stream>,
    opened: StreamId,
    /// Progress answers overtake events, as in releases before 3.5.8.
    overtakes: bool,
    /// Events are lost, as etcd has lost some by faults of its own.
    pub loses_events: bool,
}

impl Range {
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::One(name) => name == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

impl Server {
    pub fn new(members: usize, overtakes: bool, model: &Model) -> Self {
        let member = Member { revision: model.revision(), ..Member::default() };
        Self { members: vec![member; members], streams: BTreeMap::new(), opened: 0, overtakes, loses_events: false }
    }

    /// A member applies what was agreed upon up to now.
    pub fn apply(&mut self, member: usize, model: &Model) {
        let member = &mut self.members[member];
        let history = model.history();
        if member.era != model.era() {
            *member = Member { era: model.era(), revision: history.first(), ..member.clone() };
            (member.applied, member.compacted) = (0, 0);
        }
        for entry in &history.log[member.applied..] {
            match entry {
                Entry::Written(revision) => member.revision = *revision,
                Entry::Compacted(revision) => member.compacted = *revision,
            }
        }
        member.applied = history.log.len();
    }

    /// A new watch at this member; its `created` answer is on its way. A start of 0 is from now on.
    pub fn open(&mut self, member: usize, range: Range, start: i64, model: &Model, arrives: Moment) -> StreamId {
        self.opened += 1;
        let at = &self.members[member];
        let next = if start == 0 { at.revision + 1 } else { start };
        let answer = Answer { created: true, ..self.header(member, model) };
        let era = at.era;
        let on_its_way = VecDeque::from([(arrives, Arrival::Answer(answer))]);
        let stream = Stream { member, range, next, era, on_its_way, ended: false, silent: false };
        self.streams.insert(self.opened, stream);
        self.opened
    }

    fn header(&self, member: usize, model: &Model) -> Answer {
        let Member { era, revision, .. } = self.members[member];
        Answer { era, cluster: model.history_of(era).cluster, revision, ..Answer::default() }
    }

    pub fn member_of(&self, id: StreamId) -> Option<usize> {
        self.streams.get(&id).map(|stream| stream.member)
    }

    pub fn streams_of(&self, member: usize) -> Vec<StreamId> {
        self.streams.iter().filter(|(_, stream)| stream.member == member).map(|(id, _)| *id).collect()
    }

    /// Sends one answer with events, if there are any for this watch. Returns whether more may be there to send.
    pub fn pump(&mut self, id: StreamId, model: &Model, random: &mut Rng, arrives: Moment) -> bool {
        let Some(stream) = self.streams.get(&id).filter(|stream| !stream.ended) else { return false };
        let member = &self.members[stream.member];
        if stream.next > member.revision || stream.era != member.era {
            return false;
        }
        let header = self.header(stream.member, model);
        let history = model.history_of(stream.era);
        let (compacted, revision) = (member.compacted, member.revision);
        let loses_events = self.loses_events;
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if stream.next < compacted {
            let answer = Answer { canceled: true, compacted, ..header };
            stream.ended = true;
            stream.send(arrives, Arrival::Answer(answer));
            return false;
        }
        // In one answer, or in several.
        let last = if random.u8(0..3) > 0 { revision } else { random.i64(stream.next..=revision) };
        let events = (stream.next..=last).flat_map(|revision| history.events(revision));
        let events: Vec<_> = events
            .filter(|event| stream.range.has(event.key()) && !(loses_events && random.u8(0..20) == 0))
            .map(|event| Sent { event: event.clone(), previous: previous(event, compacted, history) })
            .collect();
        stream.next = last + 1;
        if let Some(newest) = events.last().map(|sent| sent.event.revision()) {
            let answer = Answer { revision: random.i64(newest..=revision), events, ..header };
            stream.send(arrives, Arrival::Answer(answer));
        }
        last < revision
    }

    /// A progress answer was asked for.
    pub fn ask_progress(&mut self, id: StreamId, model: &Model, arrives: Moment) {
        let Some(stream) = self.streams.get(&id).filter(|stream| !stream.ended) else { return };
        let synced = stream.next > self.members[stream.member].revision;
        if !synced && !self.overtakes {
            return;
        }
        let answer = self.header(stream.member, model);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send(arrives, Arrival::Answer(answer));
        }
    }

    /// The server cancels it, for a reason of its own.
    pub fn cancel(&mut self, id: StreamId, model: &Model, created: bool, arrives: Moment) {
        let Some(member) = self.member_of(id) else { return };
        let answer = Answer { canceled: true, created, ..self.header(member, model) };
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.ended) {
            stream.ended = true;
            stream.send(arrives, Arrival::Answer(answer));
        }
    }

    /// The connection breaks; some of what was on its way is lost with it.
    pub fn cut(&mut self, id: StreamId, why: &'static str, random: &mut Rng, now: Moment) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.silent) {
            stream.ended = true;
            let kept = random.usize(0..=stream.on_its_way.len());
            stream.on_its_way.truncate(kept);
            stream.send(now, Arrival::Broken(why));
        }
    }

    /// Nothing more arrives, and nobody says so.
    pub fn silence(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            (stream.ended, stream.silent) = (true, true);
            stream.on_its_way.clear();
        }
    }

    /// The client has dropped it.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// When the last of what is on its way arrives.
    pub fn last_arrival(&self, id: StreamId) -> Option<Moment> {
        self.streams.get(&id).and_then(|stream| stream.on_its_way.back()).map(|(at, _)| *at)
    }

    /// What has arrived by now.
    pub fn arrived(&mut self, id: StreamId, now: Moment) -> Option<Arrival> {
        let stream = self.streams.get_mut(&id)?;
        stream.on_its_way.pop_front_if(|(at, _)| *at <= now).map(|(_, arrival)| arrival)
    }
}

impl Stream {
    /// In order: nothing arrives before what was sent before it.
    fn send(&mut self, arrives: Moment, arrival: Arrival) {
        let arrives = self.on_its_way.back().map_or(arrives, |(at, _)| arrives.max(*at));
        if !self.silent {
            self.on_its_way.push_back((arrives, arrival));
        }
    }
}

fn previous(event: &Event, compacted: i64, history: &History) -> Option<Rc<KeyValue>> {
    let before = event.revision() - 1;
    if before < compacted {
        return None;
    }
    history.at(before)?.get(event.key()).cloned()
}

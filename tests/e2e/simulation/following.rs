//! The host's machine that follows keys, driven against the model as its driver drives it against etcd.

use std::time::{Duration, Instant};

use componenthost::etcd::watch::resume::{Answer, Came, Listed, Moment as Now, Resume, Step};
use componenthost::etcd::watch::{Cause, Change, Interruption, Patience, Stored, Update};

use crate::simulation::agenda::Moment;
use crate::simulation::model::history::{Event, KeyValue};
use crate::simulation::model::server::{self, Arrival, Range, Sent, StreamId};
use crate::simulation::request::{At, Reply, Request};
use crate::simulation::world::{MEMBERS, Ticket, Who, World};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(3);

/// What the machine has to tell, with what it was made from.
pub struct Heard {
    pub update: Update,
    pub from: Source,
}

/// What an update was made from.
pub enum Source {
    /// A list.
    List(At),
    /// An answer of a watch.
    Answer(server::Answer),
    /// Neither.
    Nothing,
}

/// How what is on the wire is given to the machine. Each fault is another one.
pub trait Driving {
    /// The machine wants a watch from this revision on.
    fn open_from(&self, from: i64) -> i64 {
        from
    }

    /// Looks at each answer.
    fn heard(&mut self, _answer: &server::Answer) {}

    /// What an answer's events say.
    fn changes(&self, events: &[Sent]) -> Vec<Change> {
        events.iter().map(|sent| change(&sent.event)).collect()
    }
}

/// As it should be.
pub struct Right;

impl Driving for Right {}

/// Keys that are followed.
pub struct Following<D> {
    pub driving: D,
    who: Who,
    range: Range,
    machine: Resume,
    /// The beginning of the simulation, on the machine's clock.
    epoch: Instant,
    member: usize,
    stream: Option<StreamId>,
    asked: Option<Ticket>,
    /// A wake-up that is on the agenda.
    woken_at: Option<Moment>,
}

impl<D: Driving> Following<D> {
    pub fn new(who: Who, range: Range, patience: Patience, epoch: Instant, driving: D) -> Self {
        let machine = Resume::new(patience);
        Self { driving, who, range, machine, epoch, member: 0, stream: None, asked: None, woken_at: None }
    }

    /// Does what the machine wants until it waits. Returns what it has to tell.
    pub fn go_on(&mut self, world: &mut World) -> Vec<Heard> {
        let mut heard = Vec::new();
        for _ in 0..1000 {
            if self.asked.is_some() {
                return heard;
            }
            match self.machine.step(self.epoch + world.now) {
                Step::Pause { until } => return self.wait(until, world, heard),
                Step::List => {
                    self.drop_stream(world);
                    self.asked = Some(world.send(self.who, self.member, Request::List, LIMIT));
                }
                Step::ReadRevision { within } => {
                    self.asked = Some(world.send(self.who, self.member, Request::List, within));
                }
                Step::Open { from } => {
                    self.drop_stream(world);
                    let from = self.driving.open_from(from);
                    self.stream = Some(world.open(self.who, self.member, self.range.clone(), from));
                    world.journal.write(format_args!("{}: watches from {from}", self.who));
                    self.take(Came::Opened, Source::Nothing, world, &mut heard);
                }
                Step::Listen { until } => match self.stream.and_then(|stream| world.arrived(stream)) {
                    Some(Arrival::Answer(answer)) => self.answer(answer, world, &mut heard),
                    Some(Arrival::Broken(why)) => {
                        let came = Came::Broken { cause: Cause::Lost, why: why.to_owned(), leave: true };
                        self.take(came, Source::Nothing, world, &mut heard);
                    }
                    None if until <= self.epoch + world.now => {
                        self.take(Came::Silence, Source::Nothing, world, &mut heard);
                    }
                    None => return self.wait(until, world, heard),
                },
                Step::AskProgress => {
                    if let Some(stream) = self.stream {
                        world.ask_progress(stream);
                    }
                    self.take(Came::Asked, Source::Nothing, world, &mut heard);
                }
                Step::Leave => {
                    self.drop_stream(world);
                    self.member = (self.member + 1) % MEMBERS;
                    self.take(Came::Left, Source::Nothing, world, &mut heard);
                }
            }
        }
        panic!("the machine does not wait, but goes round: {:?}", self.machine);
    }

    /// An answer to a request. Nothing, where it is not the one that is waited for.
    pub fn reply(&mut self, ticket: Ticket, reply: Reply, world: &mut World) -> Vec<Heard> {
        if self.asked != Some(ticket) {
            return Vec::new();
        }
        self.asked = None;
        let mut heard = Vec::new();
        let reads = matches!(self.machine.step(self.epoch + world.now), Step::ReadRevision { .. });
        match reply {
            Reply::Listed(at) if reads => {
                let came = Came::Revision { revision: at.revision, cluster_id: at.cluster };
                self.take(came, Source::Nothing, world, &mut heard);
            }
            Reply::Listed(at) => {
                let entries = at.keys.values().filter(|key| self.range.has(&key.key)).map(|key| stored(key)).collect();
                let listed = Listed { entries, revision: at.revision, cluster_id: at.cluster };
                self.take(Came::Listed(listed), Source::List(at), world, &mut heard);
            }
            other => {
                // Whoever asks goes to another member by itself.
                self.member = (self.member + 1) % MEMBERS;
                let came = Came::Broken { cause: Cause::Lost, why: other.to_string(), leave: false };
                self.take(came, Source::Nothing, world, &mut heard);
            }
        }
        heard.extend(self.go_on(world));
        heard
    }

    /// Everything is listed again.
    pub fn list_again(&mut self, world: &mut World) -> Vec<Heard> {
        self.asked = None;
        self.drop_stream(world);
        self.machine.again();
        self.go_on(world)
    }

    pub fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    pub fn drop_stream(&mut self, world: &mut World) {
        if let Some(stream) = self.stream.take() {
            world.close(stream);
        }
    }

    fn answer(&mut self, answer: server::Answer, world: &mut World, heard: &mut Vec<Heard>) {
        self.driving.heard(&answer);
        let came = Came::Answer(Answer {
            created: answer.created,
            canceled: answer.canceled.then(|| "for a reason of etcd's".to_owned()),
            compact_revision: answer.compacted,
            revision: answer.revision,
            cluster_id: answer.cluster,
            changes: self.driving.changes(&answer.events),
        });
        self.take(came, Source::Answer(answer), world, heard);
    }

    fn take(&mut self, came: Came, from: Source, world: &mut World, heard: &mut Vec<Heard>) {
        let at = Now { now: self.epoch + world.now, chance: world.random.f64() };
        let update = self.machine.take(came, at);
        if let Some(update) = update {
            if let Update::Interrupted(Interruption { why, .. }) = &update {
                world.journal.write(format_args!("{}: interrupted: {why}", self.who));
            }
            heard.push(Heard { update, from });
        }
    }

    fn wait(&mut self, until: Instant, world: &mut World, heard: Vec<Heard>) -> Vec<Heard> {
        let until = until.saturating_duration_since(self.epoch);
        if self.woken_at.is_none_or(|at| at <= world.now || at > until) {
            world.wake(self.who, until);
            self.woken_at = Some(until);
        }
        heard
    }
}

pub fn stored(key: &KeyValue) -> Stored {
    Stored {
        key: key.key.as_bytes().to_vec(),
        value: key.value.to_vec(),
        create_revision: key.created,
        mod_revision: key.modified,
        lease_id: key.lease,
    }
}

pub fn change(event: &Event) -> Change {
    match event {
        Event::Put(key) => Change::Put(stored(key)),
        Event::Delete { key, revision, .. } => Change::Delete(key.as_bytes().to_vec(), *revision),
    }
}

//! etcd, the network and time, as one deterministic world: who asks etcd, watches it or waits does it here, and is told what
//! came of it by [`World::next`].
//!
//! While the world is not calm a request may be lost, or its answer though it was carried out; it may be carried out long
//! after its sender has given it up. Watches break between answers or in the midst of them, or fall silent; members lag behind
//! or are cut off; the leader goes and comes again.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use crate::simulation::agenda::{Agenda, Moment};
use crate::simulation::journal::Journal;
use crate::simulation::model::history::Write;
use crate::simulation::model::leases::End;
use crate::simulation::model::server::{Arrival, Range, Server, StreamId};
use crate::simulation::model::{EXPIRY_EVERY, Model};
use crate::simulation::request::{Reply, Request};

pub const MEMBERS: usize = 3;

/// Who acts, as the scene numbers them.
pub type Who = usize;

/// One request, so that an answer which comes too late is told from its successor's.
pub type Ticket = u64;

/// What the scene is told.
#[derive(Debug)]
pub enum Told {
    /// What came of a request: an answer, or that none came in time.
    Reply { who: Who, ticket: Ticket, reply: Reply },
    /// Something has arrived from its watch.
    Arrived { who: Who },
    /// The moment for which a wake-up was asked.
    Wake { who: Who },
    /// Keys have changed in etcd.
    Changed,
    /// The scene's own turn.
    Act,
}

enum Due {
    Expire,
    Elect,
    Heal(usize),
    Apply(usize),
    Pump(StreamId),
    Arrive(StreamId),
    NoLeader(StreamId),
    Carry { who: Who, ticket: Ticket, request: Request },
    Tell(Told),
}

pub struct World {
    pub now: Moment,
    pub random: Rng,
    pub model: Model,
    pub server: Server,
    pub journal: Journal,
    /// No more faults.
    pub calm: bool,
    /// Whose request made a revision, where it was a request's.
    pub writers: BTreeMap<(usize, i64), Who>,
    agenda: Agenda<Due>,
    tickets: Ticket,
    watchers: BTreeMap<StreamId, Who>,
    /// How much of the history the members were told of, so that each change is told once.
    spread: (usize, usize),
}

impl World {
    pub fn new(mut random: Rng, journal: Journal) -> Self {
        // High enough that a cluster which lost its data cannot come up to it.
        let model = Model::new(random.i64(1..20_000) + 10_000);
        let server = Server::new(MEMBERS, random.bool(), &model);
        let mut agenda = Agenda::new();
        agenda.note(EXPIRY_EVERY.mul_f64(random.f64()), Due::Expire);
        let (now, calm, tickets) = (Moment::ZERO, false, 0);
        let (watchers, writers) = (BTreeMap::new(), BTreeMap::new());
        Self { now, random, model, server, journal, calm, writers, agenda, tickets, watchers, spread: (0, 0) }
    }

    /// What comes next, no later than this; `None` at that time.
    pub fn next(&mut self, until: Moment) -> Option<Told> {
        loop {
            if self.agenda.next_at().is_none_or(|at| at > until) {
                self.now = until;
                self.journal.set_time(until);
                return None;
            }
            let (now, due) = self.agenda.next()?;
            assert!(now >= self.now, "time does not go back");
            self.now = now;
            self.journal.set_time(now);
            if let Some(told) = self.happen(due) {
                return Some(told);
            }
        }
    }

    fn happen(&mut self, due: Due) -> Option<Told> {
        match due {
            Due::Tell(told) => return Some(told),
            Due::Expire => {
                for lease in self.model.expire(self.now) {
                    self.journal.write(format_args!("etcd: lease {lease} has run out"));
                }
                self.agenda.note(self.now + EXPIRY_EVERY, Due::Expire);
            }
            Due::Elect => {
                self.journal.write(format_args!("etcd: a leader is elected, each lease has its whole time again"));
                self.model.elect(self.now);
            }
            Due::Heal(member) => {
                if std::mem::take(&mut self.server.members[member].cut) {
                    self.journal.write(format_args!("etcd: member {member} is back"));
                }
                self.apply(member);
            }
            Due::Apply(member) if !self.server.members[member].cut => self.apply(member),
            Due::Apply(_) => {}
            Due::Pump(stream) => self.pump(stream),
            Due::NoLeader(stream) => {
                if self.server.member_of(stream).is_some_and(|member| self.server.members[member].cut) {
                    self.cut(stream, "no leader");
                }
            }
            Due::Arrive(stream) => {
                // Whoever waits is told each time; it takes what has arrived by then.
                return self.watchers.get(&stream).map(|who| Told::Arrived { who: *who });
            }
            Due::Carry { who, ticket, request } => {
                let before = self.model.revision();
                let reply = request.carry_out(&mut self.model, self.now);
                if self.model.revision() > before {
                    self.writers.insert((self.model.era(), self.model.revision()), who);
                }
                self.journal.write(format_args!("{who}: {request} -> {reply}"));
                if self.calm || self.random.u8(0..20) > 0 {
                    let at = self.now + self.delay();
                    self.agenda.note(at, Due::Tell(Told::Reply { who, ticket, reply }));
                }
            }
        }
        self.spread().then_some(Told::Changed)
    }

    /// One way through the network.
    pub fn delay(&mut self) -> Duration {
        let longest = if self.calm || self.random.u8(0..10) > 0 { 5 } else { 1000 };
        Duration::from_micros(self.random.u64(100..longest * 1000))
    }

    pub fn tell_at(&mut self, at: Moment, told: Told) {
        self.agenda.note(at.max(self.now), Due::Tell(told));
    }

    pub fn wake(&mut self, who: Who, at: Moment) {
        self.tell_at(at, Told::Wake { who });
    }

    /// Sends a request through this member; the answer, or that none came within the limit, is told later.
    pub fn send(&mut self, who: Who, member: usize, request: Request, limit: Duration) -> Ticket {
        self.tickets += 1;
        let ticket = self.tickets;
        let lost = self.server.members[member].cut || (!self.calm && self.random.u8(0..20) == 0);
        if lost {
            self.journal.write(format_args!("{who}: {request} is lost on its way to member {member}"));
        } else {
            let at = self.now + self.delay();
            self.agenda.note(at, Due::Carry { who, ticket, request });
        }
        let reply = Reply::Failed("no answer in time");
        self.agenda.note(self.now + limit, Due::Tell(Told::Reply { who, ticket, reply }));
        ticket
    }

    /// Opens a watch at this member.
    pub fn open(&mut self, who: Who, member: usize, range: Range, start: i64) -> StreamId {
        let arrives = self.now + self.delay();
        let stream = self.server.open(member, range, start, &self.model, arrives);
        self.watchers.insert(stream, who);
        self.agenda.note(arrives, Due::Arrive(stream));
        self.agenda.note(self.now, Due::Pump(stream));
        if self.server.members[member].cut {
            self.no_leader(stream);
        }
        stream
    }

    pub fn close(&mut self, stream: StreamId) {
        self.server.close(stream);
        self.watchers.remove(&stream);
    }

    pub fn arrived(&mut self, stream: StreamId) -> Option<Arrival> {
        self.server.arrived(stream, self.now)
    }

    pub fn ask_progress(&mut self, stream: StreamId) {
        let arrives = self.now + self.delay();
        self.server.ask_progress(stream, &self.model, arrives);
        self.expect(stream);
    }

    /// A transaction of somebody who is not part of the scene, at once.
    pub fn write(&mut self, writes: &[Write]) {
        if self.model.transact(&[], writes, End::ByForce) == Ok(true) {
            self.spread();
        }
    }

    /// Tells the members what was agreed upon since the last time; each hears of it in its own time.
    /// Returns whether there was anything.
    pub fn spread(&mut self) -> bool {
        let agreed = (self.model.era(), self.model.history().log.len());
        if agreed == self.spread {
            return false;
        }
        let history = self.model.history();
        if agreed.0 == self.spread.0 {
            for revision in self.model.history().log[self.spread.1..].iter().filter_map(|entry| entry.written()) {
                for event in history.events(revision) {
                    self.journal.write(format_args!("etcd: {event}"));
                }
            }
        }
        self.spread = agreed;
        for member in 0..MEMBERS {
            let lag = if self.calm { 2 } else { self.server.members[member].lag };
            let lag = self.random.u64(0..=lag * 1000);
            self.agenda.note(self.now + Duration::from_micros(lag), Due::Apply(member));
        }
        true
    }

    fn apply(&mut self, member: usize) {
        self.server.apply(member, &self.model);
        for stream in self.server.streams_of(member) {
            self.agenda.note(self.now, Due::Pump(stream));
        }
    }

    fn pump(&mut self, stream: StreamId) {
        let arrives = self.now + self.delay();
        // One that is not yet in step with its member sends what it has bit by bit.
        if !self.calm && self.random.u8(0..8) == 0 {
            self.agenda.note(arrives + Duration::from_millis(20), Due::Pump(stream));
            return;
        }
        let more = self.server.pump(stream, &self.model, &mut self.random, arrives);
        self.expect(stream);
        if more {
            let pause = self.random.u64(0..100);
            self.agenda.note(self.now + Duration::from_millis(pause), Due::Pump(stream));
        }
    }

    /// Everything on its way is told when it arrives.
    fn expect(&mut self, stream: StreamId) {
        if let Some(at) = self.server.last_arrival(stream) {
            self.agenda.note(at.max(self.now), Due::Arrive(stream));
        }
    }

    pub fn cut(&mut self, stream: StreamId, why: &'static str) {
        self.journal.write(format_args!("net: watch {stream} breaks: {why}"));
        self.server.cut(stream, why, &mut self.random, self.now);
        self.expect(stream);
    }

    pub fn cancel(&mut self, stream: StreamId, created: bool) {
        self.journal.write(format_args!("etcd: cancels watch {stream}"));
        let arrives = self.now + self.delay();
        self.server.cancel(stream, &self.model, created, arrives);
        self.expect(stream);
    }

    pub fn silence(&mut self, stream: StreamId) {
        self.journal.write(format_args!("net: watch {stream} falls silent"));
        self.server.silence(stream);
    }

    /// A member is cut off from the others for so long. It goes on serving what it has, until it notices.
    pub fn cut_member(&mut self, member: usize, time: Duration) {
        self.journal.write(format_args!("etcd: member {member} is cut off for {time:?}"));
        self.server.members[member].cut = true;
        self.agenda.note(self.now + time, Due::Heal(member));
        for stream in self.server.streams_of(member) {
            self.no_leader(stream);
        }
    }

    fn no_leader(&mut self, stream: StreamId) {
        let notices = Duration::from_millis(self.random.u64(1000..4000));
        self.agenda.note(self.now + notices, Due::NoLeader(stream));
    }

    /// Nobody leads for so long.
    pub fn lose_leader(&mut self, time: Duration) {
        if self.model.has_leader() {
            self.journal.write(format_args!("etcd: nobody leads for {time:?}"));
            self.model.lose_leader();
            self.agenda.note(self.now + time, Due::Elect);
        }
    }

    /// All data is gone: another cluster in its place, or the same one from its beginning.
    pub fn lose_data(&mut self) {
        let history = self.model.history();
        let cluster = if self.random.bool() { history.cluster + 1 } else { history.cluster };
        self.journal.write(format_args!("etcd: all data is lost, now it is cluster {cluster}"));
        self.model.lose_data(cluster, 1);
        self.spread = (self.model.era(), 0);
        for member in 0..MEMBERS {
            for stream in self.server.streams_of(member) {
                self.cut(stream, "etcd has stopped");
            }
            self.apply(member);
        }
    }

    /// No more faults from now on: what is broken stays broken until somebody makes it again.
    pub fn calm_down(&mut self) {
        self.journal.write(format_args!("-- calm"));
        self.calm = true;
        self.model.elect(self.now);
        for member in 0..MEMBERS {
            self.server.members[member].lag = 2;
            self.agenda.note(self.now, Due::Heal(member));
        }
    }
}

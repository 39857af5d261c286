//! One process that keeps a session: the host's machine, driven against the model as its keeper drives it against etcd.

mod requests;

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use componenthost::etcd::watch::{Change, Patience, Update};
use componenthost::session::lease::{Event, Key, Lease, LeaseSettings, Reading, Step};
use componenthost::session::takeover::{Found, Own};
use componenthost::session::{BootTime, OnDeleted, SessionStatus};
use plugin_api::identity::ServerId;

use crate::simulation::agenda::Moment;
use crate::simulation::following::{Following, Heard, Right};
use crate::simulation::keepers::faults::Fault;
use crate::simulation::model::Compare;
use crate::simulation::model::history::Write;
use crate::simulation::model::server::Range;
use crate::simulation::request::Request;
use crate::simulation::world::{MEMBERS, Ticket, Told, Who, World};

/// Who asks and watches for one process: the keeper, its two watches, and the component that writes.
pub const VOICES: usize = 4;
const KEEPER: usize = 0;
const WATCHES: [usize; 2] = [1, 2];
const COMPONENT: usize = 3;

/// Where a component writes under its session.
pub const METADATA: &str = "sim/meta/component/role/x";

/// The longest sleep of a keeper: timers stand still while the machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: i64,
    /// Its machine: address, name and state file.
    pub machine: usize,
    pub key: String,
    pub standby_key: Option<String>,
    pub on_deleted: OnDeleted,
    pub ttl: Duration,
    pub limit: Duration,
    /// The leases that the state file of its machine names.
    pub former: BTreeSet<i64>,
}

pub struct Process {
    pub number: usize,
    pub plan: Plan,
    /// The id that it has now: never another one than at its start.
    id: i64,
    pub lease: Lease,
    /// How long its machine had run at the beginning.
    up: Duration,
    member: usize,
    doing: Option<Doing>,
    /// The state file.
    pub file: BTreeSet<i64>,
    watches: Vec<Following<Right>>,
    seen: [Option<Reading>; 2],
    /// What was told while it was held.
    pub inbox: Option<Vec<Told>>,
    pub alive: bool,
    /// Requests, for the check that it does not go round.
    pub requests: u64,
}

/// A step under way.
struct Doing {
    step: Step,
    sent: BootTime,
    tickets: Vec<Ticket>,
    /// When a renewal is asked for once more.
    hedge_at: Option<Moment>,
    /// Leases that are still to be revoked.
    to_revoke: Vec<i64>,
}

impl Process {
    pub fn new(number: usize, plan: Plan, epoch: Instant, world: &mut World) -> Self {
        let up = Duration::from_secs(world.random.u64(0..100_000));
        let lease = Lease::new(plan.settings(plan.id), BootTime::after_boot(up + world.now), world.random.u64(..));
        let patience = Patience { ask_after: plan.ttl / 3, answer_within: plan.ttl / 6 };
        let keys = [Some(&plan.key), plan.standby_key.as_ref()];
        let follow = |(key, voice): (&String, usize)| {
            Following::new(number * VOICES + voice, Range::One(key.clone()), patience, epoch, Right)
        };
        let watches = keys.into_iter().flatten().zip(WATCHES).map(follow).collect();
        let (id, member, file) = (plan.id, world.random.usize(0..MEMBERS), plan.former.clone());
        let (doing, seen, inbox) = (None, [None, None], None);
        Self { number, plan, id, lease, up, member, doing, file, watches, seen, inbox, alive: true, requests: 0 }
    }

    pub fn start<F: Fault>(&mut self, world: &mut World) {
        for watch in 0..self.watches.len() {
            let heard = self.watches[watch].go_on(world);
            self.saw(watch, heard);
        }
        self.turn::<F>(world);
    }

    /// The present moment on its machine's clock.
    pub fn now(&self, world: &World) -> BootTime {
        BootTime::after_boot(self.up + world.now)
    }

    /// Its key and create revision, where it is held for certain: what its writes compare.
    pub fn certain(&self, world: &World) -> Option<(String, i64)> {
        match self.lease.status() {
            SessionStatus::Held(held) if self.now(world) < held.deadline => {
                Some((held.key.clone(), held.registration.create_revision))
            }
            _ => None,
        }
    }

    /// Its component writes, if the session is held for certain.
    pub fn write(&self, world: &mut World) {
        let Some((key, created)) = self.certain(world) else { return };
        let put = Write::Put { key: METADATA.to_owned(), value: self.id.to_string().into_bytes(), lease: 0 };
        let request = Request::Transact { compares: vec![Compare::Created(key, created)], writes: vec![put] };
        world.send(self.voice(COMPONENT), self.member, request, self.plan.limit);
    }

    /// It is killed: what it has sent is on its way all the same.
    pub fn die(&mut self, world: &mut World) {
        world.journal.write(format_args!("{}: dies", self.voice(KEEPER)));
        self.alive = false;
        self.inbox = None;
        self.watches.iter_mut().for_each(|watch| watch.drop_stream(world));
    }

    /// It stops in good order and gives its lease up.
    pub fn stop(&mut self, world: &mut World) {
        if let Some(lease) = self.lease.lease_id() {
            world.send(self.voice(KEEPER), self.member, Request::Revoke(lease), self.plan.limit);
        }
        self.die(world);
    }

    pub fn tell<F: Fault>(&mut self, told: Told, world: &mut World) {
        if !self.alive {
            return;
        }
        if let Some(inbox) = &mut self.inbox {
            inbox.push(told);
            return;
        }
        let voice = match &told {
            Told::Reply { who, .. } | Told::Arrived { who } | Told::Wake { who } => who % VOICES,
            Told::Changed | Told::Act => return,
        };
        if let Some(watch) = WATCHES.iter().position(|of| *of == voice) {
            let heard = match told {
                Told::Reply { ticket, reply, .. } => self.watches[watch].reply(ticket, reply, world),
                _ => self.watches[watch].go_on(world),
            };
            if self.saw(watch, heard) {
                self.reconsider(world);
            }
            self.turn::<F>(world);
        } else if voice == KEEPER {
            match told {
                Told::Reply { ticket, reply, .. } => self.reply::<F>(ticket, reply, world),
                _ => self.turn::<F>(world),
            }
        }
    }

    pub fn is_stopping(&mut self, world: &mut World) {
        let now = self.now(world);
        self.lease.on(Event::Stopping, now);
    }

    pub fn streams(&self) -> Vec<u64> {
        self.watches.iter().filter_map(Following::stream).collect()
    }

    fn voice(&self, voice: usize) -> Who {
        self.number * VOICES + voice
    }

    /// Returns whether there was anything new.
    fn saw(&mut self, watch: usize, heard: Vec<Heard>) -> bool {
        let mut news = false;
        for Heard { update, .. } in heard {
            let reading = match update {
                Update::Table { entries, revision, .. } => {
                    Reading { found: entries.first().map(Found::from), revision }
                }
                Update::Changes(changes) => match changes.last() {
                    Some(Change::Put(stored)) => {
                        Reading { found: Some(Found::from(stored)), revision: stored.mod_revision }
                    }
                    Some(Change::Delete(_, revision)) => Reading { found: None, revision: *revision },
                    None => continue,
                },
                Update::Fresh | Update::Interrupted(_) => continue,
            };
            self.seen[watch] = Some(reading);
            news = true;
        }
        news
    }

    fn tell_what_was_seen(&mut self, now: BootTime) {
        for (key, seen) in [Key::Main, Key::Standby].into_iter().zip(self.seen.clone()) {
            if let Some(reading) = seen {
                self.lease.on(Event::Seen(key, reading), now);
            }
        }
    }

    /// A request that changes nothing in etcd is given up where news change what is to be done.
    fn reconsider(&mut self, world: &World) {
        let Some(doing) = &self.doing else { return };
        if let Step::ReadKey | Step::Renew { .. } | Step::AskHolder(_) = doing.step {
            let (kind, now) = (discriminant(&doing.step), self.now(world));
            self.tell_what_was_seen(now);
            if discriminant(&self.lease.step(now)) != kind {
                self.doing = None;
            }
        }
    }

    /// Does what the machine wants until it waits.
    fn turn<F: Fault>(&mut self, world: &mut World) {
        if let Some(at) = self.doing.as_ref().and_then(|doing| doing.hedge_at)
            && at <= world.now
        {
            self.hedge(world);
        }
        for _ in 0..100 {
            if self.doing.is_some() {
                return;
            }
            let now = self.now(world);
            self.tell_what_was_seen(now);
            let before = self.lease.status().as_str();
            let step = self.lease.step(now);
            if before != self.lease.status().as_str() {
                world.journal.write(format_args!("{}: {}", self.voice(KEEPER), self.lease.status().as_str()));
            }
            if let Step::Wait(until) = step {
                let sleep = until.since(now).min(LONGEST_SLEEP);
                assert!(!sleep.is_zero(), "it waits for what is over: {:?}", self.lease);
                world.wake(self.voice(KEEPER), world.now + sleep);
                return;
            }
            self.perform::<F>(step, world);
        }
        panic!("the machine does not wait, but goes round: {:?}", self.lease);
    }

    fn send(&mut self, request: Request, limit: Duration, world: &mut World) -> Ticket {
        self.requests += 1;
        world.send(self.voice(KEEPER), self.member, request, limit)
    }

    /// The same renewal once more, through another member.
    fn hedge(&mut self, world: &mut World) {
        self.member = (self.member + 1) % MEMBERS;
        let now = self.now(world);
        let Some(doing) = &mut self.doing else { return };
        doing.hedge_at = None;
        if let Step::Renew { lease_id, limit, .. } = doing.step {
            let left = (doing.sent + limit).since(now);
            let ticket = world.send(self.number * VOICES + KEEPER, self.member, Request::Renew(lease_id), left);
            doing.tickets.push(ticket);
        }
    }

    fn on<F: Fault>(&mut self, event: Event, world: &mut World) {
        let now = self.now(world);
        let lost = event == Event::LeaseGone;
        self.lease.on(event, now);
        if lost && F::TAKES_ANOTHER_ID {
            self.id += 1000;
            let settings = self.plan.settings(self.id);
            self.lease = Lease::new(settings, now, world.random.u64(..));
        }
        world.journal.write(format_args!("{}: {}", self.voice(KEEPER), self.lease.status().as_str()));
        if self.doing.is_none() {
            // Not from here, or a machine that goes round would do so on the stack.
            world.wake(self.voice(KEEPER), world.now);
        }
    }
}

impl Plan {
    fn settings(&self, id: i64) -> LeaseSettings {
        let machine = self.machine;
        let own = Own {
            server_id: ServerId(id),
            address: address(machine),
            host_name: format!("machine-{machine}"),
            bound: address(machine).parse::<SocketAddr>().expect("an address"),
        };
        let Self { key, standby_key, on_deleted, .. } = self.clone();
        LeaseSettings { own, key, standby_key, on_deleted }
    }
}

fn address(machine: usize) -> String {
    format!("10.0.0.{}:53100", machine + 1)
}

//! A table of peers that follows a role of many restless hosts, whatever etcd and the network do.

mod check;
mod faults;
mod sessions;

use std::time::{Duration, Instant};

use componenthost::cluster::Keys;
use componenthost::discovery::table::Table;
use componenthost::etcd::watch::{Patience, Update};
use fastrand::Rng;
use plugin_api::identity::Role;

use crate::simulation::following::{Following, Heard, Source};
use crate::simulation::journal::Journal;
use crate::simulation::model::history::Write;
use crate::simulation::model::leases::End;
use crate::simulation::model::server::Range;
use crate::simulation::peers::check::Check;
use crate::simulation::peers::sessions::{ACTIVE, FOREIGN, ROLE, RUBBISH, member, value};
use crate::simulation::world::{MEMBERS, Told, World};

pub use crate::simulation::peers::faults::{FromCreated, NoDifference, Sound, Subject, TrustsPrevious};

/// The hosts' ids are below this.
const HOSTS: i64 = 9;

/// The hosts of the role, the follower of their sessions, and its checks.
struct Scene<S> {
    world: World,
    follower: Following<S>,
    table: Table,
    epoch: Instant,
    check: Check,
    may_lose_data: bool,
}

/// One history by this seed.
pub fn run<S: Subject>(seed: u64, journal: &Journal) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let (ask_after, answer_within) = if random.bool() { (1000, 500) } else { (5000, 3000) };
    let patience =
        Patience { ask_after: Duration::from_millis(ask_after), answer_within: Duration::from_millis(answer_within) };
    let epoch = Instant::now();
    let follower = Following::new(0, Range::Prefix(ACTIVE.to_owned()), patience, epoch, S::default());
    let table = Table::new(Role::new(ROLE).expect("a role"), Keys::new("sim", "meta"));
    let may_lose_data = random.u8(0..10) == 0;
    let rounds = random.u8(1..4);
    let world = World::new(random, journal.clone());
    let mut scene = Scene { world, follower, table, epoch, check: Check::default(), may_lose_data };
    for host in 1..HOSTS / 2 {
        scene.register(host);
    }
    let heard = scene.follower.go_on(&mut scene.world);
    scene.take(heard)?;
    scene.world.tell_at(Duration::ZERO, Told::Act);
    for _ in 0..rounds {
        scene.world.calm = false;
        let busy = Duration::from_millis(scene.world.random.u64(500..8000));
        scene.pass(busy)?;
        scene.world.calm_down();
        scene.pass((patience.ask_after + patience.answer_within) * 3 + Duration::from_secs(8))?;
        scene.check.at_rest(scene.table.published(), &scene.world.model)?;
        let fresh = patience.ask_after + patience.answer_within;
        let confirmed = scene.table.published().confirmed_at.ok_or("at rest there is no list")?;
        let age = (scene.epoch + scene.world.now).saturating_duration_since(confirmed);
        if age > fresh {
            return Err(format!("at rest the table is {age:?} old"));
        }
    }
    Ok(())
}

impl<S: Subject> Scene<S> {
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.world.now + time;
        while let Some(told) = self.world.next(until) {
            let heard = match told {
                Told::Reply { ticket, reply, .. } => self.follower.reply(ticket, reply, &mut self.world),
                Told::Arrived { .. } | Told::Wake { .. } => self.follower.go_on(&mut self.world),
                Told::Changed => continue,
                Told::Act => self.act(),
            };
            self.take(heard)?;
        }
        Ok(())
    }

    fn take(&mut self, heard: Vec<Heard>) -> Result<(), String> {
        let now = self.epoch + self.world.now;
        for Heard { update, from } in heard {
            let (is_list, era, revision) = match (update, from) {
                (Update::Table { entries, revision, .. }, Source::List(at)) => {
                    S::list(&mut self.table, &entries, revision, now);
                    (true, at.era, at.revision)
                }
                (Update::Changes(changes), Source::Answer(answer)) => {
                    self.table.change(&changes, now);
                    let newest = answer.events.last().ok_or("changes from an answer without events")?;
                    (false, answer.era, newest.event.revision())
                }
                (Update::Fresh, _) => {
                    self.table.confirm(now);
                    continue;
                }
                _ => continue,
            };
            let published = self.table.published();
            let ids: Vec<_> = published.sessions.keys().map(|id| id.0).collect();
            self.world.journal.write(format_args!("0: table of {}: {ids:?}", published.revision));
            self.check.published(published, is_list, era, revision, &self.world.model)?;
        }
        Ok(())
    }

    /// Something happens, and something again soon. Now and then the follower lists again, though nothing is wrong.
    fn act(&mut self) -> Vec<Heard> {
        let now = self.world.now;
        let random = &mut self.world.random;
        let leases: Vec<_> = self.world.model.leases.live.keys().copied().collect();
        let forgotten = if self.world.calm { 0 } else { 15 };
        let renewed: Vec<_> = leases.into_iter().filter(|_| random.u8(0..100) >= forgotten).collect();
        let pause = if self.world.calm { 500 } else { random.u64(1..400) };
        for lease in renewed {
            self.world.model.leases.renew(lease, now);
        }
        if !self.world.calm {
            let acts = self.world.random.u8(1..4);
            (0..acts).for_each(|_| self.once());
            self.world.spread();
        }
        self.world.tell_at(now + Duration::from_millis(pause), Told::Act);
        let again = !self.world.calm && self.world.random.u8(0..60) == 0;
        if again { self.follower.list_again(&mut self.world) } else { Vec::new() }
    }

    fn once(&mut self) {
        let host = self.world.random.i64(1..HOSTS);
        match self.world.random.u8(0..34) {
            0..6 => self.register(host),
            6..9 => self.delete(&member(host)),
            9 | 10 => {
                // Again, under a new registration.
                self.delete(&member(host));
                self.register(host);
            }
            11..14 => self.update(host),
            14 => self.active(host),
            15 => self.delete(ACTIVE),
            16 => self.rubbish(&member(host)),
            17 => self.rubbish(ACTIVE),
            18 => self.foreign(),
            19 => self.revoke(1),
            20 => self.revoke(HOSTS),
            21 | 22 => self.world.write(&[put("sim/elsewhere", b"x".to_vec(), 0)]),
            23 | 24 => self.compact(),
            _ => self.fault(),
        }
    }

    fn fault(&mut self) {
        let member = self.world.random.usize(0..MEMBERS);
        let time = Duration::from_millis(self.world.random.u64(100..4000));
        match self.world.random.u8(0..9) {
            0 | 1 => self.world.server.members[member].lag = self.world.random.u64(0..2000),
            2 => self.world.cut_member(member, time),
            3 => self.world.lose_leader(time),
            4 if self.may_lose_data => {
                self.may_lose_data = false;
                self.world.lose_data();
                (1..HOSTS).for_each(|host| self.register(host));
            }
            kind => {
                let Some(stream) = self.follower.stream() else { return };
                match kind {
                    5 | 6 => self.world.cut(stream, "connection reset"),
                    7 => self.world.silence(stream),
                    _ => {
                        let created = self.world.random.bool();
                        self.world.cancel(stream, created);
                    }
                }
            }
        }
    }

    /// A lease of its own, or one that holds other keys too; now and then none.
    fn lease(&mut self) -> i64 {
        let random = &mut self.world.random;
        let (kind, ttl) = (random.u8(0..10), Duration::from_secs(random.u64(2..8)));
        let some = self.world.model.leases.live.keys().next().copied();
        match (kind, some) {
            (0, _) => 0,
            (1 | 2, Some(lease)) => lease,
            _ => self.world.model.grant(0, ttl, self.world.now).unwrap_or_default(),
        }
    }

    fn session(&mut self, host: i64) -> Vec<u8> {
        let random = &mut self.world.random;
        let address = format!("10.0.0.{}:1", if random.u8(0..5) == 0 { random.i64(1..HOSTS) } else { host });
        value(host, &address, random.u32(1..4), random.u8(0..3) == 0, random.u8(0..4) == 0)
    }

    fn register(&mut self, host: i64) {
        let (lease, value) = (self.lease(), self.session(host));
        self.world.write(&[put(&member(host), value, lease)]);
    }

    fn update(&mut self, host: i64) {
        let key = member(host);
        if let Some(lease) = self.world.model.keys().get(key.as_str()).map(|stored| stored.lease) {
            let value = self.session(host);
            self.world.write(&[put(&key, value, lease)]);
        }
    }

    /// Another holder of the active key; now and then it comes from standby, by one transaction.
    fn active(&mut self, host: i64) {
        let (lease, value) = (self.lease(), self.session(host));
        let mut writes = vec![put(ACTIVE, value, lease)];
        if self.world.random.bool() {
            writes.push(Write::Delete { key: member(host) });
        }
        self.world.write(&writes);
    }

    fn rubbish(&mut self, key: &str) {
        let value = *self.world.random.choice(RUBBISH).expect("there is some");
        let lease = self.world.model.keys().get(key).map_or(0, |stored| stored.lease);
        self.world.write(&[put(key, value.to_vec(), lease)]);
    }

    fn foreign(&mut self) {
        let key = format!("{ACTIVE}{}", self.world.random.choice(FOREIGN).expect("there is some"));
        let (value, delete) = (self.session(3), self.world.random.u8(0..3) == 0);
        self.world.write(&[if delete { Write::Delete { key } } else { put(&key, value, 0) }]);
    }

    fn revoke(&mut self, count: i64) {
        for _ in 0..count {
            let leases: Vec<_> = self.world.model.leases.live.keys().copied().collect();
            if let Some(lease) = self.world.random.choice(leases) {
                // Whether nobody leads does not matter here.
                let _ = self.world.model.revoke(lease, End::ByForce);
            }
        }
    }

    fn delete(&mut self, key: &str) {
        self.world.write(&[Write::Delete { key: key.to_owned() }]);
    }

    fn compact(&mut self) {
        let revision = self.world.model.revision() - self.world.random.i64(0..8);
        self.world.journal.write(format_args!("etcd: compacts up to {revision}"));
        self.world.model.compact(revision);
    }
}

fn put(key: &str, value: Vec<u8>, lease: i64) -> Write {
    Write::Put { key: key.to_owned(), value, lease }
}

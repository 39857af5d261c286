//! What happens to the hosts of the role, to etcd and to the network, by chance.

use std::time::Duration;

use super::Scene;
use super::faults::Subject;
use super::sessions::{ACTIVE, FOREIGN, RUBBISH, member, value};
use crate::simulation::following::Heard;
use crate::simulation::model::history::Write;
use crate::simulation::model::leases::End;
use crate::simulation::world::{MEMBERS, Told};

/// The hosts' ids are below this.
pub(super) const HOSTS: i64 = 9;

impl<S: Subject> Scene<S> {
    /// Something happens, and something again soon. Now and then the follower lists again, though nothing is wrong.
    pub(super) fn act(&mut self) -> Vec<Heard> {
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

    fn session(&mut self, host: i64, active: bool) -> Vec<u8> {
        let random = &mut self.world.random;
        let address = format!("10.0.0.{}:1", if random.u8(0..5) == 0 { random.i64(1..HOSTS) } else { host });
        value(host, &address, random.u32(1..4), active || random.u8(0..3) == 0, random.u8(0..4) == 0)
    }

    pub(super) fn register(&mut self, host: i64) {
        let (lease, value) = (self.lease(), self.session(host, false));
        self.world.write(&[put(&member(host), value, lease)]);
    }

    fn update(&mut self, host: i64) {
        let key = member(host);
        if let Some(lease) = self.world.model.keys().get(key.as_str()).map(|stored| stored.lease) {
            let value = self.session(host, false);
            self.world.write(&[put(&key, value, lease)]);
        }
    }

    /// Another holder of the active key; now and then it comes from standby, by one transaction.
    fn active(&mut self, host: i64) {
        let (lease, value) = (self.lease(), self.session(host, true));
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
        let (value, delete) = (self.session(3, false), self.world.random.u8(0..3) == 0);
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

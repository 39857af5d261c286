//! Several processes that keep sessions, whatever etcd, the network, the clock and people do.

mod check;
mod faults;
mod process;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use componenthost::session::{OnDeleted, SessionStatus};
use fastrand::Rng;

use crate::simulation::journal::Journal;
use crate::simulation::keepers::check::{ACTIVE, Check, SESSIONS, id_of};
use crate::simulation::keepers::process::{Plan, Process, VOICES};
use crate::simulation::model::history::Write;
use crate::simulation::model::leases::End;
use crate::simulation::world::{MEMBERS, Told, World};

pub use crate::simulation::keepers::faults::{CountsFromTheAnswer, Fault, PutsWithoutComparing, Sound, TakesAnotherId};

/// The processes, living and dead, and their checks.
struct Scene {
    world: World,
    epoch: Instant,
    processes: Vec<Process>,
    check: Check,
    exclusive: bool,
    on_deleted: OnDeleted,
    ttl: Duration,
}

/// One history by this seed.
pub fn run<F: Fault>(seed: u64, journal: &Journal) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let machines = random.usize(1..5);
    let exclusive = random.u8(0..3) > 0;
    let on_deleted = if random.u8(0..8) == 0 { OnDeleted::Stop } else { OnDeleted::Register };
    let ttl = Duration::from_secs(random.u64(2..16));
    let rounds = random.u8(1..4);
    let world = World::new(random, journal.clone());
    let check = Check::new(&world);
    let mut scene = Scene { world, epoch: Instant::now(), processes: Vec::new(), check, exclusive, on_deleted, ttl };
    for machine in 0..machines {
        scene.start::<F>(machine, BTreeSet::new());
    }
    scene.world.tell_at(Duration::ZERO, Told::Act);
    for _ in 0..rounds {
        scene.world.calm = false;
        let busy = scene.ttl.mul_f64(scene.world.random.f64() * 4.0);
        scene.pass::<F>(busy)?;
        scene.world.calm_down();
        (0..scene.processes.len()).for_each(|process| scene.go_on::<F>(process));
        scene.remove_what_nobody_can();
        scene.pass::<F>(scene.ttl * 3 + Duration::from_secs(15))?;
        scene.check.at_rest(&scene.processes, &scene.world)?;
    }
    Ok(())
}

impl Scene {
    fn pass<F: Fault>(&mut self, time: Duration) -> Result<(), String> {
        let until = self.world.now + time;
        while let Some(told) = self.world.next(until) {
            match told {
                Told::Act => self.act::<F>(),
                Told::Changed => {}
                Told::Reply { who, .. } | Told::Arrived { who } | Told::Wake { who } => {
                    self.processes[who / VOICES].tell::<F>(told, &mut self.world);
                }
            }
            self.stop_the_deleted();
            self.check.now(&self.processes, &self.world)?;
        }
        Ok(())
    }

    fn start<F: Fault>(&mut self, machine: usize, former: BTreeSet<i64>) {
        let number = self.processes.len();
        // Ids are taken from a counter in etcd: none is given twice.
        let id = i64::try_from(number).expect("few processes") + 1;
        let own = format!("{SESSIONS}-{id}");
        let stands_by = self.exclusive && self.world.random.u8(0..4) > 0;
        let key = if self.exclusive { ACTIVE.to_owned() } else { own.clone() };
        let limit = Duration::from_millis(self.world.random.u64(500..5000));
        let (on_deleted, ttl) = (self.on_deleted, self.ttl);
        let standby_key = stands_by.then_some(own);
        let plan = Plan { id, machine, key, standby_key, on_deleted, ttl, limit, former };
        self.world.journal.write(format_args!("{}: starts: {plan:?}", number * VOICES));
        let mut process = Process::new(number, plan, self.epoch, &mut self.world);
        process.start::<F>(&mut self.world);
        self.processes.push(process);
    }

    /// Something happens, and something again soon.
    fn act<F: Fault>(&mut self) {
        for process in self.processes.iter().filter(|process| process.alive && process.inbox.is_none()) {
            process.write(&mut self.world);
        }
        if !self.world.calm {
            self.once::<F>();
            self.world.spread();
        }
        let pause = Duration::from_millis(self.world.random.u64(1..if self.world.calm { 4000 } else { 600 }));
        self.world.tell_at(self.world.now + pause, Told::Act);
    }

    fn once<F: Fault>(&mut self) {
        let living: Vec<_> = self.processes.iter().filter(|process| process.alive).map(|it| it.number).collect();
        let some = self.world.random.choice(living);
        let member = self.world.random.usize(0..MEMBERS);
        let time = self.ttl.mul_f64(self.world.random.f64());
        match (self.world.random.u8(0..28), some) {
            (0, Some(process)) => self.restart::<F>(process),
            (1, Some(process)) => {
                let machine = self.processes[process].plan.machine;
                self.processes[process].stop(&mut self.world);
                if self.world.random.bool() {
                    self.start::<F>(machine, BTreeSet::new());
                }
            }
            (2..5, Some(process)) => {
                self.world.journal.write(format_args!("{}: is held", process * VOICES));
                self.processes[process].inbox.get_or_insert_default();
            }
            (5..12, Some(process)) => self.go_on::<F>(process),
            (12, Some(process)) => self.processes[process].is_stopping(&mut self.world),
            (13..17, Some(process)) => {
                let streams = self.processes[process].streams();
                let Some(stream) = self.world.random.choice(streams) else { return };
                match self.world.random.u8(0..4) {
                    0 => self.world.silence(stream),
                    1 => self.world.cancel(stream, false),
                    _ => self.world.cut(stream, "connection reset"),
                }
            }
            (17 | 18, _) => self.world.server.members[member].lag = self.world.random.u64(0..3000),
            (19 | 20, _) => self.world.cut_member(member, time),
            (21 | 22, _) => self.world.lose_leader(time),
            (23, _) => {
                let revision = self.world.model.revision();
                self.world.model.compact(revision);
            }
            (24, _) => self.force(),
            _ => {}
        }
    }

    /// It is killed, and another one is started in its place, which may find its state file.
    fn restart<F: Fault>(&mut self, process: usize) {
        self.processes[process].die(&mut self.world);
        let Plan { machine, .. } = self.processes[process].plan;
        match self.world.random.u8(0..3) {
            0 => {}
            1 => self.start::<F>(machine, BTreeSet::new()),
            _ => {
                let former = self.processes[process].file.clone();
                self.start::<F>(machine, former);
            }
        }
    }

    /// A process that was held goes on, and is told what has come meanwhile.
    fn go_on<F: Fault>(&mut self, process: usize) {
        let Some(inbox) = self.processes[process].inbox.take() else { return };
        self.world.journal.write(format_args!("{}: goes on", process * VOICES));
        for told in inbox {
            self.processes[process].tell::<F>(told, &mut self.world);
        }
        self.world.wake(process * VOICES, self.world.now);
    }

    /// Somebody revokes a lease that lives, or deletes a key, or puts one over without its lease.
    fn force(&mut self) {
        let leases: Vec<_> = self.world.model.leases.live.keys().copied().collect();
        let keys: Vec<_> = self.world.model.keys().values().cloned().collect();
        let key = self.world.random.choice(keys).filter(|key| key.key.starts_with(SESSIONS));
        match (self.world.random.u8(0..3), self.world.random.choice(leases), key) {
            (0, Some(lease), _) => {
                self.world.journal.write(format_args!("somebody revokes lease {lease}"));
                // Whether nobody leads does not matter here.
                let _ = self.world.model.revoke(lease, End::ByForce);
            }
            (1, _, Some(key)) => self.world.write(&[Write::Delete { key: key.key.to_string() }]),
            (_, _, Some(key)) => {
                let put = Write::Put { key: key.key.to_string(), value: key.value.to_vec(), lease: 0 };
                self.world.write(&[put]);
            }
            _ => {}
        }
    }

    /// A key that somebody put without a lease stays for ever once its process is dead: people have to remove it.
    fn remove_what_nobody_can(&mut self) {
        let living = |id: i64| self.processes.iter().any(|process| process.alive && process.plan.id == id);
        let keys = self.world.model.keys().values().filter(|key| key.key.starts_with(SESSIONS) && key.lease == 0);
        let keys: Vec<_> = keys.filter(|key| !id_of(key).is_some_and(living)).map(|key| key.key.to_string()).collect();
        for key in keys {
            self.world.write(&[Write::Delete { key }]);
        }
    }

    /// Whose key was deleted, and who takes that for a sign to stop, stops.
    fn stop_the_deleted(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.alive) {
            if matches!(process.lease.status(), SessionStatus::Deleted { .. }) {
                process.stop(&mut self.world);
            }
        }
    }
}

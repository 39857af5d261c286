//! A table of peers that follows a role of many restless hosts, whatever etcd and the network do.

mod acts;
mod check;
mod faults;
mod sessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::cluster::Keys;
use componenthost::discovery::reconcile::Reconcile;
use componenthost::discovery::table::Table;
use componenthost::etcd::watch::resume::Moment as Now;
use componenthost::etcd::watch::{Patience, Update};
use fastrand::Rng;
use plugin_api::identity::Role;

use crate::simulation::following::{Following, Heard, Source, stored};
use crate::simulation::journal::Journal;
use crate::simulation::model::server::Range;
use crate::simulation::peers::acts::HOSTS;
use crate::simulation::peers::check::{Cause, Check};
use crate::simulation::peers::sessions::{ACTIVE, ROLE};
use crate::simulation::request::{Reply, Request};
use crate::simulation::world::{MEMBERS, Ticket, Told, World};

pub use crate::simulation::peers::faults::{
    FromCreated, NeverReconciles, NoDifference, Sound, Subject, TrustsPrevious,
};

/// Who asks and watches here: the watch, and the list that the table is compared with.
const WATCH: usize = 0;
const LOOK: usize = 1;

/// The hosts of the role, the follower of their sessions, and its checks.
struct Scene<S> {
    world: World,
    follower: Following<S>,
    table: Table,
    reconcile: Reconcile,
    /// A list for comparison is under way.
    look: Option<Ticket>,
    /// The watch is broken.
    trouble: bool,
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
    let follower = Following::new(WATCH, Range::Prefix(ACTIVE.to_owned()), patience, epoch, S::default());
    let keep = Duration::from_secs(if random.bool() { random.u64(1..6) } else { 0 });
    let table = Table::new(Role::new(ROLE).expect("a role"), Keys::new("sim", "meta")).guarded(keep);
    let look_every = Duration::from_secs(10);
    let at = Now { now: epoch, chance: random.f64() };
    let reconcile = Reconcile::new(look_every, patience.limit() + patience.answer_within, at);
    let (may_lose_data, loses_events) = (random.u8(0..10) == 0, random.u8(0..10) == 0);
    let rounds = random.u8(1..4);
    let mut world = World::new(random, journal.clone());
    world.server.loses_events = loses_events;
    let check = Check::new(keep, loses_events, Arc::clone(table.published()));
    let (look, trouble) = (None, false);
    let mut scene = Scene { world, follower, table, reconcile, look, trouble, epoch, check, may_lose_data };
    for host in 1..HOSTS / 2 {
        scene.register(host);
    }
    let heard = scene.follower.go_on(&mut scene.world);
    scene.take(heard)?;
    scene.world.tell_at(Duration::ZERO, Told::Act);
    for _ in 0..rounds {
        scene.world.calm = false;
        scene.world.server.loses_events = loses_events;
        let busy = Duration::from_millis(scene.world.random.u64(500..8000));
        scene.pass(busy)?;
        scene.world.calm_down();
        scene.world.server.loses_events = false;
        scene.pass(patience.limit() * 3 + Duration::from_secs(8))?;
        if loses_events {
            scene.pass(look_every * 3 + patience.limit() * 2)?;
        }
        scene.at_rest(patience)?;
    }
    Ok(())
}

impl<S: Subject> Scene<S> {
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.world.now + time;
        while let Some(told) = self.world.next(until) {
            let heard = match told {
                Told::Reply { who: LOOK, ticket, reply } => self.looked(ticket, reply),
                Told::Reply { ticket, reply, .. } => self.follower.reply(ticket, reply, &mut self.world),
                Told::Arrived { .. } | Told::Wake { .. } => self.follower.go_on(&mut self.world),
                Told::Changed => continue,
                Told::Act => self.act(),
            };
            self.take(heard)?;
            self.look();
            self.expire()?;
        }
        Ok(())
    }

    fn at_rest(&self, patience: Patience) -> Result<(), String> {
        self.check.at_rest(self.table.published(), &self.world.model)?;
        let confirmed = self.table.published().confirmed_at().ok_or("at rest there is no list")?;
        let age = (self.epoch + self.world.now).saturating_duration_since(confirmed);
        if age > patience.limit() {
            return Err(format!("at rest the table is {age:?} old"));
        }
        Ok(())
    }

    fn take(&mut self, heard: Vec<Heard>) -> Result<(), String> {
        let now = self.epoch + self.world.now;
        for Heard { update, from } in heard {
            self.trouble = matches!(update, Update::Interrupted(_));
            match (update, &from) {
                (Update::Table { entries, revision, .. }, Source::List(at)) => {
                    S::list(&mut self.table, &entries, revision, now);
                    self.published(&Cause::List, at.era, at.revision)?;
                }
                (Update::Changes(changes), Source::Answer(answer)) => {
                    self.table.change(&changes, now);
                    // What was known before is not told again.
                    let events = answer.events.iter().map(|sent| &sent.event);
                    let events: Vec<_> = events.filter(|event| event.revision() > self.check.revision()).collect();
                    let newest = events.last().ok_or("changes from an answer that has none")?.revision();
                    self.published(&Cause::Changes(events), answer.era, newest)?;
                }
                (Update::Fresh, _) => self.table.confirm(now),
                _ => {
                    self.look = None;
                    self.reconcile.abandon(now);
                }
            }
        }
        Ok(())
    }

    fn published(&mut self, cause: &Cause<'_>, era: usize, revision: i64) -> Result<(), String> {
        let published = self.table.published();
        let ids: Vec<_> = published.sessions.keys().map(|id| id.0).collect();
        self.world.journal.write(format_args!("{WATCH}: table of {}: {ids:?}", published.revision));
        self.check.published(published, cause, (era, revision), &self.world.model, self.world.now)
    }

    /// Is the table what etcd has?
    fn look(&mut self) {
        let follows = self.table.published().confirmed_at().is_some() && !self.trouble && self.look.is_none();
        if S::RECONCILES && follows && self.reconcile.due() <= self.epoch + self.world.now {
            let limit = Duration::from_secs(3);
            let member = self.world.random.usize(0..MEMBERS);
            self.look = Some(self.world.send(LOOK, member, Request::List, limit));
        }
    }

    fn looked(&mut self, ticket: Ticket, reply: Reply) -> Vec<Heard> {
        if self.look.take_if(|look| *look == ticket).is_none() {
            return Vec::new();
        }
        let at = Now { now: self.epoch + self.world.now, chance: self.world.random.f64() };
        let Reply::Listed(listed) = reply else {
            self.reconcile.abandon(at.now);
            return Vec::new();
        };
        let entries: Vec<_> = listed.keys.values().map(|key| stored(key)).collect();
        let (etcd, table) = (self.table.mod_revisions_of(&entries), self.table.mod_revisions());
        let wrong = self.reconcile.compare(&etcd, &table, at);
        if wrong.is_empty() {
            return Vec::new();
        }
        self.world.journal.write(format_args!("{LOOK}: wrong: {wrong:?}"));
        self.follower.list_again(&mut self.world)
    }

    /// Lets go the suspects whose time is over.
    fn expire(&mut self) -> Result<(), String> {
        if self.table.expire(self.epoch + self.world.now).is_empty() {
            return Ok(());
        }
        let (era, revision) = self.check.at();
        self.published(&Cause::Expiry, era, revision)
    }
}

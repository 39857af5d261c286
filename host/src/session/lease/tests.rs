mod any;
mod deleted;
mod history;
mod standby;
mod stopping;

use std::net::SocketAddr;

use plugin_api::identity::ServerId;

use super::*;
use crate::session::takeover::Found;

const TTL: Duration = Duration::from_secs(12);

/// A machine, and the time that it is told.
struct Driven {
    lease: Lease,
    now: BootTime,
}

impl Driven {
    fn new() -> Self {
        let own = Own {
            server_id: ServerId(7),
            address: "a:1".to_owned(),
            host_name: "here".to_owned(),
            bound: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let settings = LeaseSettings { own, key: "key".to_owned(), standby_key: None, on_deleted: OnDeleted::Register };
        Self::of(settings)
    }

    fn of(settings: LeaseSettings) -> Self {
        let now = BootTime::after_boot(Duration::from_secs(1000));
        Self { lease: Lease::new(settings, now, 1), now }
    }

    /// Registered under lease 5 at revision 10.
    fn held() -> Self {
        let mut driven = Self::new();
        driven.on(Event::FormerCleared);
        driven.on(read(absent(1)));
        driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
        driven.on(put_at(10));
        driven
    }

    fn on(&mut self, event: Event) {
        self.lease.on(event, self.now);
    }

    fn step(&mut self) -> Step {
        self.lease.step(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn registration(&self) -> Option<(i64, i64)> {
        match self.lease.status() {
            SessionStatus::Held(held) => Some((held.registration.create_revision, held.registration.lease_id)),
            _ => None,
        }
    }

    fn state(&self) -> &'static str {
        self.lease.status().as_str()
    }
}

fn found(id: i64, lease_id: i64, create_revision: i64) -> Found {
    Found {
        server_id: Some(ServerId(id)),
        address: "b:1".to_owned(),
        host_name: "there".to_owned(),
        stopping: false,
        lease_id,
        create_revision,
        mod_revision: create_revision,
    }
}

fn put(lease_id: i64) -> Step {
    Step::Put { lease_id, stopping: false, standby: None }
}

fn put_at(revision: i64) -> Event {
    Event::Put { revision, stopping: false }
}

fn read(reading: Reading) -> Event {
    Event::Read(Readings { main: reading.found, standby: None, revision: reading.revision })
}

fn not_put(reading: Reading) -> Event {
    Event::NotPut(Readings { main: reading.found, standby: None, revision: reading.revision })
}

fn seen(reading: Reading) -> Event {
    Event::Seen(Key::Main, reading)
}

fn there(found: Found, revision: i64) -> Reading {
    Reading { found: Some(found), revision }
}

fn absent(revision: i64) -> Reading {
    Reading { found: None, revision }
}

#[test]
fn the_first_registration_goes_step_by_step() {
    let mut driven = Driven::new();
    assert_eq!(driven.step(), Step::ClearFormer);
    driven.on(Event::FormerCleared);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(absent(1)));
    assert_eq!(driven.step(), Step::Grant);
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    assert_eq!((driven.step(), driven.state()), (put(5), "registering"));
    driven.on(put_at(10));
    assert_eq!(driven.registration(), Some((10, 5)));
    assert_eq!(driven.step(), Step::Wait(driven.now + TTL / 3));
}

#[test]
fn the_deadline_is_counted_from_the_request() {
    let mut driven = Driven::held();
    driven.pass(TTL / 3);
    let sent = driven.now;
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.pass(TTL / 10);
    driven.on(Event::Renewed { ttl: TTL, sent });
    let SessionStatus::Held(held) = driven.lease.status() else { panic!("held") };
    assert_eq!(held.deadline, sent + TTL);
    assert_eq!(driven.step(), Step::Wait(sent + TTL / 3));
}

#[test]
fn a_failed_renewal_is_tried_again_until_the_deadline() {
    let mut driven = Driven::held();
    let deadline = driven.now + TTL;
    driven.pass(TTL / 3);
    while driven.now < deadline {
        assert_eq!(driven.registration(), Some((10, 5)));
        match driven.step() {
            Step::Renew { limit, .. } => {
                assert!(limit <= TTL / 3 && driven.now + limit <= deadline, "no try outlasts the deadline");
                driven.pass(limit);
                driven.on(Event::Failed("no answer".to_owned()));
            }
            Step::Wait(until) => {
                assert!(until > driven.now && until <= deadline);
                driven.now = until;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
}

#[test]
fn after_the_deadline_the_old_lease_is_asked_for_first() {
    let mut driven = Driven::held();
    driven.pass(TTL);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(there(found(7, 5, 10), 20)));
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.registration(), Some((10, 5)), "nothing has changed for anybody");
}

#[test]
fn a_lease_that_has_gone_is_replaced() {
    let mut driven = Driven::held();
    driven.on(Event::LeaseGone);
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    // The key outlives its lease by a moment.
    driven.on(read(there(found(7, 5, 10), 20)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Main, lease_id: Some(5), mod_revision: 10 });
    driven.on(Event::Cleared);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(absent(21)));
    assert_eq!(driven.step(), Step::Grant);
    driven.on(Event::Granted { lease_id: 6, ttl: TTL, sent: driven.now });
    driven.on(put_at(22));
    assert_eq!(driven.registration(), Some((22, 6)));
}

#[test]
fn a_lease_that_went_in_the_outage_leaves_a_key_to_remove() {
    let mut driven = Driven::held();
    driven.pass(TTL);
    driven.step();
    driven.on(read(there(found(7, 5, 10), 20)));
    driven.on(Event::LeaseGone);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(there(found(7, 5, 10), 20)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Main, lease_id: Some(5), mod_revision: 10 });
}

#[test]
fn a_deleted_key_is_put_under_the_same_lease() {
    let mut driven = Driven::held();
    driven.on(seen(absent(11)));
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    driven.on(read(absent(12)));
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
    driven.on(put_at(13));
    assert_eq!(driven.registration(), Some((13, 5)));
}

#[test]
fn a_watch_that_lags_behind_changes_nothing() {
    let mut driven = Driven::held();
    driven.on(seen(absent(9)));
    driven.on(seen(there(found(1, 1, 8), 8)));
    driven.on(seen(there(found(7, 5, 10), 10)));
    assert_eq!(driven.registration(), Some((10, 5)));
}

#[test]
fn a_key_that_was_put_over_is_lost() {
    for other in [found(8, 6, 10), found(7, 0, 10), found(7, 5, 11)] {
        let mut driven = Driven::held();
        driven.on(seen(there(other.clone(), 12)));
        assert_eq!(driven.state(), "lost", "{other:?}");
    }
}

#[test]
fn a_lost_race_drops_the_lease_and_waits() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(not_put(there(found(8, 6, 2), 3)));
    assert_eq!((driven.step(), driven.state()), (Step::Drop(5), "held_by_other"));
    driven.on(Event::Dropped);
    assert_eq!((driven.step(), driven.lease.lease_id()), (Step::AskHolder(6), None));
}

#[test]
fn our_id_under_a_lease_that_was_never_ours_is_another_holder() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(7, 6, 2), 3)));
    assert_eq!((driven.step(), driven.state()), (Step::AskHolder(6), "held_by_other"));

    let mut driven = Driven::held();
    driven.on(seen(there(found(7, 6, 11), 12)));
    driven.on(read(there(found(7, 6, 11), 12)));
    assert_eq!((driven.step(), driven.state()), (Step::Drop(5), "held_by_other"));
}

#[test]
fn our_key_without_a_lease_is_put_anew() {
    let mut driven = Driven::held();
    driven.on(seen(there(found(7, 0, 10), 12)));
    driven.on(read(there(found(7, 0, 10), 12)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Main, lease_id: None, mod_revision: 10 });
}

#[test]
fn another_holder_is_watched_and_reported() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(8, 6, 2), 3)));
    assert_eq!(driven.step(), Step::AskHolder(6));
    driven.on(Event::HolderAsked(Some(TTL)));
    assert_eq!(driven.step(), Step::Wait(driven.now + REPORT_EVERY));
    driven.on(seen(absent(3)));
    assert!(matches!(driven.step(), Step::Wait(_)), "that was before the key was read");
    driven.pass(REPORT_EVERY);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(there(found(8, 6, 2), 9)));
    assert_eq!((driven.step(), driven.state()), (Step::AskHolder(6), "held_by_other"));
    driven.on(Event::HolderAsked(Some(TTL)));
    driven.on(seen(absent(10)));
    assert_eq!(driven.step(), Step::ReadKey, "at once");
    driven.on(read(absent(10)));
    assert_eq!(driven.step(), Step::Grant);
}

#[test]
fn a_put_whose_answer_was_lost_is_found_again() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(Event::Failed("no answer".to_owned()));
    let Step::Wait(until) = driven.step() else { panic!("a pause") };
    driven.now = until;
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(there(found(7, 5, 10), 11)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.registration(), Some((10, 5)));
}

#[test]
fn failures_are_told_and_pause_longer_each_time() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    for _ in 0..40 {
        assert_eq!(driven.step(), Step::ReadKey);
        driven.on(Event::Failed("refused".to_owned()));
        let Step::Wait(until) = driven.step() else { panic!("a pause") };
        assert!(until > driven.now && until <= driven.now + LAST_PAUSE);
        driven.now = until;
    }
    let SessionStatus::Registering { last_error, .. } = driven.lease.status() else { panic!("registering") };
    assert_eq!(last_error.as_deref(), Some("refused"));
}

#[test]
fn an_old_lease_is_asked_for_often_enough() {
    let mut driven = Driven::held();
    driven.pass(TTL);
    for _ in 0..40 {
        assert_eq!(driven.step(), Step::ReadKey);
        driven.on(Event::Failed("refused".to_owned()));
        let Step::Wait(until) = driven.step() else { panic!("a pause") };
        assert!(until <= driven.now + TTL / 6);
        driven.now = until;
    }
}

#[test]
fn a_lease_that_went_before_its_key_was_put_is_replaced() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(Event::LeaseGone);
    assert_eq!((driven.step(), driven.lease.lease_id()), (Step::ReadKey, None));
    driven.on(read(absent(1)));
    assert_eq!(driven.step(), Step::Grant);
}

#[test]
fn a_read_that_succeeds_between_failures_does_not_shorten_the_pauses() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        driven.on(read(absent(1)));
        assert_eq!(driven.step(), Step::Grant);
        driven.on(Event::Failed("refused".to_owned()));
        let Step::Wait(until) = driven.step() else { panic!("a pause") };
        longest = longest.max(until.since(driven.now));
        driven.now = until;
    }
    assert!(longest >= LAST_PAUSE / 2, "{longest:?}");
}

#[test]
fn a_registration_ends_the_long_pauses() {
    let mut driven = Driven::held();
    driven.pass(TTL);
    assert_eq!(driven.step(), Step::ReadKey);
    for _ in 0..10 {
        driven.on(Event::Failed("refused".to_owned()));
        let Step::Wait(until) = driven.step() else { panic!("a pause") };
        driven.now = until;
    }
    driven.on(read(there(found(7, 5, 10), 20)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    driven.on(seen(absent(21)));
    driven.on(Event::Failed("refused".to_owned()));
    let Step::Wait(until) = driven.step() else { panic!("a pause") };
    assert!(until <= driven.now + FIRST_PAUSE);
}

#[test]
fn rubbish_in_a_nodes_own_key_is_removed_and_the_key_put_again() {
    let node = Step::Clear { key: Key::Main, lease_id: None, mod_revision: 12 };
    // A coordinator's key is anybody's: who put something there may mean something by it.
    for (key, step) in [("role-7", node), ("role", Step::Drop(5)), ("role-17", Step::Drop(5))] {
        let mut driven = Driven::held();
        driven.lease.settings.key = key.to_owned();
        let rubbish = Found { server_id: None, mod_revision: 12, ..found(7, 0, 10) };
        driven.on(seen(there(rubbish.clone(), 12)));
        assert_eq!((driven.state(), driven.step()), ("lost", Step::ReadKey));
        driven.on(read(there(rubbish, 12)));
        assert_eq!(driven.step(), step, "{key}");
    }
}

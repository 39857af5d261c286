//! A coordinator that stands by, is elected, and is replaced.

use super::*;
use crate::session::status::StandBy;

impl Driven {
    /// One that may stand by.
    fn coordinator() -> Self {
        let own = Self::new().lease.settings.own;
        let standby_key = Some("key-7".to_owned());
        Self::of(LeaseSettings { own, key: "key".to_owned(), standby_key, on_deleted: OnDeleted::Register })
    }

    /// In standby under lease 5 since revision 10; server 8 has the active key since revision 2.
    fn standing_by() -> Self {
        let mut driven = Self::coordinator();
        driven.on(Event::FormerCleared);
        driven.on(read(there(found(8, 6, 2), 3)));
        driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
        driven.on(put_at(10));
        driven
    }

    fn standby(&self) -> StandBy {
        match self.lease.status() {
            SessionStatus::StandBy(standby) => standby.clone(),
            other => panic!("not in standby but {other:?}"),
        }
    }

    /// Holds the active key since revision 20, under lease 5.
    fn elected() -> Self {
        let mut driven = Self::standing_by();
        driven.on(seen(absent(19)));
        driven.on(put_at(20));
        driven
    }
}

fn both(main: Option<Found>, standby: Option<Found>, revision: i64) -> Readings {
    Readings { main, standby, revision }
}

fn election() -> Step {
    Step::Put { lease_id: 5, stopping: false, standby: Some(10) }
}

#[test]
fn who_finds_a_living_holder_stands_by_under_a_key_of_its_own() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(8, 6, 2), 3)));
    assert_eq!(driven.step(), Step::Grant);
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::PutStandby { lease_id: 5, stopping: false, active: 2 });
    driven.on(put_at(10));
    let standby = driven.standby();
    assert_eq!((standby.key.as_str(), standby.registration.create_revision), ("key-7", 10));
    assert_eq!((standby.holder.server_id, standby.deadline), (Some(ServerId(8)), driven.now + TTL));
}

#[test]
fn a_free_key_is_put_at_once_by_a_coordinator_too() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
}

#[test]
fn a_standby_renews_its_lease_and_asks_for_its_holders() {
    let mut driven = Driven::standing_by();
    assert_eq!(driven.step(), Step::AskHolder(6));
    driven.on(Event::HolderAsked(Some(TTL)));
    assert_eq!(driven.standby().holder.lease_left, Some(TTL));
    assert_eq!(driven.step(), Step::Wait(driven.now + TTL / 3));
    driven.pass(TTL / 3);
    let sent = driven.now;
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.on(Event::Renewed { ttl: TTL, sent });
    assert_eq!(driven.standby().deadline, sent + TTL);
    driven.pass(REPORT_EVERY);
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::AskHolder(6), "it may be about to run out");
}

#[test]
fn the_active_keys_delete_is_the_election() {
    let mut driven = Driven::standing_by();
    driven.on(seen(absent(19)));
    assert_eq!((driven.step(), driven.state()), (election(), "stand_by"));
    driven.on(put_at(20));
    assert_eq!(driven.registration(), Some((20, 5)), "under the same lease");
}

#[test]
fn a_delete_of_before_the_standby_was_put_is_no_election() {
    let mut driven = Driven::standing_by();
    for reading in [absent(1), absent(10), there(found(9, 6, 1), 1)] {
        driven.on(seen(reading));
        assert_eq!(driven.step(), Step::AskHolder(6));
    }
}

#[test]
fn a_lost_election_is_judged_again() {
    let mut driven = Driven::standing_by();
    driven.on(seen(absent(19)));
    driven.on(Event::NotPut(both(Some(found(9, 8, 20)), Some(found(7, 5, 10)), 21)));
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    let standby = driven.standby();
    assert_eq!((standby.holder.server_id, standby.registration.create_revision), (Some(ServerId(9)), 10));
    // What woke it comes again from the watch, late.
    driven.on(seen(absent(19)));
    assert_eq!(driven.standby(), standby);
    driven.on(seen(absent(22)));
    assert_eq!(driven.step(), election(), "and the next one is another");
}

#[test]
fn a_holder_that_changed_unseen_is_judged_anew() {
    let mut driven = Driven::standing_by();
    driven.on(seen(there(Found { mod_revision: 12, stopping: true, ..found(8, 6, 2) }, 12)));
    assert_eq!(driven.step(), Step::AskHolder(6), "the same holder, which stops");
    driven.on(seen(there(found(9, 8, 20), 20)));
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "stand_by"));
}

#[test]
fn the_own_standby_keys_delete_in_the_election_is_known() {
    let mut driven = Driven::elected();
    driven.on(Event::Seen(Key::Standby, absent(20)));
    assert_eq!(driven.registration(), Some((20, 5)));
}

#[test]
fn a_deleted_standby_key_is_put_again() {
    let mut driven = Driven::standing_by();
    driven.on(Event::Seen(Key::Standby, absent(11)));
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    driven.on(Event::Read(both(Some(found(8, 6, 2)), None, 12)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::PutStandby { lease_id: 5, stopping: false, active: 2 });
    driven.on(put_at(13));
    assert_eq!(driven.standby().registration.create_revision, 13);
}

#[test]
fn who_is_replaced_stands_by_under_the_lease_that_is_left() {
    let mut driven = Driven::elected();
    driven.on(seen(there(found(9, 8, 20), 25)));
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"), "at once");
    driven.on(read(there(found(9, 8, 20), 26)));
    assert_eq!(driven.step(), Step::Renew { lease_id: 5, hedge_after: TTL / 6, limit: TTL / 3 });
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::PutStandby { lease_id: 5, stopping: false, active: 20 });
    driven.on(put_at(27));
    assert_eq!((driven.standby().registration.lease_id, driven.standby().holder.server_id), (5, Some(ServerId(9))));
}

#[test]
fn an_active_key_that_goes_before_the_standby_key_is_put_is_put_itself() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(8, 6, 2), 3)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(not_put(absent(4)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
}

#[test]
fn an_election_whose_answer_was_lost_is_found_won() {
    let mut driven = Driven::standing_by();
    driven.on(seen(absent(19)));
    driven.on(Event::Failed("no answer".to_owned()));
    let Step::Wait(until) = driven.step() else { panic!("a pause") };
    driven.now = until;
    driven.on(Event::Read(both(Some(found(7, 5, 20)), None, 21)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.registration(), Some((20, 5)));
}

#[test]
fn of_two_own_keys_the_standby_key_goes() {
    let mut driven = Driven::standing_by();
    driven.on(seen(there(found(7, 5, 20), 20)));
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(Event::Read(both(Some(found(7, 5, 20)), Some(found(7, 5, 10)), 21)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Standby, lease_id: None, mod_revision: 10 });
    driven.on(Event::Cleared);
    driven.on(Event::Read(both(Some(found(7, 5, 20)), None, 22)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.registration(), Some((20, 5)));
}

#[test]
fn a_standby_whose_lease_is_not_certain_says_so() {
    let mut driven = Driven::standing_by();
    driven.pass(TTL);
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    driven.on(Event::Read(both(Some(found(8, 6, 2)), Some(found(7, 5, 10)), 30)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.standby().registration.create_revision, 10, "etcd has kept it");
}

#[test]
fn an_election_that_cannot_be_held_ends_at_the_deadline() {
    let mut driven = Driven::standing_by();
    driven.on(seen(absent(19)));
    let deadline = driven.now + TTL;
    while driven.now < deadline {
        assert_eq!(driven.state(), "stand_by");
        driven.on(Event::Failed("no answer".to_owned()));
        let Step::Wait(until) = driven.step() else { panic!("a pause") };
        driven.now = until;
    }
    driven.step();
    assert_eq!(driven.state(), "lost");
}

#[test]
fn a_standby_without_its_lease_begins_again() {
    let mut driven = Driven::standing_by();
    driven.on(Event::LeaseGone);
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    // Its key outlives the lease by a moment.
    driven.on(Event::Read(both(Some(found(8, 6, 2)), Some(found(7, 5, 10)), 30)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Standby, lease_id: Some(5), mod_revision: 10 });
    driven.on(Event::Cleared);
    driven.on(Event::Read(both(Some(found(8, 6, 2)), None, 31)));
    assert_eq!(driven.step(), Step::Grant);
}

#[test]
fn a_former_process_of_this_place_is_taken_over_not_stood_by_for() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    let former = Found { address: "127.0.0.1:1".to_owned(), host_name: "here".to_owned(), ..found(6, 6, 2) };
    driven.lease.settings.own.address = former.address.clone();
    driven.on(read(there(former, 3)));
    assert_eq!(driven.step(), Step::Clear { key: Key::Main, lease_id: None, mod_revision: 2 });
}

#[test]
fn our_id_under_a_foreign_lease_is_not_stood_by_for() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(7, 6, 2), 3)));
    assert_eq!((driven.step(), driven.state()), (Step::AskHolder(6), "held_by_other"));
}

#[test]
fn a_standby_key_of_another_is_waited_for() {
    let mut driven = Driven::coordinator();
    driven.on(Event::FormerCleared);
    driven.on(Event::Read(both(Some(found(8, 6, 2)), Some(found(7, 9, 3)), 4)));
    assert_eq!((driven.step(), driven.state()), (Step::AskHolder(9), "held_by_other"));
}

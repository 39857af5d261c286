//! Keys that somebody deletes, where that is a sign to stop.

use super::*;

fn stops() -> Driven {
    let own = Driven::new().lease.settings.own;
    let standby_key = Some("key-7".to_owned());
    let mut driven = Driven::of(LeaseSettings { own, key: "key".to_owned(), standby_key, on_deleted: OnDeleted::Stop });
    driven.on(Event::FormerCleared);
    driven
}

/// Registered under lease 5 at revision 10.
fn held() -> Driven {
    let mut driven = stops();
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(put_at(10));
    driven
}

/// In standby under lease 5 since revision 10.
fn standing_by() -> Driven {
    let mut driven = stops();
    driven.on(read(there(found(8, 6, 2), 3)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(put_at(10));
    driven
}

#[test]
fn a_deleted_key_is_not_put_again() {
    let mut driven = held();
    driven.on(seen(absent(11)));
    assert_eq!(driven.state(), "lost");
    driven.on(read(absent(12)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.state(), "deleted");
    assert_eq!(driven.lease.lease_id(), Some(5), "it is left to be revoked");
    for event in
        [read(absent(13)), seen(absent(13)), Event::LeaseGone, Event::HistoryLost, Event::Failed(String::new())]
    {
        driven.on(event);
        assert!(matches!(driven.step(), Step::Wait(until) if until > driven.now));
    }
    assert_eq!(driven.state(), "deleted");
}

#[test]
fn a_deleted_standby_key_is_a_sign_as_well() {
    let mut driven = standing_by();
    driven.on(Event::Seen(Key::Standby, absent(11)));
    driven.on(read(there(found(8, 6, 2), 12)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.state(), "deleted");
}

#[test]
fn a_key_that_went_with_its_lease_is_put_again() {
    let mut driven = held();
    driven.on(seen(absent(11)));
    driven.on(read(absent(12)));
    driven.on(Event::LeaseGone);
    driven.on(read(absent(12)));
    assert_eq!((driven.step(), driven.state()), (Step::Grant, "lost"));
}

#[test]
fn a_key_that_another_took_was_not_deleted() {
    let mut driven = held();
    driven.on(seen(there(found(8, 6, 10), 11)));
    driven.on(read(there(found(8, 6, 10), 12)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    // The other is gone again before the standby key is put.
    driven.on(not_put(absent(13)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
}

#[test]
fn an_election_deletes_nothing_that_counts() {
    let mut driven = standing_by();
    driven.on(seen(absent(19)));
    driven.on(put_at(20));
    driven.on(Event::Seen(Key::Standby, absent(20)));
    assert_eq!(driven.registration(), Some((20, 5)));
}

//! The mark that the component stops: never lost, whatever is on its way when it is asked for.

use super::*;

#[test]
fn a_registration_is_marked() {
    let mut driven = Driven::held();
    driven.on(Event::Stopping);
    assert_eq!(driven.step(), Step::Mark { key: Key::Main, lease_id: 5, create_revision: 10 });
    assert!(!driven.lease.says_stopping());
    driven.on(Event::Marked);
    assert!(driven.lease.says_stopping());
    assert_eq!(driven.step(), Step::Wait(driven.now + TTL / 3));
}

#[test]
fn a_put_that_is_on_its_way_does_not_lose_the_mark() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
    driven.on(Event::Stopping);
    driven.on(put_at(10));
    assert_eq!(driven.step(), Step::Mark { key: Key::Main, lease_id: 5, create_revision: 10 });
}

#[test]
fn what_is_registered_later_says_so_from_the_beginning() {
    let mut driven = Driven::held();
    driven.on(Event::Stopping);
    driven.on(Event::LeaseGone);
    driven.on(read(absent(11)));
    driven.on(Event::Granted { lease_id: 6, ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::Put { lease_id: 6, stopping: true, standby: None });
    driven.on(Event::Put { revision: 12, stopping: true });
    assert!(driven.lease.says_stopping());
}

#[test]
fn a_key_that_is_found_again_is_believed_what_it_says() {
    for says in [false, true] {
        let mut driven = Driven::held();
        driven.on(Event::Stopping);
        driven.pass(TTL);
        driven.step();
        driven.on(read(there(Found { stopping: says, ..found(7, 5, 10) }, 20)));
        driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
        assert_eq!(matches!(driven.step(), Step::Mark { .. }), !says);
    }
}

#[test]
fn a_mark_that_fails_is_tried_again_after_a_pause() {
    let mut driven = Driven::held();
    driven.on(Event::Stopping);
    driven.on(Event::Failed("no answer".to_owned()));
    let Step::Wait(until) = driven.step() else { panic!("a pause") };
    assert!(until <= driven.now + TTL / 12);
    driven.now = until;
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), Step::Mark { key: Key::Main, lease_id: 5, create_revision: 10 });
}

#[test]
fn a_key_that_is_not_ours_any_more_is_not_marked() {
    let mut driven = Driven::held();
    driven.on(Event::Stopping);
    driven.on(not_put(there(found(8, 6, 12), 13)));
    assert_eq!((driven.step(), driven.state()), (Step::Drop(5), "held_by_other"));
}

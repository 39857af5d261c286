//! etcd that comes back without its data: its revisions begin again below those that were known.

use super::*;

#[test]
fn a_session_begins_again_with_an_etcd_that_lost_its_data() {
    let mut driven = Driven::held();
    driven.on(Event::HistoryLost);
    assert_eq!((driven.step(), driven.state()), (Step::ReadKey, "lost"));
    driven.on(read(absent(3)));
    driven.on(Event::LeaseGone);
    driven.on(read(absent(3)));
    driven.on(Event::Granted { lease_id: 6, ttl: TTL, sent: driven.now });
    driven.on(put_at(4));
    assert_eq!(driven.registration(), Some((4, 6)));
    driven.on(seen(absent(5)));
    assert_eq!(driven.state(), "lost", "what is seen now counts");
}

#[test]
fn lower_revisions_of_another_etcd_are_not_ignored_for_ever() {
    let mut driven = Driven::new();
    driven.on(Event::FormerCleared);
    driven.on(read(there(found(8, 6, 900), 1000)));
    driven.on(Event::HolderAsked(None));
    driven.on(seen(absent(3)));
    assert!(matches!(driven.step(), Step::Wait(_)), "as if it was long ago");
    driven.on(Event::HistoryLost);
    assert_eq!(driven.step(), Step::ReadKey);
    driven.on(read(there(found(8, 6, 2), 2)));
    driven.on(Event::HolderAsked(None));
    driven.on(seen(absent(3)));
    assert_eq!(driven.step(), Step::ReadKey);
}

#[test]
fn a_key_that_etcd_forgot_was_deleted_by_nobody() {
    let own = Driven::new().lease.settings.own;
    let mut driven =
        Driven::of(LeaseSettings { own, key: "key".to_owned(), standby_key: None, on_deleted: OnDeleted::Stop });
    driven.on(Event::FormerCleared);
    driven.on(read(absent(1)));
    driven.on(Event::Granted { lease_id: 5, ttl: TTL, sent: driven.now });
    driven.on(put_at(10));
    driven.on(Event::HistoryLost);
    // A backup may have the lease without its key.
    driven.on(read(absent(8)));
    driven.on(Event::Renewed { ttl: TTL, sent: driven.now });
    assert_eq!(driven.step(), put(5));
}

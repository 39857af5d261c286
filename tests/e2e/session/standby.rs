//! Coordinators that stand by, against a real etcd.

use std::time::Instant;

use componenthost::session::{BootTime, StandBy};

use super::*;

/// One that stands by where another is active. Each has an address of its own: none is another's former process.
fn standby(id: i64, ttl: Duration) -> SessionSettings {
    SessionSettings { standby: true, address: format!("127.0.0.1:{id}"), ..coordinator(id, ttl) }
}

fn as_standby(status: &SessionStatus) -> Option<StandBy> {
    if let SessionStatus::StandBy(standby) = status { Some(standby.clone()) } else { None }
}

async fn standing_by(session: &Session) -> StandBy {
    status(session, as_standby).await
}

async fn lost(session: &Session) {
    status(session, |status| matches!(status, SessionStatus::Lost { .. }).then_some(())).await;
}

async fn get(key: &str) -> Option<KeyValue> {
    shared().await.client().await.get(key, None).await.expect("etcd answers").kvs().first().cloned()
}

/// Server 1 active and server 2 in standby, each in a host of its own.
async fn active_and_standby(ttl: Duration) -> (HostSide, HostSide, Session, Session) {
    let first = HostSide::start().await;
    let second = first.beside(shared().await).await;
    let active = first.open(standby(1, ttl));
    held(&active).await;
    let other = second.open(standby(2, ttl));
    standing_by(&other).await;
    (first, second, active, other)
}

#[tokio::test]
async fn a_standby_has_a_key_of_its_own_and_names_the_holder() {
    let (_first, _second, _active, standby) = active_and_standby(LONG).await;
    let asked = |status: &SessionStatus| as_standby(status).filter(|standby| standby.holder.lease_left.is_some());
    let shown = eventually(LIMIT, async || asked(&standby.status().borrow()).ok_or("not asked yet")).await;
    assert!(shown.key.ends_with("/session/rootcoord-2"), "{}", shown.key);
    assert!(shown.holder.to_string().contains("server 1 at 127.0.0.1:1"), "{}", shown.holder);
    let stored = get(&shown.key).await.expect("registered");
    assert_eq!(stored.create_revision(), shown.registration.create_revision);
    let (record, lease) = (record_of(&stored), stored.lease());
    assert!(record.exclusive && record.server_id == 2 && record.lease_id == lease);
    assert_eq!(standby.guard().current(), None, "it writes nothing");
    let view = standby.view();
    assert_eq!((view.state, view.lease), ("stand_by", Some(format!("{lease:x}"))));
}

#[tokio::test]
async fn a_standby_takes_over_when_the_active_ones_lease_runs_out() {
    let (_first, _second, active, standby) = active_and_standby(SHORT).await;
    let before = standing_by(&standby).await;
    let crashed = as_held(&active.status().borrow()).expect("active");
    drop(active);
    let after = held(&standby).await;
    // Half a second is etcd's own; the rest is for a machine that does much else.
    let late = BootTime::now().since(crashed.deadline);
    assert!(late < Duration::from_secs(3), "{late:?} after the lease has run out");
    assert_eq!(after.registration.lease_id, before.registration.lease_id);
    assert!(after.registration.create_revision > crashed.registration.create_revision);
    assert!(get(&before.key).await.is_none(), "its standby key went with the election");
}

#[tokio::test]
async fn a_standby_takes_over_at_once_from_one_that_stops() {
    let (_first, _second, active, standby) = active_and_standby(LONG).await;
    let began = Instant::now();
    active.revoke(LIMIT).await;
    held(&standby).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn of_two_standbys_one_wins_and_the_other_stays() {
    let (first, _second, active, standby_2) = active_and_standby(LONG).await;
    let third = first.beside(shared().await).await;
    let standby_3 = third.open(standby(3, LONG));
    let before = [standing_by(&standby_2).await, standing_by(&standby_3).await];
    active.revoke(LIMIT).await;
    let (winner, loser, registration) = tokio::select! {
        held = held(&standby_2) => (2, &standby_3, held.registration),
        held = held(&standby_3) => (3, &standby_2, held.registration),
    };
    let stays = |status: &SessionStatus| as_standby(status).filter(|it| it.holder.server_id == Some(ServerId(winner)));
    let after = status(loser, stays).await;
    assert_eq!(after.holder.lease_id, registration.lease_id);
    let same = before.iter().any(|before| before.registration == after.registration);
    assert!(same, "the loser's own key is the one that it had: {after:?}");
}

#[tokio::test]
async fn a_deleted_standby_key_comes_back() {
    let (_first, _second, _active, standby) = active_and_standby(LONG).await;
    let before = standing_by(&standby).await;
    shared().await.client().await.delete(before.key.as_str(), None).await.expect("a delete");
    let again = |status: &SessionStatus| as_standby(status).filter(|it| it.registration != before.registration);
    let after = status(&standby, again).await;
    assert_eq!(after.registration.lease_id, before.registration.lease_id);
    assert!(get(&before.key).await.is_some());
}

#[tokio::test]
async fn a_replaced_holder_stands_by_under_the_same_lease() {
    let (first, _second, active, other) = active_and_standby(LONG).await;
    other.revoke(LIMIT).await;
    let before = as_held(&active.status().borrow()).expect("active");
    let record = Record { server_id: 6, address: "10.0.0.9:1".to_owned(), exclusive: true, ..Record::default() };
    // A put without a compare, as no host makes it: the key is the other's at once.
    let foreign = shared().await.put_session(first.registry.keys(), &role(), &record, LONG).await;
    let after = standing_by(&active).await;
    assert_eq!((after.holder.server_id, after.holder.lease_id), (Some(ServerId(6)), foreign.lease_id));
    assert_eq!(after.registration.lease_id, before.registration.lease_id);
    assert_eq!(active.guard().current(), None);
    shared().await.revoke(foreign.lease_id).await;
    assert!(held(&active).await.registration.create_revision > foreign.revision);
}

#[tokio::test]
async fn revoking_gives_up_a_standby_key_as_well() {
    let (_first, _second, active, standby) = active_and_standby(LONG).await;
    let before = standing_by(&standby).await;
    standby.revoke(LIMIT).await;
    assert!(get(&before.key).await.is_none());
    assert!(active.guard().is_certain(), "the active one is not touched");
}

#[tokio::test]
async fn a_standby_says_that_it_stops() {
    let (_first, _second, _active, standby) = active_and_standby(LONG).await;
    let before = standing_by(&standby).await;
    standby.mark_stopping().await.expect("marked");
    let stored = get(&before.key).await.expect("registered");
    assert!(record_of(&stored).stopping && standby.view().stopping);
    assert_eq!((stored.create_revision(), stored.lease()), {
        (before.registration.create_revision, before.registration.lease_id)
    });
}

#[tokio::test]
async fn a_deleted_key_can_be_a_sign_to_stop() {
    let host = HostSide::start().await;
    let session = host.open(SessionSettings { on_deleted: OnDeleted::Stop, ..coordinator(5, LONG) });
    let before = held(&session).await;
    shared().await.client().await.delete(before.key.as_str(), None).await.expect("a delete");
    status(&session, |status| matches!(status, SessionStatus::Deleted { .. }).then_some(())).await;
    assert!(!session.guard().is_certain());
    session.revoke(LIMIT).await;
    let mut client = shared().await.client().await;
    let left = client.lease_time_to_live(before.registration.lease_id, None).await.expect("etcd answers");
    assert_eq!(left.ttl(), -1, "its lease is given up");
}

#[tokio::test]
async fn a_key_that_went_with_its_lease_is_no_sign_to_stop() {
    let host = HostSide::start().await;
    let session = host.open(SessionSettings { on_deleted: OnDeleted::Stop, ..coordinator(5, LONG) });
    let before = held(&session).await;
    shared().await.revoke(before.registration.lease_id).await;
    held_again(&session, &before).await;
}

#[tokio::test]
async fn a_mark_that_meets_a_registration_on_its_way_is_not_lost() {
    let host = HostSide::start().await;
    let mut client = shared().await.client().await;
    for id in 1..=30 {
        let settings = node(id, LONG);
        let session = host.open(settings.clone());
        // Earlier or later in the keeper's first steps, each time at another one.
        tokio::time::sleep(Duration::from_micros(150) * u32::try_from(id).expect("small")).await;
        // An error where it is not registered yet: it is marked all the same.
        let _ = session.mark_stopping().await;
        held(&session).await;
        eventually(LIMIT, async || {
            let stored = host.stored(&mut client, &settings).await.ok_or("no key")?;
            holds(record_of(&stored).stopping, "it does not say that it stops")
        })
        .await;
    }
}

#[tokio::test]
async fn certainty_ends_at_the_deadline_and_comes_back() {
    let etcd = Etcd::start().await;
    let host = HostSide::in_etcd(&etcd).await;
    let session = host.open(coordinator(5, SHORT));
    let mut guard = session.guard();
    let mut changed = async || tokio::time::timeout(LIMIT, guard.certainty_changed()).await.expect("in time");
    assert!(changed().await);
    etcd.stop().await;
    assert!(!changed().await);
    assert_eq!(session.guard().current(), None);
    lost(&session).await;
    etcd.cont();
    assert!(changed().await);
}

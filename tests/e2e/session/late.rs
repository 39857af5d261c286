//! What happens in etcd between a look and a write, or a request and its answer: the way to etcd is slow here.

use std::time::Instant;

use componenthost::session::BootTime;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tests::etcd::Settings;

use super::*;

/// Each way: a request and its answer take two of these.
const DELAY: Duration = Duration::from_millis(200);

/// A host to whom etcd is far away; those who put a key beside it are near.
async fn far_away() -> (Etcd, HostSide) {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let host = HostSide::in_etcd(&etcd).await;
    etcd.member(0).proxy().delay(DELAY);
    (etcd, host)
}

/// A session that has looked at its keys and got its lease: the next request puts a key.
async fn about_to_put(host: &HostSide, settings: SessionSettings) -> Session {
    let state_file = Arc::new(state_file(host.directory.path()));
    let session = Session::open(host.registry.clone(), settings, Arc::clone(&state_file));
    eventually(LIMIT, async || {
        let text = std::fs::read_to_string(state_file.path()).map_err(|error| error.to_string())?;
        holds(text.contains("lease_id"), text)
    })
    .await;
    session
}

/// Another's record for the active key.
fn other() -> Record {
    Record { server_id: 6, address: "10.0.0.9:1".to_owned(), exclusive: true, ..Record::default() }
}

#[tokio::test]
async fn a_key_that_another_put_meanwhile_is_not_put_over() {
    let (etcd, host) = far_away().await;
    let session = about_to_put(&host, coordinator(5, LONG)).await;
    let foreign = etcd.put_session(host.registry.keys(), &role(), &other(), LONG).await;
    assert_eq!(status(&session, as_holder).await.lease_id, foreign.lease_id);
}

#[tokio::test]
async fn a_standby_key_that_another_put_meanwhile_is_not_put_over() {
    let (etcd, host) = far_away().await;
    etcd.put_session(host.registry.keys(), &role(), &other(), LONG).await;
    let session = about_to_put(&host, SessionSettings { standby: true, ..coordinator(5, LONG) }).await;
    let namesake = Record { server_id: 5, exclusive: false, ..other() };
    let foreign = etcd.put_session(host.registry.keys(), &role(), &namesake, LONG).await;
    assert_eq!(status(&session, as_holder).await.lease_id, foreign.lease_id);
}

#[tokio::test]
async fn nobody_stands_by_for_one_who_went_meanwhile() {
    let (etcd, host) = far_away().await;
    let active = etcd.put_session(host.registry.keys(), &role(), &other(), LONG).await;
    let session = about_to_put(&host, SessionSettings { standby: true, ..coordinator(5, LONG) }).await;
    etcd.revoke(active.lease_id).await;
    held(&session).await;
}

#[tokio::test]
async fn an_election_removes_no_key_that_is_anothers_meanwhile() {
    let (etcd, host) = far_away().await;
    let active = etcd.put_session(host.registry.keys(), &role(), &other(), LONG).await;
    let session = host.open(SessionSettings { standby: true, ..coordinator(5, LONG) });
    status(&session, |status| matches!(status, SessionStatus::StandBy(_)).then_some(())).await;
    etcd.revoke(active.lease_id).await;
    // The election is held before this is known.
    let namesake = Record { server_id: 5, exclusive: false, ..other() };
    let key = host.registry.keys().member_session(&role(), ServerId(5));
    etcd.client().await.delete(key.as_str(), None).await.expect("a delete");
    etcd.put_session(host.registry.keys(), &role(), &namesake, LONG).await;
    held(&session).await;
    let answer = etcd.client().await.get(key, None).await.expect("a get");
    assert_eq!(answer.kvs().len(), 1, "it was removed");
}

#[tokio::test]
async fn a_mark_does_not_put_over_another_who_took_the_key() {
    let (etcd, host) = far_away().await;
    let session = host.open(coordinator(5, LONG));
    let key = held(&session).await.key;
    etcd.client().await.delete(key, None).await.expect("a delete");
    let foreign = etcd.put_session(host.registry.keys(), &role(), &other(), LONG).await;
    // It does not know of it yet.
    session.mark_stopping().await.expect_err("the key is another's");
    assert_eq!(status(&session, as_holder).await.lease_id, foreign.lease_id);
}

#[tokio::test]
async fn a_key_at_the_own_address_is_not_removed_while_somebody_changes_it() {
    let (etcd, host) = far_away().await;
    let settings = coordinator(7, LONG);
    let former = Record { address: settings.address.clone(), host_name: settings.host_name.clone(), ..other() };
    let foreign = etcd.put_session(host.registry.keys(), &role(), &former, LONG).await;
    let session = host.open(settings);
    let (mut client, since) = (etcd.client().await, Instant::now());
    let value = serde_json::to_vec(&former).expect("JSON");
    // In this time it is read and to be removed more than once.
    while since.elapsed() < DELAY * 10 {
        let there = Compare::create_revision(foreign.key.as_str(), CompareOp::Equal, foreign.revision);
        let options = PutOptions::new().with_lease(foreign.lease_id);
        let put = TxnOp::put(foreign.key.as_str(), value.clone(), Some(options));
        let answer = client.txn(Txn::new().when([there]).and_then([put])).await.expect("etcd answers");
        assert!(answer.succeeded(), "it was removed");
    }
    held(&session).await;
}

#[tokio::test]
async fn a_deadline_is_counted_from_the_moment_at_which_the_request_was_sent() {
    let (_etcd, host) = far_away().await;
    let ttl = Duration::from_secs(4);
    let session = host.open(coordinator(5, ttl));
    let left = |held: &Held| held.deadline.since(BootTime::now());
    let first = held(&session).await;
    assert!(left(&first) <= ttl - DELAY * 4, "the lease was granted, then the key put: {:?}", left(&first));
    let renewed = eventually(LIMIT, async || {
        let now = as_held(&session.status().borrow()).ok_or("not held")?;
        if now.deadline > first.deadline { Ok(now) } else { Err("not renewed") }
    })
    .await;
    assert!(left(&renewed) <= ttl - DELAY * 2, "{:?}", left(&renewed));
}

#[tokio::test]
async fn a_ttl_that_etcd_has_raised_is_the_one_that_counts() {
    // Its least TTL is 5 s.
    let etcd = Etcd::start_with(Settings { election: Duration::from_secs(3), ..Settings::default() }).await;
    let session = HostSide::in_etcd(&etcd).await.open(coordinator(5, SHORT));
    let first = held(&session).await;
    assert!(first.deadline.since(BootTime::now()) > SHORT);
    let renewed = eventually(LIMIT, async || {
        let now = as_held(&session.status().borrow()).ok_or("not held")?;
        if now.deadline != first.deadline { Ok(now) } else { Err("not renewed") }
    })
    .await;
    assert!(renewed.deadline > first.deadline, "its whole time again");
}

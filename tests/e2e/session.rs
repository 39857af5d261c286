//! The host's own sessions, against a real etcd.

mod history;
mod late;
mod server_id;
mod standby;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use componenthost::cluster::Record;
use componenthost::etcd::{Etcd as Registry, EtcdConfig};
use componenthost::session::{
    Held, Holder, OnDeleted, Session, SessionError, SessionSettings, SessionStatus, StateFile,
};
use etcd_client::{Client, KeyValue};
use futures_util::FutureExt as _;
use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use tempfile::TempDir;
use tests::etcd::{Etcd, shared};
use tests::eventually;
use tests::eventually::holds;

const LIMIT: Duration = Duration::from_secs(10);
/// The least that the tests' etcd grants.
const SHORT: Duration = Duration::from_secs(2);
/// Longer than any test: whatever happens within it does not happen because a lease ran out.
const LONG: Duration = Duration::from_secs(300);

/// One host's part of a test.
struct HostSide {
    registry: Registry,
    root_path: String,
    directory: TempDir,
}

impl HostSide {
    async fn in_etcd(etcd: &Etcd) -> Self {
        let root_path = etcd.prefix();
        let registry = etcd.registry_at(&root_path).await;
        Self { registry, root_path, directory: TempDir::new().expect("a directory") }
    }

    async fn start() -> Self {
        Self::in_etcd(shared().await).await
    }

    /// Another host in the same cluster, with a connection of its own.
    async fn beside(&self, etcd: &Etcd) -> Self {
        let root_path = self.root_path.clone();
        let registry = etcd.registry_at(&root_path).await;
        Self { registry, root_path, directory: TempDir::new().expect("a directory") }
    }

    fn open(&self, settings: SessionSettings) -> Session {
        Session::open(self.registry.clone(), settings, Arc::new(state_file(self.directory.path())))
    }

    /// The session's key as etcd has it.
    async fn stored(&self, client: &mut Client, settings: &SessionSettings) -> Option<KeyValue> {
        let answer = client.get(settings.key(self.registry.keys()), None).await.expect("etcd answers");
        answer.kvs().first().cloned()
    }
}

fn role() -> Role {
    Role::new("rootcoord").expect("a role")
}

fn state_file(directory: &Path) -> StateFile {
    StateFile::open(directory, "cluster", &[role()]).expect("a state file")
}

fn coordinator(id: i64, ttl: Duration) -> SessionSettings {
    SessionSettings {
        role: role(),
        server_id: ServerId(id),
        kind: Kind::Coordinator,
        address: "127.0.0.1:53100".to_owned(),
        bound: SocketAddr::from(([127, 0, 0, 1], 53100)),
        version: "1.2.3".to_owned().into(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        host_name: "here".to_owned(),
        ttl,
        standby: false,
        on_deleted: OnDeleted::Register,
    }
}

fn node(id: i64, ttl: Duration) -> SessionSettings {
    SessionSettings { kind: Kind::Node, ..coordinator(id, ttl) }
}

fn record_of(stored: &KeyValue) -> Record {
    serde_json::from_slice(stored.value()).expect("a session's value is a record")
}

/// Waits until the status is what is asked for.
async fn status<T>(session: &Session, wanted: impl Fn(&SessionStatus) -> Option<T>) -> T {
    let mut status = session.status();
    let found = status.wait_for(|status| wanted(status).is_some());
    let found = tokio::time::timeout(LIMIT, found).await.expect("the session gets there in time");
    let found = found.expect("the keeper runs").clone();
    wanted(&found).expect("it has just been there")
}

fn as_held(status: &SessionStatus) -> Option<Held> {
    if let SessionStatus::Held(held) = status { Some(held.clone()) } else { None }
}

fn as_holder(status: &SessionStatus) -> Option<Holder> {
    if let SessionStatus::HeldByOther { holder, .. } = status { Some(holder.clone()) } else { None }
}

async fn held(session: &Session) -> Held {
    status(session, as_held).await
}

/// Waits until it is registered anew.
async fn held_again(session: &Session, before: &Held) -> Held {
    status(session, |status| as_held(status).filter(|held| held.registration != before.registration)).await
}

#[tokio::test]
async fn what_is_registered_is_what_milvus_reads() {
    let host = HostSide::start().await;
    let settings = coordinator(7, LONG);
    let session = host.open(settings.clone());
    let held = held(&session).await;
    let stored = host.stored(&mut shared().await.client().await, &settings).await.expect("registered");
    let value: serde_json::Value = serde_json::from_slice(stored.value()).expect("JSON");
    let lease_id = held.registration.lease_id;
    let expected = serde_json::json!({
        "ServerID": 7, "ServerName": "rootcoord", "Address": "127.0.0.1:53100", "Exclusive": true, "Stopping": false,
        "Version": "1.2.3", "LeaseID": lease_id, "HostName": "here", "ServerLabels": {"zone": "a"},
    });
    assert_eq!(value, expected);
    assert_eq!((stored.lease(), stored.create_revision()), (lease_id, held.registration.create_revision));
    assert!(held.key.ends_with("/meta/session/rootcoord"));
}

#[tokio::test]
async fn a_node_has_a_key_of_its_own() {
    let host = HostSide::start().await;
    let first = host.open(node(3, LONG));
    let second = host.open(node(4, LONG));
    assert!(held(&first).await.key.ends_with("/session/rootcoord-3"));
    assert!(held(&second).await.key.ends_with("/session/rootcoord-4"));
}

#[tokio::test]
async fn a_session_outlives_its_ttl_many_times() {
    let host = HostSide::start().await;
    let session = host.open(coordinator(1, SHORT));
    let first = held(&session).await;
    let last = eventually(LIMIT, async || {
        let now = as_held(&session.status().borrow()).expect("held all the time");
        holds(now.deadline >= first.deadline + SHORT * 3, now.deadline).map(|()| now)
    })
    .await;
    assert_eq!(last.registration, first.registration);
}

#[tokio::test]
async fn a_crashed_host_is_taken_over_at_once_by_its_state_file() {
    let host = HostSide::start().await;
    let crashed = host.open(coordinator(1, LONG));
    let before = held(&crashed).await;
    drop(crashed);
    let state_file = eventually(LIMIT, async || {
        let file = state_file(host.directory.path());
        holds(!file.former(&role()).is_empty(), "still locked").map(|()| file)
    })
    .await;
    // Another address: nothing but the file proves anything.
    let settings = SessionSettings { address: "127.0.0.1:1".to_owned(), ..coordinator(2, LONG) };
    let session = Session::open(host.registry.clone(), settings, Arc::new(state_file));
    let after = held_again(&session, &before).await;
    assert!(after.registration.create_revision > before.registration.create_revision);
}

#[tokio::test]
async fn a_crashed_host_is_taken_over_by_its_address() {
    let host = HostSide::start().await;
    let settings = coordinator(2, LONG);
    let former = Record {
        server_id: 1,
        address: settings.address.clone(),
        host_name: settings.host_name.clone(),
        exclusive: true,
        ..Record::default()
    };
    shared().await.put_session(host.registry.keys(), &role(), &former, LONG).await;
    held(&host.open(settings)).await;
}

#[tokio::test]
async fn a_key_that_another_holds_is_waited_for() {
    let host = HostSide::start().await;
    let other = Record {
        server_id: 1,
        address: "10.0.0.9:53100".to_owned(),
        host_name: "there".to_owned(),
        exclusive: true,
        ..Record::default()
    };
    let foreign = shared().await.put_session(host.registry.keys(), &role(), &other, LONG).await;
    let session = host.open(coordinator(2, SHORT));
    let holder = status(&session, |status| as_holder(status).filter(|holder| holder.lease_left.is_some())).await;
    let text = holder.to_string();
    for part in ["server 1", "10.0.0.9:53100", "'there'", "runs out in"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(session.guard().current(), None);
    assert_eq!(session.view().state, "held_by_other");
    shared().await.revoke(foreign.lease_id).await;
    assert!(held(&session).await.registration.create_revision > foreign.revision);
}

#[tokio::test]
async fn a_key_without_a_lease_is_waited_for_as_well() {
    let host = HostSide::start().await;
    let settings = coordinator(2, SHORT);
    let mut client = shared().await.client().await;
    client.put(settings.key(host.registry.keys()), "rubbish", None).await.expect("a put");
    let session = host.open(settings.clone());
    let text = status(&session, as_holder).await.to_string();
    assert!(text.contains("no session") && text.contains("without a lease"), "{text}");
    client.delete(settings.key(host.registry.keys()), None).await.expect("a delete");
    held(&session).await;
}

#[tokio::test]
async fn a_revoked_lease_is_replaced_under_the_same_id() {
    let host = HostSide::start().await;
    let settings = coordinator(5, LONG);
    let session = host.open(settings.clone());
    let before = held(&session).await;
    shared().await.revoke(before.registration.lease_id).await;
    let after = held_again(&session, &before).await;
    assert_ne!(after.registration.lease_id, before.registration.lease_id);
    let stored = host.stored(&mut shared().await.client().await, &settings).await.expect("registered");
    assert_eq!(record_of(&stored).server_id, 5);
}

#[tokio::test]
async fn a_deleted_key_is_put_again_under_the_same_lease() {
    let host = HostSide::start().await;
    let session = host.open(coordinator(5, LONG));
    let before = held(&session).await;
    shared().await.client().await.delete(before.key.as_str(), None).await.expect("a delete");
    let after = held_again(&session, &before).await;
    assert_eq!(after.registration.lease_id, before.registration.lease_id);
}

#[tokio::test]
async fn a_replaced_key_is_waited_for() {
    let host = HostSide::start().await;
    let session = host.open(coordinator(5, LONG));
    let before = held(&session).await;
    let other = Record { server_id: 6, address: "10.0.0.9:1".to_owned(), exclusive: true, ..Record::default() };
    let mut client = shared().await.client().await;
    client.delete(before.key.as_str(), None).await.expect("a delete");
    // Whoever is first has the key; the foreign put comes without a compare.
    let foreign = shared().await.put_session(host.registry.keys(), &role(), &other, LONG).await;
    let holder = status(&session, as_holder).await;
    assert_eq!(holder.server_id, Some(ServerId(6)));
    shared().await.revoke(foreign.lease_id).await;
    held_again(&session, &before).await;
}

#[tokio::test]
async fn the_old_lease_is_asked_for_first_after_an_outage() {
    let etcd = Etcd::start().await;
    let host = HostSide::in_etcd(&etcd).await;
    let session = host.open(coordinator(5, SHORT));
    let before = held(&session).await;
    etcd.kill();
    status(&session, |status| matches!(status, SessionStatus::Lost { .. }).then_some(())).await;
    assert_eq!(session.guard().current(), None);
    // A restarted etcd gives each lease its whole time again.
    etcd.restart().await;
    assert_eq!(held(&session).await.registration, before.registration);
}

#[tokio::test]
async fn a_session_that_etcd_forgot_is_registered_again() {
    let etcd = Etcd::start().await;
    let host = HostSide::in_etcd(&etcd).await;
    let session = host.open(coordinator(5, SHORT));
    let before = held(&session).await;
    etcd.stop().await;
    status(&session, |status| matches!(status, SessionStatus::Lost { .. }).then_some(())).await;
    etcd.cont();
    let after = held(&session).await;
    assert!(after.deadline > before.deadline);
}

#[tokio::test]
async fn marking_as_stopping_keeps_the_lease() {
    let host = HostSide::start().await;
    let settings = coordinator(5, LONG);
    let session = host.open(settings.clone());
    let before = held(&session).await;
    session.mark_stopping().await.expect("marked");
    let mut client = shared().await.client().await;
    let stored = host.stored(&mut client, &settings).await.expect("registered");
    assert!(record_of(&stored).stopping);
    assert_eq!((stored.lease(), stored.create_revision()), {
        (before.registration.lease_id, before.registration.create_revision)
    });
    // A registration that is lost now comes back as it was.
    shared().await.revoke(before.registration.lease_id).await;
    held_again(&session, &before).await;
    assert!(record_of(&host.stored(&mut client, &settings).await.expect("registered")).stopping);
}

#[tokio::test]
async fn marking_never_creates_a_key() {
    let host = HostSide::start().await;
    let other = Record { server_id: 1, exclusive: true, ..Record::default() };
    shared().await.put_session(host.registry.keys(), &role(), &other, LONG).await;
    let session = host.open(coordinator(2, SHORT));
    status(&session, as_holder).await;
    let error = session.mark_stopping().await.expect_err("nothing to mark");
    assert!(matches!(error, SessionError::NotHeld(_)), "{error}");
}

#[tokio::test]
async fn a_revoked_session_is_gone_from_etcd_and_from_the_state_file() {
    let host = HostSide::start().await;
    let settings = coordinator(5, LONG);
    let session = host.open(settings.clone());
    held(&session).await;
    let guard = session.guard();
    assert!(guard.current().is_some());
    session.revoke(LIMIT).await;
    assert!(host.stored(&mut shared().await.client().await, &settings).await.is_none());
    assert_eq!((guard.current(), session.view().state), (None, "revoked"));
    drop(session);
    assert_eq!(state_file(host.directory.path()).former(&role()), []);
}

#[tokio::test]
async fn a_revocation_that_was_cancelled_is_made_by_the_next() {
    let host = HostSide::start().await;
    let settings = coordinator(5, LONG);
    let session = host.open(settings.clone());
    held(&session).await;
    // It has only begun.
    assert_eq!(session.revoke(LIMIT).now_or_never(), None);
    session.revoke(LIMIT).await;
    assert!(host.stored(&mut shared().await.client().await, &settings).await.is_none());
}

#[tokio::test]
async fn a_revocation_is_bounded() {
    let etcd = Etcd::start().await;
    let host = HostSide::in_etcd(&etcd).await;
    let session = host.open(coordinator(5, SHORT));
    held(&session).await;
    etcd.stop().await;
    let bound = tokio::time::timeout(Duration::from_secs(1), session.revoke(Duration::from_millis(200))).await;
    etcd.cont();
    bound.expect("it returns at its limit");
}

#[tokio::test]
async fn a_connection_is_proved_and_its_refusal_explained() {
    let etcd = Etcd::start().await;
    let config = EtcdConfig {
        endpoints: vec![etcd.endpoint()],
        request_timeout: Duration::from_millis(300),
        ..EtcdConfig::default()
    };
    etcd.stop().await;
    let error = Registry::connect(&config).await.err().expect("nobody answers").chain();
    assert!(error.contains("no answer within 300ms") && error.contains(&etcd.endpoint()), "{error}");
    etcd.kill();
    let error = Registry::connect(&config).await.err().expect("nobody listens").chain();
    assert!(error.contains("connection refused") && error.contains(&etcd.endpoint()), "{error}");
    etcd.restart().await;
    // A member that is down is passed over.
    let closed = format!("127.0.0.1:{}", free_port());
    let config = EtcdConfig { endpoints: vec![closed, etcd.endpoint()], ..EtcdConfig::default() };
    assert_eq!(Registry::connect(&config).await.expect("connected").endpoint(), etcd.endpoint());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound listener has a port").port()
}

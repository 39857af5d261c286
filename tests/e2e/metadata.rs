//! A component's metadata, against a real etcd.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use componenthost::cluster::Record;
use componenthost::discovery::DiscoveryConfig;
use componenthost::etcd::Etcd as Registry;
use componenthost::metadata::MetadataStore;
use componenthost::session::{OnDeleted, Session, SessionSettings, SessionStatus, StateFile};
use futures_util::{Stream, StreamExt};
use plugin_api::descriptor::Kind;
use plugin_api::error::Error;
use plugin_api::identity::{Role, ServerId};
use plugin_api::metadata::{MetadataAnswer, MetadataEvent, MetadataRequest, Outcome, Range, Transaction};
use plugin_api::refusal::Reason;
use tempfile::TempDir;
use tests::etcd::{Etcd, shared};
use tonic::Code;

const LIMIT: Duration = Duration::from_secs(10);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);

/// A component with a session, and its metadata.
struct Component {
    registry: Registry,
    session: Session,
    metadata: MetadataStore,
    _directory: TempDir,
}

impl Component {
    /// Its session may be on its way.
    async fn open(registry: Registry, id: i64, ttl: Duration) -> Self {
        let directory = TempDir::new().expect("a directory");
        let state_file = StateFile::open(directory.path(), "cluster", &[role()]).expect("a state file");
        let settings = SessionSettings {
            role: role(),
            server_id: ServerId(id),
            kind: Kind::Coordinator,
            address: format!("127.0.0.1:{id}"),
            bound: SocketAddr::from(([127, 0, 0, 1], 9)),
            version: "1.0.0".to_owned().into(),
            labels: [].into(),
            host_name: "here".to_owned(),
            ttl,
            standby: false,
            on_deleted: OnDeleted::Register,
        };
        let session = Session::open(registry.clone(), settings, Arc::new(state_file));
        let patience = DiscoveryConfig::default().patience();
        let metadata = MetadataStore::new(registry.clone(), role(), patience);
        Self { registry, session, metadata, _directory: directory }
    }

    async fn registered(etcd: &Etcd) -> Self {
        Self::registered_for(etcd, LONG).await
    }

    /// It is registered, and may write.
    async fn registered_for(etcd: &Etcd, ttl: Duration) -> Self {
        let component = Self::open(etcd.registry().await, 1, ttl).await;
        component.until(|status| matches!(status, SessionStatus::Held(_))).await;
        component.activate();
        component
    }

    /// It may write under the registration that it has now.
    fn activate(&self) {
        let guard = self.session.guard();
        let registration = guard.certain_registration().expect("it is held");
        self.metadata.permit().give(guard, registration);
    }

    async fn put_refused(&self) -> bool {
        is_fenced(&self.transact(Transaction::new().put("key", "1".to_owned())).await)
    }

    async fn until(&self, wanted: impl FnMut(&SessionStatus) -> bool) {
        let mut status = self.session.status();
        tokio::time::timeout(LIMIT, status.wait_for(wanted)).await.expect("in time").expect("the keeper runs");
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, Error> {
        match self.metadata.handle(MetadataRequest::Transact(transaction)).await? {
            MetadataAnswer::Outcome(outcome) => Ok(outcome),
            MetadataAnswer::Range(_) => panic!("a transaction has an outcome"),
        }
    }

    async fn put(&self, key: &str, value: &str) -> Outcome {
        self.transact(Transaction::new().put(key, value.to_owned())).await.expect("written")
    }

    async fn range(&self, request: MetadataRequest) -> Range {
        match self.metadata.handle(request).await.expect("read") {
            MetadataAnswer::Range(range) => range,
            MetadataAnswer::Outcome(_) => panic!("a read has a range"),
        }
    }

    /// The keys and values that begin so.
    async fn entries(&self, prefix: &str) -> Vec<(String, String)> {
        pairs(&self.range(MetadataRequest::Range(prefix.to_owned())).await)
    }
}

fn role() -> Role {
    Role::new("rootcoord").expect("a role")
}

fn pairs(range: &Range) -> Vec<(String, String)> {
    let pair = |entry: &plugin_api::KeyValue| {
        (entry.key.clone(), String::from_utf8(entry.value.to_vec()).expect("the tests write text"))
    };
    range.entries.iter().map(pair).collect()
}

fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn next(events: &mut (impl Stream<Item = MetadataEvent> + Unpin)) -> MetadataEvent {
    tokio::time::timeout(LIMIT, events.next()).await.expect("in time").expect("a watch does not end")
}

fn is_fenced<T>(answer: &Result<T, Error>) -> bool {
    answer.as_ref().is_err_and(|error| error.reason() == Some(Reason::Fenced) && error.code() == Code::Unavailable)
}

#[tokio::test]
async fn what_is_written_is_read() {
    let component = Component::registered(shared().await).await;
    component.put("a/1", "one").await;
    let revision = component.put("a/2", "two").await.revision;
    component.put("b/1", "other").await;
    assert_eq!(component.entries("a/").await, own(&[("a/1", "one"), ("a/2", "two")]));
    assert_eq!(component.entries("").await.len(), 3);
    let two = component.range(MetadataRequest::Get("a/2".to_owned())).await;
    assert_eq!(
        two.entries.first().map(|entry| (entry.create_revision, entry.mod_revision)),
        Some((revision, revision))
    );
    component.transact(Transaction::new().delete("a/1")).await.expect("deleted");
    assert_eq!(component.range(MetadataRequest::Get("a/1".to_owned())).await.entries, []);
    let whole_key = format!("{}a/2", component.registry.keys().metadata(&role()));
    let stored = shared().await.client().await.get(whole_key, None).await.expect("a get");
    assert_eq!(stored.kvs().len(), 1);
}

#[tokio::test]
async fn a_failed_condition_of_the_components_own_writes_nothing() {
    let component = Component::registered(shared().await).await;
    let revision = component.put("key", "1").await.revision;
    let failing = [
        Transaction::new().if_absent("key"),
        Transaction::new().if_unchanged("key", revision - 1),
        Transaction::new().if_value("key", "2".to_owned()),
        Transaction::new().if_absent("other").if_value("key", "2".to_owned()),
    ];
    for transaction in failing {
        let outcome = component.transact(transaction.put("key", "3".to_owned())).await.expect("an outcome");
        assert!(!outcome.succeeded && outcome.revision >= revision);
    }
    assert_eq!(component.entries("").await, own(&[("key", "1")]));
    let holding = Transaction::new().if_absent("other").if_unchanged("key", revision).if_value("key", "1".to_owned());
    assert!(component.transact(holding.put("key", "3".to_owned())).await.expect("an outcome").succeeded);
    assert_eq!(component.entries("").await, own(&[("key", "3")]));
}

#[tokio::test]
async fn a_component_that_is_not_registered_is_fenced() {
    let registry = shared().await.registry().await;
    let other = Record { server_id: 8, address: "10.0.0.9:1".to_owned(), exclusive: true, ..Record::default() };
    shared().await.put_session(registry.keys(), &role(), &other, LONG).await;
    let component = Component::open(registry, 9, LONG).await;
    component.until(|status| matches!(status, SessionStatus::HeldByOther { .. })).await;
    assert!(is_fenced(&component.transact(Transaction::new().put("key", "1".to_owned())).await));
    assert_eq!(component.entries("").await, [], "reads are allowed");
}

#[tokio::test]
async fn a_component_whose_deadline_is_over_is_fenced_without_asking_etcd() {
    let etcd = Etcd::start().await;
    let component = Component::registered_for(&etcd, Duration::from_secs(2)).await;
    etcd.stop().await;
    component.until(|status| matches!(status, SessionStatus::Lost { .. })).await;
    let write = component.transact(Transaction::new().put("key", "1".to_owned()));
    let answer = tokio::time::timeout(Duration::from_millis(200), write).await;
    etcd.cont();
    assert!(is_fenced(&answer.expect("etcd is not asked")));
}

#[tokio::test]
async fn a_component_that_does_not_know_that_it_was_replaced_is_fenced_by_etcd() {
    let Component { registry, session, metadata, .. } = Component::registered(shared().await).await;
    let (guard, key) = (session.guard(), session.view().key);
    // Without its keeper it learns nothing.
    drop(session);
    let mut client = shared().await.client().await;
    client.delete(key, None).await.expect("a delete");
    let other = Record { server_id: 8, address: "10.0.0.9:1".to_owned(), exclusive: true, ..Record::default() };
    shared().await.put_session(registry.keys(), &role(), &other, LONG).await;
    assert!(guard.current().is_some(), "it believes that it holds its session");
    let write = MetadataRequest::Transact(Transaction::new().put("key", "1".to_owned()));
    assert!(is_fenced(&metadata.handle(write).await));
    let own_condition = MetadataRequest::Transact(Transaction::new().if_value("key", "x".to_owned()));
    assert!(is_fenced(&metadata.handle(own_condition).await), "it is fenced, whatever its own condition");
}

#[tokio::test]
async fn a_permit_is_worth_nothing_under_another_registration() {
    let component = Component::registered(shared().await).await;
    let permit = component.metadata.permit().clone();
    let registered = component.session.guard().certain_registration();
    shared().await.client().await.delete(component.session.view().key, None).await.expect("a delete");
    tokio::time::timeout(LIMIT, permit.until(false)).await.expect("told that it ended");
    // The session is held again, and somebody else may have been active in between.
    let other =
        |status: &SessionStatus| matches!(status, SessionStatus::Held(held) if Some(held.registration) != registered);
    component.until(other).await;
    assert!(component.put_refused().await && !permit.is_valid());
    component.activate();
    tokio::time::timeout(LIMIT, permit.until(true)).await.expect("told that it is given");
    component.put("key", "1").await;
    permit.withdraw();
    assert!(component.put_refused().await);
}

#[tokio::test]
async fn what_etcd_refuses_is_the_components_to_mend() {
    let component = Component::registered(shared().await).await;
    let twice = Transaction::new().put("key", "1".to_owned()).put("key", "2".to_owned());
    assert_eq!(component.transact(twice).await.expect_err("refused").code(), Code::InvalidArgument);
    let empty = Transaction::new().put("", "1".to_owned());
    assert_eq!(component.transact(empty).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_etcd_out_of_reach_is_unavailable_without_a_reason() {
    let etcd = Etcd::start().await;
    let component = Component::registered(&etcd).await;
    etcd.kill();
    let error = component.transact(Transaction::new().put("key", "1".to_owned())).await.expect_err("no etcd");
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, None));
}

#[tokio::test]
async fn a_watch_begins_with_a_table() {
    let component = Component::registered(shared().await).await;
    component.put("a/1", "one").await;
    component.put("b/1", "other").await;
    let mut events = Box::pin(component.metadata.watch("a/"));
    let MetadataEvent::Table(table) = next(&mut events).await else { panic!("a table first") };
    assert_eq!(pairs(&table), own(&[("a/1", "one")]));
    component.put("b/2", "other").await;
    let revision = component.put("a/2", "two").await.revision;
    let MetadataEvent::Put(put) = next(&mut events).await else { panic!("a put") };
    assert_eq!((put.key.as_str(), put.value.as_ref(), put.mod_revision), ("a/2", b"two".as_slice(), revision));
    let gone = component.transact(Transaction::new().delete("a/1")).await.expect("deleted").revision;
    assert_eq!(next(&mut events).await, MetadataEvent::Delete("a/1".to_owned(), gone));
}

#[tokio::test]
async fn a_watch_gets_a_new_table_after_a_compaction() {
    let etcd = Etcd::start().await;
    let component = Component::registered(&etcd).await;
    component.put("key", "1").await;
    let mut events = Box::pin(component.metadata.watch(""));
    next(&mut events).await;
    etcd.hide().await;
    let key = format!("{}other", component.registry.keys().metadata(&role()));
    etcd.client().await.put(key, "2", None).await.expect("a put");
    etcd.compact().await;
    etcd.show().await;
    let MetadataEvent::Table(table) = next(&mut events).await else { panic!("a table") };
    assert_eq!(pairs(&table), own(&[("key", "1"), ("other", "2")]));
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_after_a_cut() {
    let etcd = Etcd::start().await;
    let component = Component::registered(&etcd).await;
    let mut events = Box::pin(component.metadata.watch(""));
    next(&mut events).await;
    etcd.hide().await;
    let key = format!("{}key", component.registry.keys().metadata(&role()));
    etcd.client().await.put(key, "1", None).await.expect("a put");
    etcd.show().await;
    assert!(matches!(next(&mut events).await, MetadataEvent::Put(put) if put.key == "key"));
}

#[tokio::test]
async fn a_slow_reader_gets_a_table_in_place_of_what_it_missed() {
    let component = Component::registered(shared().await).await;
    let mut events = Box::pin(component.metadata.watch(""));
    next(&mut events).await;
    // More than wait for a reader, in transactions of as many as etcd takes.
    for round in 0..30 {
        let each = (0..100).map(|key| format!("{key:02}"));
        let all = each.fold(Transaction::new(), |all, key| all.put(key, round.to_string()));
        component.transact(all).await.expect("written");
    }
    let table = loop {
        if let MetadataEvent::Table(table) = next(&mut events).await {
            break table;
        }
    };
    assert!(table.entries.len() == 100 && table.entries.iter().all(|entry| entry.value.as_ref() == b"29"));
}

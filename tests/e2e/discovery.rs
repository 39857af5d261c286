//! The table of peers, against a real etcd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use componenthost::cluster::{PeerTable, Record};
use componenthost::discovery::{Discovery, DiscoveryConfig, FollowView};
use componenthost::etcd::Etcd as Registry;
use etcd_client::{GetOptions, PutOptions};
use plugin_api::identity::{Role, ServerId};
use tests::etcd::{Etcd, ForeignSession, Settings, shared};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(10);
/// For so long suspects are kept.
const TTL: Duration = Duration::from_secs(2);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);

/// A role that is followed, and who puts its sessions.
struct Followed<'a> {
    etcd: &'a Etcd,
    registry: Registry,
    discovery: Discovery,
    table: watch::Receiver<Arc<PeerTable>>,
}

impl<'a> Followed<'a> {
    async fn nodes_in(etcd: &'a Etcd) -> Self {
        let registry = etcd.registry().await;
        let discovery = Discovery::with_ttl(registry.clone(), &quick(), TTL);
        let table = discovery.follow(&role());
        Self { etcd, registry, discovery, table }
    }

    async fn put(&self, record: &Record) -> ForeignSession {
        self.etcd.put_session(self.registry.keys(), &role(), record, LONG).await
    }

    async fn put_text(&self, id: i64, text: &str) {
        let key = self.registry.keys().member_session(&role(), ServerId(id));
        self.etcd.client().await.put(key, text, None).await.expect("a put");
    }

    async fn delete(&self, session: &ForeignSession) {
        self.etcd.client().await.delete(session.key.as_str(), None).await.expect("a delete");
    }

    /// Puts a key again under its lease, as a host does that registers again.
    async fn register_again(&self, session: &ForeignSession, record: &Record) {
        let record = Record { lease_id: session.lease_id, ..record.clone() };
        let value = serde_json::to_vec(&record).expect("JSON");
        let options = PutOptions::new().with_lease(session.lease_id);
        self.etcd.client().await.put(session.key.as_str(), value, Some(options)).await.expect("a put");
    }

    /// Waits until the table is as asked for.
    async fn until(&mut self, wanted: impl Fn(&PeerTable) -> bool) -> Arc<PeerTable> {
        let found = tokio::time::timeout(LIMIT, self.table.wait_for(|table| wanted(table))).await;
        Arc::clone(&found.expect("the table gets there in time").expect("the role is followed"))
    }

    async fn until_ids(&mut self, ids: &[i64]) -> Arc<PeerTable> {
        self.until(|table| table.revision > 0 && table.sessions.keys().map(|id| id.0).eq(ids.iter().copied())).await
    }

    /// What etcd itself has, by key.
    async fn in_etcd(&self) -> BTreeMap<ServerId, (i64, i64)> {
        let prefix = self.registry.keys().active_session(&role());
        let options = GetOptions::new().with_prefix();
        let answer = self.etcd.client().await.get(prefix, Some(options)).await.expect("a list");
        let entry = |stored: &etcd_client::KeyValue| {
            let record: Record = serde_json::from_slice(stored.value()).expect("a record");
            (ServerId(record.server_id), (stored.create_revision(), stored.lease()))
        };
        answer.kvs().iter().map(entry).collect()
    }

    fn view(&self) -> FollowView {
        self.discovery.view().pop().expect("one role is followed")
    }
}

fn quick() -> DiscoveryConfig {
    let (ask_after, answer_within) = (Duration::from_millis(200), Duration::from_millis(200));
    DiscoveryConfig { ask_after, answer_within, ..DiscoveryConfig::default() }
}

fn role() -> Role {
    Role::new("querynode").expect("a role")
}

fn node(id: i64) -> Record {
    Record { server_id: id, address: format!("127.0.0.1:{id}"), ..Record::default() }
}

fn coordinator(id: i64) -> Record {
    Record { exclusive: true, ..node(id) }
}

fn as_in_etcd(table: &PeerTable) -> BTreeMap<ServerId, (i64, i64)> {
    let entry = |(id, entry): (&ServerId, &Arc<componenthost::cluster::PeerSessionEntry>)| {
        (*id, (entry.registration.create_revision, entry.registration.lease_id))
    };
    table.sessions.iter().map(entry).collect()
}

fn appeared(table: &PeerTable, id: i64) -> u64 {
    table.sessions.get(&ServerId(id)).expect("a peer").appeared
}

#[tokio::test]
async fn sessions_come_and_go() {
    let mut peers = Followed::nodes_in(shared().await).await;
    peers.until_ids(&[]).await;
    let first = peers.put(&node(1)).await;
    peers.put(&node(2)).await;
    peers.until_ids(&[1, 2]).await;
    shared().await.revoke(first.lease_id).await;
    let table = peers.until_ids(&[2]).await;
    assert_eq!(as_in_etcd(&table), peers.in_etcd().await);
}

#[tokio::test]
async fn a_role_does_not_see_another_whose_name_begins_so() {
    let mut peers = Followed::nodes_in(shared().await).await;
    let other = Role::new("querynodes").expect("a role");
    shared().await.put_session(peers.registry.keys(), &other, &node(1), LONG).await;
    peers.put(&node(2)).await;
    peers.until_ids(&[2]).await;
}

#[tokio::test]
async fn the_table_equals_etcd_after_compaction_while_the_watch_was_cut() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    let (first, second) = (peers.put(&node(1)).await, peers.put(&node(2)).await);
    peers.put(&node(3)).await;
    let before = peers.until_ids(&[1, 2, 3]).await;
    etcd.hide().await;
    peers.delete(&first).await;
    peers.delete(&second).await;
    peers.register_again(&second, &node(2)).await;
    peers.put(&node(4)).await;
    etcd.compact().await;
    etcd.show().await;
    let table = peers.until_ids(&[2, 3, 4]).await;
    assert_eq!(as_in_etcd(&table), peers.in_etcd().await);
    assert_eq!(appeared(&table, 2), appeared(&before, 2), "a difference has no gap");
    let restarts = peers.view().last_restarts;
    assert!(restarts.iter().any(|restart| restart.why.contains("compacted")), "{restarts:?}");
}

#[tokio::test]
async fn the_table_equals_etcd_after_a_cut_without_compaction() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    let (first, second) = (peers.put(&node(1)).await, peers.put(&node(2)).await);
    let before = peers.until_ids(&[1, 2]).await;
    etcd.hide().await;
    peers.delete(&first).await;
    peers.delete(&second).await;
    peers.register_again(&second, &node(2)).await;
    etcd.show().await;
    let table = peers.until_ids(&[2]).await;
    assert_eq!(as_in_etcd(&table), peers.in_etcd().await);
    assert_eq!(appeared(&table, 2), appeared(&before, 2), "one answer has no gap");
    assert!(peers.view().restarts > 0);
}

#[tokio::test]
async fn a_silent_etcd_is_noticed_and_the_last_table_stays() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    peers.put(&node(1)).await;
    peers.until_ids(&[1]).await;
    etcd.stop().await;
    let view = tests::eventually(LIMIT, || async {
        let view = peers.view();
        tests::holds(view.restarts > 0, ()).map(|()| view)
    })
    .await;
    assert!(view.last_restarts.first().is_some_and(|restart| restart.why.contains("no answer")), "{view:?}");
    assert_eq!(view.sessions, 1);
    etcd.cont();
    peers.put(&node(2)).await;
    peers.until_ids(&[1, 2]).await;
}

#[tokio::test]
async fn a_watch_of_a_member_without_a_leader_ends_before_anybody_asks_for_its_progress() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    let mut peers = Followed::nodes_in(&etcd).await;
    let patient = DiscoveryConfig { ask_after: LIMIT * 2, ..quick() };
    peers.discovery = Discovery::with_ttl(peers.registry.clone(), &patient, TTL);
    peers.table = peers.discovery.follow(&role());
    peers.until_ids(&[]).await;
    etcd.member(1).kill();
    etcd.member(2).kill();
    let view = until_view(&peers, |view| view.restarts > 0).await;
    assert!(view.last_restarts[0].why.contains("no leader"), "{view:?}");
}

#[tokio::test]
async fn a_quiet_table_stays_fresh() {
    let mut peers = Followed::nodes_in(shared().await).await;
    let first = peers.until_ids(&[]).await.confirmed_at().expect("listed");
    tests::eventually(LIMIT, || async {
        let now = peers.table.borrow().confirmed_at().expect("listed");
        tests::holds(now > first + Duration::from_secs(1), now)
    })
    .await;
    assert!(!peers.table.has_changed().expect("followed"), "an age wakes nobody");
    assert_eq!(peers.view().restarts, 0);
}

#[tokio::test]
async fn values_that_are_no_sessions_hide_nothing() {
    let mut peers = Followed::nodes_in(shared().await).await;
    for (id, text) in [(1, ""), (2, "{"), (3, "[]"), (4, "{\"ServerID\":\"four\"}"), (5, "\u{0}")] {
        peers.put_text(id, text).await;
    }
    peers.put(&node(6)).await;
    peers.until_ids(&[6]).await;
    let view = peers.view();
    assert_eq!((view.skipped_values, view.skipped_now.len()), (5, 5), "{view:?}");
    // One who comes later lists what the other has watched.
    let late = Discovery::new(peers.registry.clone(), &DiscoveryConfig::default());
    let mut table = late.follow(&role());
    table.wait_for(|table| table.sessions.size() == 1).await.expect("followed");
    assert_eq!(late.view().pop().map(|view| view.skipped_values), Some(5));
}

#[tokio::test]
async fn a_session_that_returns_after_it_was_gone_has_a_gap() {
    let mut peers = Followed::nodes_in(shared().await).await;
    let session = peers.put(&node(1)).await;
    let first = peers.until_ids(&[1]).await;
    peers.delete(&session).await;
    peers.until_ids(&[]).await;
    peers.register_again(&session, &node(1)).await;
    let second = peers.until_ids(&[1]).await;
    assert_ne!(appeared(&first, 1), appeared(&second, 1));
}

#[tokio::test]
async fn another_holder_of_the_active_key_replaces_the_first() {
    let mut peers = Followed::nodes_in(shared().await).await;
    peers.put(&coordinator(1)).await;
    let table = peers.until_ids(&[1]).await;
    assert_eq!(table.active().map(|entry| entry.server_id()), Some(ServerId(1)));
    peers.put(&Record { address: "127.0.0.1:1".to_owned(), ..coordinator(2) }).await;
    let table = peers.until_ids(&[2]).await;
    assert_eq!(table.active().map(|entry| entry.server_id()), Some(ServerId(2)));
}

#[tokio::test]
async fn other_values_of_a_session_are_the_same_registration() {
    let mut peers = Followed::nodes_in(shared().await).await;
    let session = peers.put(&node(1)).await;
    let first = peers.until_ids(&[1]).await;
    peers.register_again(&session, &Record { stopping: true, ..node(1) }).await;
    let second = peers.until(|table| table.sessions.values().any(|entry| entry.record.stopping)).await;
    assert_eq!(as_in_etcd(&first), as_in_etcd(&second));
}

#[tokio::test]
async fn one_role_is_followed_once() {
    let peers = Followed::nodes_in(shared().await).await;
    let again = peers.discovery.clone().follow(&role());
    assert!(again.same_channel(&peers.table));
    assert_eq!(peers.discovery.view().len(), 1);
}

#[tokio::test]
async fn a_stopped_discovery_ends_its_watches() {
    let mut peers = Followed::nodes_in(shared().await).await;
    peers.until_ids(&[]).await;
    tokio::time::timeout(LIMIT, peers.discovery.stop()).await.expect("it ends");
    assert!(peers.table.changed().await.is_err());
}

/// Waits until what people can see is as asked for.
async fn until_view(peers: &Followed<'_>, wanted: impl Fn(&FollowView) -> bool) -> FollowView {
    tests::eventually(LIMIT, || async {
        let view = peers.view();
        let as_wanted = wanted(&view);
        tests::holds(as_wanted, view.clone()).map(|()| view)
    })
    .await
}

/// Some nodes that are known.
async fn known(peers: &mut Followed<'_>, ids: &[i64]) -> Vec<ForeignSession> {
    let mut sessions = Vec::new();
    for id in ids {
        sessions.push(peers.put(&node(*id)).await);
    }
    peers.until_ids(ids).await;
    sessions
}

#[tokio::test]
async fn lists_find_nothing_wrong_with_a_table_that_changes() {
    let mut peers = Followed::nodes_in(shared().await).await;
    let looking = DiscoveryConfig { reconcile_every: Duration::from_millis(100), ..quick() };
    peers.discovery = Discovery::with_ttl(peers.registry.clone(), &looking, TTL);
    peers.table = peers.discovery.follow(&role());
    peers.until_ids(&[]).await;
    let mut id = 0;
    while peers.view().reconciliations < 10 {
        id += 1;
        let session = peers.put(&node(id)).await;
        peers.register_again(&session, &Record { stopping: true, ..node(id) }).await;
        peers.delete(&session).await;
    }
    peers.until_ids(&[]).await;
    let view = peers.view();
    assert_eq!((view.corrections, view.restarts), (0, 0), "{view:?}");
}

#[tokio::test]
async fn a_list_that_lost_most_of_a_role_leaves_suspects_for_one_ttl() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    let sessions = known(&mut peers, &[1, 2, 3, 4]).await;
    etcd.hide().await;
    for session in &sessions[..3] {
        peers.delete(session).await;
    }
    etcd.compact().await;
    etcd.show().await;
    let view = until_view(&peers, |view| !view.suspects.is_empty()).await;
    assert_eq!((view.suspects, view.sessions), ([1, 2, 3].map(ServerId).to_vec(), 4));
    peers.register_again(&sessions[0], &node(1)).await;
    peers.until(|table| !table.sessions.get(&ServerId(1)).expect("it is kept").suspect).await;
    peers.until_ids(&[1, 4]).await;
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_told_and_its_peers_are_suspects() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    known(&mut peers, &[1, 2, 30]).await;
    etcd.lose_all().await;
    let view = until_view(&peers, |view| view.suspects.len() == 3).await;
    assert_eq!((view.resets, view.sessions), (1, 3), "{view:?}");
    assert_eq!(peers.discovery.highest_server_id(), ServerId(30));
    peers.put(&node(2)).await;
    let table = peers.until_ids(&[2]).await;
    assert_eq!(as_in_etcd(&table), peers.in_etcd().await);
}

#[tokio::test]
async fn a_table_is_stale_while_etcd_is_away_and_fresh_soon_after() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    known(&mut peers, &[1]).await;
    etcd.stop().await;
    let view = until_view(&peers, |view| view.stale).await;
    assert_eq!(view.sessions, 1, "the last table stays");
    etcd.cont();
    until_view(&peers, |view| !view.stale).await;
}

#[tokio::test]
async fn another_cluster_in_etcds_place_is_told() {
    let etcd = Etcd::start().await;
    let mut peers = Followed::nodes_in(&etcd).await;
    known(&mut peers, &[1]).await;
    etcd.replace().await;
    peers.put(&node(2)).await;
    peers.until_ids(&[2]).await;
    let view = peers.view();
    assert_eq!(view.resets, 1, "{view:?}");
}

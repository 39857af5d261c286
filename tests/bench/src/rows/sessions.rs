//! Sessions of other hosts in an etcd, and who follows them: what several subjects begin with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::cluster::{Keys, PeerTable, Record};
use componenthost::discovery::table::Table;
use componenthost::discovery::{Discovery, DiscoveryConfig};
use componenthost::etcd::Etcd as Registry;
use componenthost::etcd::watch::Stored;
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use futures_util::StreamExt;
use plugin_api::identity::{Role, ServerId};
use tests::etcd::Etcd;
use tokio::sync::watch;

/// The many that the figures speak of.
pub const MANY: usize = 10_000;

/// Longer than a run.
const LEASE: i64 = 3600;

/// So many leases are asked for at the same time, and so many puts are in one transaction: etcd takes no more.
const AT_ONCE: usize = 100;

/// Whatever is waited for comes within this time.
const LIMIT: Duration = Duration::from_secs(60);

/// A role's sessions under a root path of their own.
pub struct Sessions {
    pub client: Client,
    pub registry: Registry,
    /// Each session has its own, by its id.
    leases: Vec<i64>,
}

impl Sessions {
    /// So many, with the ids from 1.
    pub async fn of(etcd: &Etcd, count: usize) -> Self {
        let registry = etcd.registry().await;
        let client = etcd.client().await;
        let grants = (0..=count).map(|_| {
            let mut lease = client.lease_client();
            async move { lease.grant(LEASE, None).await.expect("etcd grants a lease").id() }
        });
        let leases = futures_util::stream::iter(grants).buffer_unordered(AT_ONCE).collect().await;
        let mut sessions = Self { client, registry, leases };
        let ids: Vec<_> = (1..=count).collect();
        for some in ids.chunks(AT_ONCE) {
            let puts: Vec<_> = some.iter().map(|id| sessions.operation(*id, 0)).collect();
            sessions.client.txn(Txn::new().and_then(puts)).await.expect("etcd takes the puts");
        }
        sessions
    }

    /// Puts a session again, with another value each `round`; gives the revision.
    pub async fn put(&mut self, id: usize, round: usize) -> i64 {
        let put = self.client.put(self.key(id), self.value(id, round), Some(self.options(id))).await;
        put.expect("etcd takes a put").header().expect("each answer has a header").revision()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        // The ids begin at 1.
        self.leases.len() - 1
    }

    /// The prefix of all of them.
    pub fn prefix(&self) -> String {
        self.registry.keys().active_session(&role())
    }

    /// A new discovery that follows them. Nothing is listed yet.
    pub fn follow(&self) -> (Discovery, watch::Receiver<Arc<PeerTable>>) {
        let discovery = Discovery::new(self.registry.clone(), &DiscoveryConfig::default());
        let table = discovery.follow(&role());
        (discovery, table)
    }

    fn operation(&self, id: usize, round: usize) -> TxnOp {
        TxnOp::put(self.key(id), self.value(id, round), Some(self.options(id)))
    }

    fn options(&self, id: usize) -> PutOptions {
        PutOptions::new().with_lease(self.leases[id])
    }

    fn key(&self, id: usize) -> String {
        self.registry.keys().member_session(&role(), server_id(id))
    }

    fn value(&self, id: usize, round: usize) -> Vec<u8> {
        serde_json::to_vec(&record(id, round, self.leases[id])).expect("a record is JSON")
    }
}

/// Their role.
pub fn role() -> Role {
    Role::new("querynode").expect("a role")
}

/// The id of one of them.
pub fn server_id(id: usize) -> ServerId {
    ServerId(i64::try_from(id).expect("a small number"))
}

/// A record as hosts put it: all fields are set.
pub fn record(id: usize, round: usize, lease_id: i64) -> Record {
    Record {
        server_id: server_id(id).0,
        server_name: role().to_string(),
        address: format!("10.{}.{}.{}:21123", id >> 16 & 255, id >> 8 & 255, id & 255),
        exclusive: false,
        stopping: false,
        version: format!("1.2.{round}"),
        lease_id,
        host_name: format!("querynode-{id}.cluster.internal"),
        server_labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]).into(),
    }
}

/// Waits until the table is of this revision at least.
///
/// # Panics
///
/// Where that takes very long.
pub async fn until_revision(table: &mut watch::Receiver<Arc<PeerTable>>, revision: i64) {
    let there = table.wait_for(|table| table.revision >= revision);
    tokio::time::timeout(LIMIT, there).await.expect("the table comes").expect("the role is followed");
}

/// A table that has so many, without any etcd.
pub fn filled(count: usize) -> Table {
    let mut table = Table::new(role(), keys());
    table.replace(&all_stored(count), i64::try_from(count).expect("a small number"), Instant::now());
    assert_eq!(table.published().sessions.size(), count);
    table
}

/// So many sessions as etcd lists them.
pub fn all_stored(count: usize) -> Vec<Stored> {
    (1..=count).map(|id| stored(id, 0, i64::try_from(id).expect("a small number"))).collect()
}

/// A session's key as etcd has it.
pub fn stored(id: usize, round: usize, revision: i64) -> Stored {
    let value = serde_json::to_vec(&record(id, round, 5)).expect("a record is JSON");
    let key = keys().member_session(&role(), server_id(id)).into_bytes();
    Stored { key, value, create_revision: 1, mod_revision: revision, lease_id: 5 }
}

/// The keys of that table.
pub fn keys() -> Keys {
    Keys::new("bench", "meta")
}

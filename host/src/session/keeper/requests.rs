//! The transactions of a session: each compares what it depends on, so that one that comes late, or again, does no harm.

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::etcd::watch::Stored;
use crate::session::lease::{Key, Readings};
use crate::session::takeover::Found;

/// The keys of one session.
pub(super) struct Requests {
    pub(super) main: String,
    pub(super) standby: Option<String>,
}

impl Requests {
    /// The key's name. Of a session without a standby key only the main one is asked for.
    pub(super) fn name(&self, key: Key) -> &str {
        match (key, &self.standby) {
            (Key::Standby, Some(standby)) => standby,
            _ => &self.main,
        }
    }

    /// Both keys.
    pub(super) fn read(&self) -> Txn {
        Txn::new().and_then(self.reads())
    }

    /// The key, if it is not there; a standby key of this create revision goes at the same time.
    pub(super) fn put(&self, value: Vec<u8>, lease_id: i64, standby: Option<i64>) -> Txn {
        let mut compares = vec![created(&self.main, 0)];
        let mut changes = vec![put(&self.main, value, lease_id)];
        if let (Some(revision), Some(name)) = (standby, &self.standby) {
            compares.push(created(name, revision));
            changes.push(TxnOp::delete(name.as_str(), None));
        }
        Txn::new().when(compares).and_then(changes).or_else(self.reads())
    }

    /// The standby key, if it is not there and the active key is still the one of this create revision.
    pub(super) fn put_standby(&self, value: Vec<u8>, lease_id: i64, active: i64) -> Txn {
        let name = self.name(Key::Standby);
        let compares = [created(name, 0), created(&self.main, active)];
        Txn::new().when(compares).and_then([put(name, value, lease_id)]).or_else(self.reads())
    }

    /// This key once more, if it is still the one of this create revision: never creates a key. With the lease, or the key
    /// would outlive it.
    pub(super) fn update(&self, key: Key, value: Vec<u8>, lease_id: i64, create_revision: i64) -> Txn {
        let name = self.name(key);
        Txn::new().when([created(name, create_revision)]).and_then([put(name, value, lease_id)]).or_else(self.reads())
    }

    /// Away with the key, if this was its last change.
    pub(super) fn remove(&self, key: Key, mod_revision: i64) -> Txn {
        let name = self.name(key);
        let unchanged = Compare::mod_revision(name, CompareOp::Equal, mod_revision);
        Txn::new().when([unchanged]).and_then([TxnOp::delete(name, None)])
    }

    fn reads(&self) -> Vec<TxnOp> {
        let names = std::iter::once(&self.main).chain(&self.standby);
        names.map(|name| TxnOp::get(name.as_str(), None)).collect()
    }
}

/// What the transaction read, in the order of [`Requests::reads`].
pub(super) fn readings(answer: &TxnResponse) -> Readings {
    let mut found = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(answer) => answer.kvs().first().map(|stored: &KeyValue| Found::from(&Stored::from(stored))),
        _ => None,
    });
    let (main, standby) = (found.next().flatten(), found.next().flatten());
    Readings { main, standby, revision: revision(answer) }
}

/// The revision at which the transaction was carried out.
pub(super) fn revision(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, ResponseHeader::revision)
}

fn created(name: &str, revision: i64) -> Compare {
    Compare::create_revision(name, CompareOp::Equal, revision)
}

fn put(name: &str, value: Vec<u8>, lease_id: i64) -> TxnOp {
    TxnOp::put(name, value, Some(PutOptions::new().with_lease(lease_id)))
}

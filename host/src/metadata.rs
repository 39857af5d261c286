//! A component's metadata in etcd: read, written under its session, and followed.
//!
//! Keys are relative to the role's prefix. Every write is one transaction that also compares the create revision of the
//! component's session key, so that a fenced or replaced component cannot write: a lease alone is no lock. What a component
//! keeps there is its own business; `plugin` hands its requests on to here.

mod follow;
mod permit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use etcd_client::{
    Compare as EtcdCompare, CompareOp, GetOptions, GetResponse, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use futures_util::Stream;
use plugin_api::error::Error;
use plugin_api::identity::Role;
use plugin_api::metadata::{
    Compare, KeyValue, MetadataAnswer, MetadataEvent, MetadataRequest, Outcome, Range, Transaction, Write,
};
use plugin_api::refusal::Reason;
use tonic::Code;

use crate::etcd::watch::{Keys, Patience, Stored, Watch};
use crate::etcd::{Etcd, EtcdError, Fault};

pub use permit::Permit;

/// The metadata of one role, for the component of it in this host. Cheap to clone.
#[derive(Clone)]
pub struct MetadataStore {
    etcd: Etcd,
    role: Role,
    /// Of all the role's keys, with its closing slash.
    prefix: String,
    /// Without it nothing can be written.
    permit: Permit,
    /// The same for all clones.
    may_have_written: Arc<AtomicBool>,
    patience: Patience,
}

impl MetadataStore {
    /// The metadata of this role, not to be written until its permit is given. Patience is that of its watches.
    pub fn new(etcd: Etcd, role: Role, patience: Patience) -> Self {
        let prefix = etcd.keys().metadata(&role);
        Self { etcd, role, prefix, permit: Permit::default(), patience, may_have_written: Arc::default() }
    }

    /// The component's leave to write, the same for all clones.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Has the component tried to write anything, whatever came of it?
    pub fn may_have_written(&self) -> bool {
        self.may_have_written.load(Ordering::SeqCst)
    }

    /// What a component asks for.
    ///
    /// # Errors
    ///
    /// `UNAVAILABLE` with the reason `FENCED` for a write without a session that is held; etcd is not even asked where it is
    /// known here. `UNAVAILABLE` where etcd cannot be reached: a write may then have been carried out. etcd's own code where
    /// it refuses the request (too large, too many operations, one key written twice), and `INVALID_ARGUMENT` for an empty
    /// key.
    ///
    /// # Cancel safety
    ///
    /// A write whose call is cancelled may have been carried out.
    pub async fn handle(&self, request: MetadataRequest) -> Result<MetadataAnswer, Error> {
        match request {
            MetadataRequest::Get(key) => self.read(self.key(&key)?, None).await,
            MetadataRequest::Range(prefix) => {
                self.read(format!("{}{prefix}", self.prefix), Some(GetOptions::new().with_prefix())).await
            }
            MetadataRequest::Transact(transaction) => self.transact(&transaction).await,
        }
    }

    /// Follows the keys that begin so: the table first, then changes; a table again where changes were lost or the reader
    /// was too slow for them. It ends when it is dropped.
    pub fn watch(&self, prefix: &str) -> impl Stream<Item = MetadataEvent> + Send + use<> {
        let keys = Keys::Prefix(format!("{}{prefix}", self.prefix));
        let watch = Watch::new(self.etcd.clone(), keys, self.patience);
        follow::follow(watch, self.role.clone(), self.prefix.clone())
    }

    async fn read(&self, key: String, options: Option<GetOptions>) -> Result<MetadataAnswer, Error> {
        let answer: GetResponse = self.etcd.get("read metadata", key, options).await.map_err(error_of)?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        let entries = answer.kvs().iter().filter_map(|stored| relative(&self.prefix, Stored::from(stored))).collect();
        Ok(MetadataAnswer::Range(Range { entries, revision }))
    }

    async fn transact(&self, transaction: &Transaction) -> Result<MetadataAnswer, Error> {
        // Before the look at the permit: who withdraws that and looks here then misses no write.
        self.may_have_written.store(true, Ordering::SeqCst);
        let Some((session_key, create_revision)) = self.permit.current() else {
            return Err(self.fenced());
        };
        let session = session_key.as_str();
        let mut compares = vec![EtcdCompare::create_revision(session, CompareOp::Equal, create_revision)];
        for compare in transaction.compares() {
            compares.push(self.compare(compare)?);
        }
        let writes = transaction.writes().iter().map(|write| self.write(write)).collect::<Result<Vec<_>, _>>()?;
        // Where a condition fails the session key is read in the same transaction: was it that one?
        let otherwise = TxnOp::get(session, Some(GetOptions::new().with_keys_only()));
        let txn = Txn::new().when(compares).and_then(writes).or_else([otherwise]);
        let answer = self.etcd.txn("write metadata", txn).await.map_err(error_of)?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        let succeeded = answer.succeeded();
        if !succeeded && create_revision_in(&answer) != Some(create_revision) {
            return Err(self.fenced());
        }
        Ok(MetadataAnswer::Outcome(Outcome { succeeded, revision }))
    }

    fn compare(&self, compare: &Compare) -> Result<EtcdCompare, Error> {
        Ok(match compare {
            Compare::Absent(key) => EtcdCompare::create_revision(self.key(key)?, CompareOp::Equal, 0),
            Compare::Unchanged(key, revision) => EtcdCompare::mod_revision(self.key(key)?, CompareOp::Equal, *revision),
            Compare::Value(key, value) => EtcdCompare::value(self.key(key)?, CompareOp::Equal, value.to_vec()),
        })
    }

    fn write(&self, write: &Write) -> Result<TxnOp, Error> {
        Ok(match write {
            Write::Put(key, value) => TxnOp::put(self.key(key)?, value.to_vec(), None::<PutOptions>),
            Write::Delete(key) => TxnOp::delete(self.key(key)?, None),
        })
    }

    fn key(&self, key: &str) -> Result<String, Error> {
        if key.is_empty() {
            return Err(Error::new(Code::InvalidArgument, "a key of metadata must not be empty"));
        }
        Ok(format!("{}{key}", self.prefix))
    }

    fn fenced(&self) -> Error {
        let text = format!("{} holds no session for certain: it must not write", self.role);
        Error::new(Reason::Fenced.code(), text).with_reason(Reason::Fenced)
    }
}

/// The session's key as the failed transaction read it.
fn create_revision_in(answer: &TxnResponse) -> Option<i64> {
    answer.op_responses().first().and_then(|response| match response {
        TxnOpResponse::Get(answer) => answer.kvs().first().map(etcd_client::KeyValue::create_revision),
        _ => None,
    })
}

/// The key as the component knows it; `None` for one that is not the role's.
fn relative(prefix: &str, stored: Stored) -> Option<KeyValue> {
    let key = std::str::from_utf8(&stored.key).ok()?.strip_prefix(prefix)?.to_owned();
    let Stored { value, create_revision, mod_revision, .. } = stored;
    Some(KeyValue { key, value: value.into(), create_revision, mod_revision })
}

/// etcd's own refusal of a request is the component's to mend; everything else is a matter of reaching it.
fn error_of(error: EtcdError) -> Error {
    let code = match error.fault() {
        Fault::Answered { code, .. }
            if matches!(
                code,
                Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange | Code::PermissionDenied
            ) =>
        {
            *code
        }
        _ => Code::Unavailable,
    };
    Error::new(code, error.chain())
}

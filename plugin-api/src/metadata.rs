//! A component's metadata: what it keeps in etcd, under the prefix of its role.
//!
//! Keys are relative to that prefix and shared by all hosts of the role. Every write is one etcd transaction that also
//! compares the create revision of the component's own session key, so that a fenced or replaced component cannot write.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::border::v1;
use crate::error::Error;

/// Reads and writes of a component's metadata. Cheap to clone.
///
/// # Errors
///
/// All methods answer `UNAVAILABLE` where etcd cannot be reached within `etcd.request_timeout`, and writes answer
/// `UNAVAILABLE` with the reason `FENCED` where no session is held.
#[derive(Clone)]
pub struct Metadata {
    pub(crate) host: v1::Host,
}

/// One key, with etcd's revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key, relative to the role's prefix.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision at which it was created.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
}

/// Keys as they were at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The keys, in order.
    pub entries: Vec<KeyValue>,
    /// The revision of etcd when it answered. A watch from the next one misses nothing.
    pub revision: i64,
}

/// A condition of a [`Transaction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// There is no such key.
    Absent(String),
    /// The key's last change was at this revision.
    Unchanged(String, i64),
    /// The key has this value.
    Value(String, Bytes),
}

/// A change that a [`Transaction`] makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Sets a key.
    Put(String, Bytes),
    /// Removes a key.
    Delete(String),
}

/// Compare-and-swap: all writes, if all conditions hold; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub(crate) compares: Vec<Compare>,
    pub(crate) writes: Vec<Write>,
}

impl Transaction {
    /// Without conditions or writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, if there is no such key.
    #[must_use]
    pub fn if_absent(mut self, key: impl Into<String>) -> Self {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// The same, if the key's last change was at this revision.
    #[must_use]
    pub fn if_unchanged(mut self, key: impl Into<String>, mod_revision: i64) -> Self {
        self.compares.push(Compare::Unchanged(key.into(), mod_revision));
        self
    }

    /// The same, if the key has this value.
    #[must_use]
    pub fn if_value(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.compares.push(Compare::Value(key.into(), value.into()));
        self
    }

    /// The same with a key set.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// The same with a key removed.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// The conditions.
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// The writes.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
}

/// How a [`Transaction`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Did all conditions hold, so that all was written?
    pub succeeded: bool,
    /// The revision of etcd after it.
    pub revision: i64,
}

/// A change of a key that [`Metadata::watch`] follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataEvent {
    /// The keys as they are now: first of all, and after changes were lost (etcd compacts its history).
    Table(Range),
    /// A key was set.
    Put(KeyValue),
    /// A key was removed, at this revision.
    Delete(String, i64),
}

/// What the host is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[doc(hidden)]
pub enum MetadataRequest {
    Get(String),
    Range(String),
    Transact(Transaction),
}

/// What the host answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[doc(hidden)]
pub enum MetadataAnswer {
    Range(Range),
    Outcome(Outcome),
}

impl Metadata {
    /// The key, where it is there. A linearizable read.
    ///
    /// # Errors
    ///
    /// As for [`Metadata`].
    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        Ok(self.ask_range(MetadataRequest::Get(key.to_owned())).await?.entries.pop())
    }

    /// All keys that begin with this prefix; all of the role's for an empty one. A linearizable read.
    ///
    /// # Errors
    ///
    /// As for [`Metadata`].
    pub async fn range(&self, prefix: &str) -> Result<Range, Error> {
        self.ask_range(MetadataRequest::Range(prefix.to_owned())).await
    }

    /// Sets a key; the answer is the revision of that change.
    ///
    /// # Errors
    ///
    /// As for [`Metadata`].
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<i64, Error> {
        Ok(self.transact(Transaction::new().put(key, value)).await?.revision)
    }

    /// Removes a key, where it is there; the answer is the revision after that.
    ///
    /// # Errors
    ///
    /// As for [`Metadata`].
    pub async fn delete(&self, key: &str) -> Result<i64, Error> {
        Ok(self.transact(Transaction::new().delete(key)).await?.revision)
    }

    /// All of the transaction's writes, if all of its conditions hold.
    ///
    /// # Errors
    ///
    /// As for [`Metadata`]. After `UNAVAILABLE` without a reason nobody knows whether it was carried out: read again.
    pub async fn transact(&self, transaction: Transaction) -> Result<Outcome, Error> {
        match self.host.metadata(&MetadataRequest::Transact(transaction)).await? {
            MetadataAnswer::Outcome(outcome) => Ok(outcome),
            MetadataAnswer::Range(_) => Err(unexpected_answer()),
        }
    }

    /// Follows all keys that begin with this prefix: the table now, then changes. It ends when it is dropped or the
    /// component stops.
    ///
    /// # Errors
    ///
    /// Where the host refuses the prefix.
    pub fn watch(&self, prefix: &str) -> Result<MetadataStream, Error> {
        Ok(MetadataStream { events: self.host.watch_metadata(prefix)? })
    }

    async fn ask_range(&self, request: MetadataRequest) -> Result<Range, Error> {
        match self.host.metadata(&request).await? {
            MetadataAnswer::Range(range) => Ok(range),
            MetadataAnswer::Outcome(_) => Err(unexpected_answer()),
        }
    }
}

fn unexpected_answer() -> Error {
    Error::new(tonic::Code::Internal, "the host answered another question than the one about metadata")
}

/// The stream that [`Metadata::watch`] returns.
pub struct MetadataStream {
    events: v1::Follow<MetadataEvent>,
}

impl Stream for MetadataStream {
    type Item = MetadataEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}

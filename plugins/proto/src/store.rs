//! The metadata of a component behind a trait, so that what is kept there can be tested without a host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use plugin_api::metadata::{Compare, Write};
use plugin_api::{Error, KeyValue, Metadata, Transaction, async_trait};

/// What a component reads and writes: [`Metadata`] in a host, [`MemoryStore`] in a test.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The key, where it is there.
    ///
    /// # Errors
    ///
    /// As [`Metadata::get`].
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error>;

    /// All keys that begin with this prefix, in order.
    ///
    /// # Errors
    ///
    /// As [`Metadata::range`].
    async fn range(&self, prefix: &str) -> Result<Vec<KeyValue>, Error>;

    /// All writes of the transaction if all its conditions hold, which is the answer.
    ///
    /// # Errors
    ///
    /// As [`Metadata::transact`].
    async fn transact(&self, transaction: Transaction) -> Result<bool, Error>;
}

#[async_trait]
impl Store for Metadata {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        Self::get(self, key).await
    }

    async fn range(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
        Ok(Self::range(self, prefix).await?.entries)
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, Error> {
        Ok(Self::transact(self, transaction).await?.succeeded)
    }
}

/// A store in memory, with etcd's revisions. Not for use in a host: it forgets all with its process.
#[derive(Default)]
pub struct MemoryStore(Mutex<Content>);

#[derive(Default)]
struct Content {
    revision: i64,
    keys: BTreeMap<String, KeyValue>,
    faults: Vec<Fault>,
}

/// How a transaction of a [`MemoryStore`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out.
    Lost,
    /// It is carried out, and the answer is lost.
    Unanswered,
}

impl MemoryStore {
    /// Lets the next transactions fail in these ways, the last one first.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).faults.extend(faults);
    }
}

impl Content {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::Unchanged(key, revision) => self.keys.get(key).is_some_and(|at| at.mod_revision == *revision),
            Compare::Value(key, value) => self.keys.get(key).is_some_and(|at| at.value == *value),
        }
    }

    fn carry_out(&mut self, transaction: &Transaction) -> bool {
        if !transaction.compares().iter().all(|compare| self.holds(compare)) {
            return false;
        }
        self.revision += 1;
        for write in transaction.writes() {
            match write {
                Write::Put(key, value) => {
                    let create_revision = self.keys.get(key).map_or(self.revision, |at| at.create_revision);
                    let (key, value) = (key.clone(), value.clone());
                    let entry = KeyValue { key: key.clone(), value, create_revision, mod_revision: self.revision };
                    self.keys.insert(key, entry);
                }
                Write::Delete(key) => {
                    self.keys.remove(key);
                }
            }
        }
        true
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(key).cloned())
    }

    async fn range(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(content.keys.values().filter(|entry| entry.key.starts_with(prefix)).cloned().collect())
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, Error> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = content.faults.pop();
        if fault == Some(Fault::Lost) {
            return Err(Error::new(tonic::Code::Unavailable, "the transaction was lost"));
        }
        let succeeded = content.carry_out(&transaction);
        match fault {
            Some(_) => Err(Error::new(tonic::Code::Unavailable, "the transaction's answer was lost")),
            None => Ok(succeeded),
        }
    }
}

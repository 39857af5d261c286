//! What each request does to the store and the leases, without I/O.
//!
//! A [`Machine`] is at the newest revision, which may not be durable yet: requests that write are decided here, one after the
//! other, and say by their [`Effect`] what a data directory has to keep. Reads of clients are at a revision that is durable;
//! `engine` knows which. That a request is well formed is checked before, in `service/check`.

mod effect;
pub mod range;
mod txn;

#[cfg(test)]
mod tests;

use etcd_client::proto::{
    PbCompactionRequest, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbResponseHeader,
    PbTxnRequest, PbTxnResponse,
};
use tokio::time::Instant;

pub use self::effect::Effect;
pub use self::txn::is_read_only;

use crate::lessor::Lessor;
use crate::refusal::Refusal;
use crate::store::{Entry, Interval, NEVER_COMPACTED, Store, Version, Writing};

/// An answer, and what it has changed.
pub type Decided<T> = Result<(T, Option<Effect>), Refusal>;

/// Store and leases.
#[derive(Debug)]
pub struct Machine {
    store: Store,
    lessor: Lessor,
    /// The last compaction that was accepted; the store follows once it is durable.
    compaction: i64,
    /// What puts is refused where the store has more bytes.
    quota: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { store: Store::default(), lessor: Lessor::default(), compaction: NEVER_COMPACTED, quota: u64::MAX }
    }
}

/// A header that names a revision; `service` adds who answers.
pub(crate) fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader { revision, ..PbResponseHeader::default() })
}

impl Machine {
    /// Every key's versions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The leases.
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// Sets what each lease lives at least, in seconds.
    pub fn set_min_ttl(&mut self, ttl: i64) {
        self.lessor.set_min_ttl(ttl);
    }

    /// Sets how many bytes the store may take, about.
    pub fn set_quota(&mut self, bytes: u64) {
        self.quota = bytes;
    }

    /// Is the store larger than it may be?
    pub fn is_full(&self) -> bool {
        self.store.bytes() > self.quota
    }

    fn has_space(&self) -> Result<(), Refusal> {
        if self.is_full() { Err(Refusal::NoSpace) } else { Ok(()) }
    }

    /// Puts a key.
    ///
    /// # Errors
    ///
    /// There is no space; the lease is not there; or the key, where its value or lease is to stay.
    pub fn put(&mut self, request: PbPutRequest) -> Decided<PbPutResponse> {
        self.has_space()?;
        self.lease_is_there(&request)?;
        self.key_is_there(&request)?;
        let (answer, entry) = self.store.write(|writing| put(writing, request));
        Ok((answer, self.follow(entry)))
    }

    fn lease_is_there(&self, request: &PbPutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && self.lessor.get(request.lease).is_none() {
            return Err(Refusal::LeaseNotFound);
        }
        Ok(())
    }

    fn key_is_there(&self, request: &PbPutRequest) -> Result<(), Refusal> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.store.get(&request.key, self.store.revision()).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Deletes keys.
    pub fn delete(&mut self, request: PbDeleteRequest) -> (PbDeleteResponse, Option<Effect>) {
        let (answer, entry) = self.store.write(|writing| delete(writing, request));
        (answer, self.follow(entry))
    }

    /// A transaction.
    ///
    /// # Errors
    ///
    /// What one of the operations would be refused for: then none is carried out.
    pub fn txn(&mut self, request: PbTxnRequest) -> Decided<PbTxnResponse> {
        if txn::may_put(&request) {
            self.has_space()?;
        }
        let plan = txn::Plan::choose(&self.store, request, self.store.revision());
        // In a transaction etcd looks for the key first.
        plan.puts(&mut |request| self.key_is_there(request).and_then(|()| self.lease_is_there(request)))?;
        plan.may_read(self.store.revision(), self.compaction)?;
        let (answer, entry) = self.store.write(|writing| plan.carry_out(writing));
        Ok((answer, self.follow(entry)))
    }

    /// A transaction that only reads, at a revision that is durable.
    ///
    /// # Errors
    ///
    /// What one of the reads would be refused for.
    pub fn read_txn(&self, request: PbTxnRequest, present: i64, compacted: i64) -> Result<PbTxnResponse, Refusal> {
        let plan = txn::Plan::choose(&self.store, request, present);
        plan.may_read(present, compacted)?;
        plan.read(&self.store, present, compacted)
    }

    /// Accepts a compaction.
    ///
    /// # Errors
    ///
    /// One that was made already, or cannot be made yet.
    pub fn compact(&mut self, request: &PbCompactionRequest) -> Result<Effect, Refusal> {
        if request.revision <= self.compaction {
            return Err(Refusal::Compacted);
        }
        if request.revision > self.store.revision() {
            return Err(Refusal::FutureRevision);
        }
        self.compaction = request.revision;
        Ok(Effect::Compaction(request.revision))
    }

    /// Grants a lease; 0 takes an id that no lease has.
    ///
    /// # Errors
    ///
    /// There is no space, the id is taken, or the time too long.
    pub fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<(i64, i64, Effect), Refusal> {
        self.has_space()?;
        let free = || (0..).map(|_| fastrand::i64(1..)).find(|id| self.lessor.get(*id).is_none());
        let id = if id == 0 { free().expect("there are more ids than leases") } else { id };
        let ttl = self.lessor.grant(id, ttl, now)?;
        Ok((id, ttl, Effect::Grant { id, ttl }))
    }

    /// Revokes a lease: its keys are deleted in the order of their names, in one revision.
    ///
    /// # Errors
    ///
    /// There is no such lease.
    pub fn revoke(&mut self, id: i64) -> Result<Effect, Refusal> {
        let lease = self.lessor.remove(id).ok_or(Refusal::LeaseNotFound)?;
        let ((), entry) = self.store.write(|writing| {
            for key in lease.keys {
                writing.delete(&Interval::single(key));
            }
        });
        if let Some(entry) = &entry {
            self.lessor.follow(entry);
        }
        Ok(Effect::Revoke { id, entry })
    }

    /// Revokes a lease whose time is over. One that was renewed meanwhile, or is gone, is nothing to do.
    pub fn expire(&mut self, id: i64, now: Instant) -> Option<Effect> {
        self.lessor.get(id).filter(|lease| lease.deadline <= now)?;
        self.revoke(id).ok()
    }

    /// Requests are served from now on: the leases live their whole time.
    pub fn begin(&mut self, now: Instant) {
        self.lessor.begin(now);
    }

    /// Renews a lease; nothing has to be kept of that.
    pub fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        self.lessor.renew(id, now)
    }

    /// Throws away what a durable compaction allows.
    pub fn compacted(&mut self, revision: i64) {
        self.store.compact(revision);
    }

    /// The last compaction that was accepted.
    pub fn compaction(&self) -> i64 {
        self.compaction
    }

    /// Takes a version of before the first revision that is restored.
    pub fn restore_older(&mut self, version: Version) {
        let entry = Entry { revision: version.kv.mod_revision, changes: vec![version] };
        self.lessor.follow(&entry);
        entry.changes.into_iter().for_each(|version| self.store.restore_older(version));
    }

    /// Does again what was done before a start.
    pub fn restore(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Changes(entry) => self.restore_entry(&entry),
            Effect::Grant { id, ttl } => self.lessor.restore(id, ttl, now),
            Effect::Revoke { id, entry } => {
                self.lessor.remove(id);
                if let Some(entry) = entry {
                    self.restore_entry(&entry);
                }
            }
            Effect::Compaction(revision) => {
                self.compaction = revision;
                self.store.compact(revision);
            }
        }
    }

    fn restore_entry(&mut self, entry: &Entry) {
        self.store.restore(entry.clone());
        self.lessor.follow(entry);
    }

    fn follow(&mut self, entry: Option<std::sync::Arc<Entry>>) -> Option<Effect> {
        let entry = entry?;
        self.lessor.follow(&entry);
        Some(Effect::Changes(entry))
    }
}

fn put(writing: &mut Writing<'_>, request: PbPutRequest) -> PbPutResponse {
    let former = writing.get(&request.key).cloned();
    let kept = former.as_deref();
    let value = if request.ignore_value { kept.map(|kv| kv.value.clone()).unwrap_or_default() } else { request.value };
    let lease = if request.ignore_lease { kept.map_or(0, |kv| kv.lease) } else { request.lease };
    let prev_kv = kept.filter(|_| request.prev_kv).cloned();
    writing.put(request.key, value, lease);
    PbPutResponse { header: header(writing.revision()), prev_kv }
}

fn delete(writing: &mut Writing<'_>, request: PbDeleteRequest) -> PbDeleteResponse {
    let former = writing.delete(&Interval::new(request.key, request.range_end));
    let deleted = i64::try_from(former.len()).expect("memory holds fewer keys");
    let prev_kvs = if request.prev_kv { former.iter().map(|kv| (**kv).clone()).collect() } else { Vec::new() };
    PbDeleteResponse { header: header(writing.revision()), deleted, prev_kvs }
}

//! Whether a request is well formed: what etcd refuses before it looks at any key.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};
use prost::Message;

use crate::refusal::Refusal;
use crate::store::{End, Interval};

/// The most operations of a transaction: etcd's default.
const MAX_TXN_OPS: usize = 128;

/// The largest request that writes: etcd's default of 1.5 MiB.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// What one can sort by: key, version, both revisions, value.
const SORT_TARGETS: RangeInclusive<i32> = 0..=4;

/// What etcd counts beside the request itself: it wraps it for its log, with an id.
const WRAPPING: usize = 18;

/// The largest message that etcd's gRPC takes in.
const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + 512 * 1024;

/// Is the message one that gRPC takes in?
pub fn message(request: &impl Message) -> Result<(), Refusal> {
    let size = request.encoded_len();
    if size > MAX_MESSAGE_BYTES { Err(Refusal::MessageTooLarge { size, limit: MAX_MESSAGE_BYTES }) } else { Ok(()) }
}

/// Is a request that writes small enough?
pub fn size(request: &impl Message) -> Result<(), Refusal> {
    if request.encoded_len() + WRAPPING > MAX_REQUEST_BYTES { Err(Refusal::RequestTooLarge) } else { Ok(()) }
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// A read.
pub fn range(request: &PbRangeRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if !SORT_TARGETS.contains(&request.sort_target) {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

/// A put.
pub fn put(request: &PbPutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// A deletion.
pub fn delete(request: &PbDeleteRequest) -> Result<(), Refusal> {
    key(&request.key)
}

/// A transaction.
pub fn txn(request: &PbTxnRequest) -> Result<(), Refusal> {
    operations(request, MAX_TXN_OPS)?;
    // Afterwards, because it compares all with all.
    Written::of(&request.success)?;
    Written::of(&request.failure)?;
    Ok(())
}

/// A nested transaction may have as many operations as those around it have left.
fn operations(request: &PbTxnRequest, limit: usize) -> Result<(), Refusal> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = limit.checked_sub(count).ok_or(Refusal::TooManyOps)?;
    request.compare.iter().try_for_each(|compare| key(&compare.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range(request),
        Some(PbTxnOpRequest::RequestPut(request)) => put(request),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete(request),
        Some(PbTxnOpRequest::RequestTxn(request)) => operations(request, left),
        None => Err(Refusal::KeyNotFound),
    })
}

/// What operations write: no key may be put twice, or be put and deleted.
#[derive(Default)]
struct Written<'a> {
    /// By key; whether something of the former value is to stay.
    puts: HashMap<&'a [u8], bool>,
    deletes: Vec<Interval>,
    /// Deletions of all from a key on. They are not compared with puts, as etcd does not: its check takes the end "\0" for a
    /// key. Only a put that keeps what they delete is refused here, where etcd's process would end.
    open: Vec<Interval>,
}

impl<'a> Written<'a> {
    fn of(ops: &'a [PbTxnRequestOp]) -> Result<Self, Refusal> {
        let mut written = Self::default();
        let requests = || ops.iter().filter_map(|op| op.request.as_ref());
        for request in requests() {
            if let PbTxnOpRequest::RequestDeleteRange(request) = request {
                let interval = Interval::new(request.key.clone(), request.range_end.clone());
                let deletes = if interval.end == End::Open { &mut written.open } else { &mut written.deletes };
                deletes.push(interval);
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestTxn(request) = request {
                written.nested(Self::of(&request.success)?, Self::of(&request.failure)?)?;
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestPut(request) = request {
                written.put(&request.key, request.ignore_value || request.ignore_lease)?;
            }
        }
        Ok(written)
    }

    /// Takes in both branches of a nested transaction, of which one is carried out: they may write the same keys.
    fn nested(&mut self, then: Self, or_else: Self) -> Result<(), Refusal> {
        let mut puts = then.puts;
        for (key, keeps) in or_else.puts {
            *puts.entry(key).or_default() |= keeps;
        }
        puts.into_iter().try_for_each(|(key, keeps)| self.put(key, keeps))?;
        self.deletes.extend(then.deletes.into_iter().chain(or_else.deletes));
        self.open.extend(then.open.into_iter().chain(or_else.open));
        Ok(())
    }

    fn put(&mut self, key: &'a [u8], keeps: bool) -> Result<(), Refusal> {
        let meets = |intervals: &[Interval]| intervals.iter().any(|interval| interval.contains(key));
        if self.puts.insert(key, keeps).is_some() || meets(&self.deletes) || (keeps && meets(&self.open)) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_cannot_sort_by_is_refused_in_a_transaction_too() {
        let request = PbRangeRequest { key: b"a".into(), sort_target: 5, ..PbRangeRequest::default() };
        assert_eq!(range(&request), Err(Refusal::InvalidSortOption));
        let op = PbTxnRequestOp { request: Some(PbTxnOpRequest::RequestRange(request)) };
        let txn_of = PbTxnRequest { failure: vec![op], ..PbTxnRequest::default() };
        assert_eq!(txn(&txn_of), Err(Refusal::InvalidSortOption));
    }

    #[test]
    fn what_a_transaction_deletes_it_cannot_keep() {
        let op = |request| PbTxnRequestOp { request: Some(request) };
        let open = PbDeleteRequest { key: b"a".into(), range_end: vec![0], prev_kv: false };
        let keeping = |ignore_value| PbPutRequest { key: b"b".into(), ignore_value, ..PbPutRequest::default() };
        let both = |put| PbTxnRequest {
            success: vec![op(PbTxnOpRequest::RequestDeleteRange(open.clone())), op(PbTxnOpRequest::RequestPut(put))],
            ..PbTxnRequest::default()
        };
        assert_eq!(txn(&both(keeping(false))), Ok(()));
        assert_eq!(txn(&both(keeping(true))), Err(Refusal::DuplicateKey));
    }
}

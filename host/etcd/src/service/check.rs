//! Whether a request is well formed: what etcd refuses before it looks at any key.

use std::collections::HashSet;

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};
use prost::Message;

use crate::refusal::Refusal;
use crate::store::Interval;

/// The most operations of a transaction: etcd's default.
const MAX_TXN_OPS: usize = 128;

/// The largest request that writes: etcd's default of 1.5 MiB.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;

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
    key(&request.key)
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
    puts: HashSet<&'a [u8]>,
    deletes: Vec<Interval>,
}

impl<'a> Written<'a> {
    fn of(ops: &'a [PbTxnRequestOp]) -> Result<Self, Refusal> {
        let mut written = Self::default();
        let requests = || ops.iter().filter_map(|op| op.request.as_ref());
        for request in requests() {
            if let PbTxnOpRequest::RequestDeleteRange(request) = request {
                written.deletes.extend(deleted(request));
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestTxn(request) = request {
                written.nested(Self::of(&request.success)?, Self::of(&request.failure)?)?;
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestPut(request) = request {
                written.put(&request.key)?;
            }
        }
        Ok(written)
    }

    /// Takes in both branches of a nested transaction, of which one is carried out: they may write the same keys.
    fn nested(&mut self, then: Self, or_else: Self) -> Result<(), Refusal> {
        for key in then.puts.union(&or_else.puts) {
            self.put(key)?;
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(or_else.deletes);
        Ok(())
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        if !self.puts.insert(key) || self.deletes.iter().any(|interval| interval.contains(key)) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

/// The keys that a deletion names. That of all keys from one on is not compared with puts, as etcd does not: its check takes
/// the end "\0" for a key.
fn deleted(request: &PbDeleteRequest) -> Option<Interval> {
    (request.range_end != [0]).then(|| Interval::new(request.key.clone(), request.range_end.clone()))
}

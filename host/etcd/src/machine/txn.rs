//! Transactions: all comparisons, those of nested ones too, are decided before the first operation; then the operations of
//! the branches that were chosen are checked, and carried out as one revision.

use std::cmp::Ordering;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbKeyValue, PbPutRequest, PbRangeRequest, PbResponseOp, PbTargetUnion, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use super::{delete, header, put, range};
use crate::refusal::Refusal;
use crate::store::{Interval, Store, Writing};

/// The comparison's target that a key which is not there never meets.
const VALUE: i32 = 3;

/// The operations that a transaction carries out.
pub(super) struct Plan {
    succeeded: bool,
    steps: Vec<Step>,
}

enum Step {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(Plan),
}

/// Can it change anything? As etcd sees it, a nested one always can.
pub fn is_read_only(request: &PbTxnRequest) -> bool {
    let reads = |op: &PbTxnRequestOp| matches!(op.request, Some(PbTxnOpRequest::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(reads)
}

/// May it put, whichever branch is taken?
pub fn may_put(request: &PbTxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(PbTxnOpRequest::RequestPut(_)) => true,
        Some(PbTxnOpRequest::RequestTxn(nested)) => may_put(nested),
        Some(PbTxnOpRequest::RequestRange(_) | PbTxnOpRequest::RequestDeleteRange(_)) | None => false,
    })
}

impl Plan {
    /// Chooses the branches by the store as it is at a revision.
    pub(super) fn choose(store: &Store, request: PbTxnRequest, revision: i64) -> Self {
        let succeeded = request.compare.iter().all(|compare| holds(store, compare, revision));
        let ops = if succeeded { request.success } else { request.failure };
        let step = |op: PbTxnRequestOp| match op.request {
            Some(PbTxnOpRequest::RequestRange(request)) => Some(Step::Range(request)),
            Some(PbTxnOpRequest::RequestPut(request)) => Some(Step::Put(request)),
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => Some(Step::Delete(request)),
            Some(PbTxnOpRequest::RequestTxn(request)) => Some(Step::Txn(Self::choose(store, request, revision))),
            None => None,
        };
        Self { succeeded, steps: ops.into_iter().filter_map(step).collect() }
    }

    /// Checks all puts.
    pub(super) fn puts(&self, check: &mut impl FnMut(&PbPutRequest) -> Result<(), Refusal>) -> Result<(), Refusal> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Put(request) => check(request),
            Step::Txn(plan) => plan.puts(check),
            Step::Range(_) | Step::Delete(_) => Ok(()),
        })
    }

    /// Checks the revisions of all reads.
    pub(super) fn may_read(&self, present: i64, compacted: i64) -> Result<(), Refusal> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Range(request) if request.revision == 0 => Ok(()),
            Step::Range(request) if request.revision > present => Err(Refusal::FutureRevision),
            Step::Range(request) if request.revision < compacted => Err(Refusal::Compacted),
            Step::Txn(plan) => plan.may_read(present, compacted),
            Step::Range(_) | Step::Put(_) | Step::Delete(_) => Ok(()),
        })
    }

    /// Carries all out. It names the revision of its changes, or the present one where it has made none.
    pub(super) fn carry_out(self, writing: &mut Writing<'_>) -> PbTxnResponse {
        let mut answer = self.steps_of(writing);
        answer.header = header(writing.revision());
        answer
    }

    /// Answers a transaction that only reads, at a revision that need not be the newest.
    pub(super) fn read(self, store: &Store, present: i64, compacted: i64) -> Result<PbTxnResponse, Refusal> {
        let read = |step| match step {
            Step::Range(request) => {
                let answer = range::range(store, request, present, compacted)?;
                Ok(op(PbTxnOpResponse::ResponseRange(answer)))
            }
            Step::Put(_) | Step::Delete(_) | Step::Txn(_) => unreachable!("it was looked at: it only reads"),
        };
        let responses = self.steps.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(PbTxnResponse { header: header(present), succeeded: self.succeeded, responses })
    }

    fn steps_of(self, writing: &mut Writing<'_>) -> PbTxnResponse {
        let carry_out = |step| {
            op(match step {
                Step::Range(request) => {
                    let store = writing.store();
                    // What may fail was checked, and a compaction cannot come between.
                    let answer = range::range(store, request, writing.revision(), store.compacted());
                    PbTxnOpResponse::ResponseRange(answer.unwrap_or_default())
                }
                Step::Put(request) => PbTxnOpResponse::ResponsePut(put(writing, request)),
                Step::Delete(request) => PbTxnOpResponse::ResponseDeleteRange(delete(writing, request)),
                // etcd leaves the header of a nested one empty.
                Step::Txn(plan) => {
                    let answer = plan.steps_of(writing);
                    PbTxnOpResponse::ResponseTxn(PbTxnResponse { header: Some(Default::default()), ..answer })
                }
            })
        };
        let responses = self.steps.into_iter().map(carry_out).collect();
        PbTxnResponse { header: None, succeeded: self.succeeded, responses }
    }
}

fn op(response: PbTxnOpResponse) -> PbResponseOp {
    PbResponseOp { response: Some(response) }
}

/// Does a comparison hold for all keys that it means? Of a key that is not there all numbers are 0, and no value compares.
fn holds(store: &Store, compare: &PbCompare, revision: i64) -> bool {
    let interval = Interval::new(compare.key.clone(), compare.range_end.clone());
    let mut kvs = store.range(&interval, revision).peekable();
    if kvs.peek().is_none() {
        return compare.target != VALUE && is_so(compare, &PbKeyValue::default());
    }
    kvs.all(|kv| is_so(compare, kv))
}

fn is_so(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    use PbTargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
    // A number or value of another kind than the target counts as none.
    let order = match (compare.target, compare.target_union.as_ref()) {
        (0, Some(Version(wanted))) => kv.version.cmp(wanted),
        (0, _) => kv.version.cmp(&0),
        (1, Some(CreateRevision(wanted))) => kv.create_revision.cmp(wanted),
        (1, _) => kv.create_revision.cmp(&0),
        (2, Some(ModRevision(wanted))) => kv.mod_revision.cmp(wanted),
        (2, _) => kv.mod_revision.cmp(&0),
        (VALUE, Some(Value(wanted))) => kv.value.cmp(wanted),
        (VALUE, _) => kv.value.as_slice().cmp(&[]),
        (4, Some(Lease(wanted))) => kv.lease.cmp(wanted),
        (4, _) => kv.lease.cmp(&0),
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}

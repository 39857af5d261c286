//! Short ways to write requests.

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
    PbTxnRequestOp,
};

pub fn put(key: &str, value: &str) -> PbPutRequest {
    PbPutRequest { key: key.into(), value: value.into(), ..PbPutRequest::default() }
}

pub fn leased(key: &str, lease: i64) -> PbPutRequest {
    PbPutRequest { lease, ..put(key, "leased") }
}

pub fn get(key: &str) -> PbRangeRequest {
    PbRangeRequest { key: key.into(), ..PbRangeRequest::default() }
}

pub fn get_range(key: &str, range_end: &str) -> PbRangeRequest {
    PbRangeRequest { range_end: range_end.into(), ..get(key) }
}

pub fn everything() -> PbRangeRequest {
    get_range("\0", "\0")
}

pub fn delete(key: &str) -> PbDeleteRequest {
    PbDeleteRequest { key: key.into(), ..PbDeleteRequest::default() }
}

pub fn delete_range(key: &str, range_end: &str) -> PbDeleteRequest {
    PbDeleteRequest { range_end: range_end.into(), ..delete(key) }
}

pub trait Op {
    fn op(self) -> PbTxnRequestOp;
}

macro_rules! op {
    ($($request:ty => $variant:ident),*) => {
        $(impl Op for $request {
            fn op(self) -> PbTxnRequestOp {
                PbTxnRequestOp { request: Some(PbTxnOpRequest::$variant(self)) }
            }
        })*
    };
}

op!(PbPutRequest => RequestPut, PbRangeRequest => RequestRange);
op!(PbDeleteRequest => RequestDeleteRange, PbTxnRequest => RequestTxn);

/// A transaction without comparisons.
pub fn all(success: Vec<PbTxnRequestOp>) -> PbTxnRequest {
    PbTxnRequest { success, ..PbTxnRequest::default() }
}

pub fn choose(compare: Vec<PbCompare>, success: Vec<PbTxnRequestOp>, failure: Vec<PbTxnRequestOp>) -> PbTxnRequest {
    PbTxnRequest { compare, success, failure }
}

/// `result`: 0 equal, 1 greater, 2 less, 3 not equal. The target is that of the value.
pub fn compare(key: &str, result: i32, wanted: PbTargetUnion) -> PbCompare {
    let target = match wanted {
        PbTargetUnion::Version(_) => 0,
        PbTargetUnion::CreateRevision(_) => 1,
        PbTargetUnion::ModRevision(_) => 2,
        PbTargetUnion::Value(_) => 3,
        PbTargetUnion::Lease(_) => 4,
    };
    PbCompare { result, target, key: key.into(), range_end: Vec::new(), target_union: Some(wanted) }
}

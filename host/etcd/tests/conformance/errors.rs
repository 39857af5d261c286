//! What is refused: the same code and the same text, and nothing has changed.

use etcd_client::proto::PbTargetUnion::Version;
use etcd_client::proto::{PbPutRequest, PbRangeRequest, PbTxnRequestOp};

use crate::ops::{Op, all, choose, compare, delete, delete_range, everything, get, put};
use crate::pair::{Pair, Refused};

fn refused<T>(answer: Result<T, Refused>) {
    assert!(answer.is_err(), "it was not refused");
}

#[tokio::test]
async fn malformed_requests_are_refused_alike() {
    let pair = Pair::start().await;
    refused(pair.put(put("", "1")).await);
    refused(pair.range(get("")).await);
    refused(pair.delete(delete("")).await);
    refused(pair.put(PbPutRequest { ignore_value: true, ..put("a", "1") }).await);
    refused(pair.put(PbPutRequest { ignore_lease: true, lease: 7, ..put("a", "1") }).await);
    refused(pair.put(PbPutRequest { ignore_value: true, ..put("a", "") }).await);
    refused(pair.put(PbPutRequest { ignore_lease: true, ..put("a", "1") }).await);
    refused(pair.put(PbPutRequest { ignore_lease: true, ignore_value: true, ..put("a", "") }).await);
    refused(pair.put(PbPutRequest { lease: 7, ..put("a", "1") }).await);
    refused(pair.put(PbPutRequest { lease: 7, ignore_value: true, ..put("a", "") }).await);
    refused(pair.range(PbRangeRequest { revision: 2, ..get("a") }).await);
    pair.range(everything()).await.expect("a read");
}

#[tokio::test]
async fn transactions_are_refused_alike_and_change_nothing() {
    let pair = Pair::start().await;
    pair.put(put("a", "1")).await.expect("a put");
    let empty = || PbTxnRequestOp { request: None };
    for op in [
        put("", "").op(),
        get("").op(),
        delete("").op(),
        empty(),
        PbPutRequest { lease: 9, ..put("b", "1") }.op(),
        PbPutRequest { lease: 9, ignore_value: true, ..put("x", "") }.op(),
        PbPutRequest { ignore_value: true, ..put("x", "") }.op(),
        PbPutRequest { ignore_value: true, ..put("a", "1") }.op(),
        PbRangeRequest { revision: 9, ..get("a") }.op(),
        PbRangeRequest { revision: -5, ..get("a") }.op(),
        all(vec![PbPutRequest { lease: 9, ..put("b", "1") }.op()]).op(),
        all(vec![all(vec![empty()]).op()]).op(),
    ] {
        refused(pair.txn(all(vec![put("k", "").op(), op.clone()])).await);
        // Where only reads are in it, and where the other branch has it.
        refused(pair.txn(all(vec![op.clone()])).await);
        let _ = pair.txn(choose(vec![], vec![], vec![op])).await;
    }
    refused(pair.txn(choose(vec![compare("", 0, Version(0))], vec![], vec![])).await);
    // A put that only the other branch would refuse.
    let leased = PbPutRequest { lease: 9, ..put("b", "1") };
    pair.txn(choose(vec![compare("x", 0, Version(0))], vec![get("a").op()], vec![leased.op()]))
        .await
        .expect("it reads");
    pair.compact(2).await.expect("a compaction");
    for revision in [1, 2, 3] {
        let _ = pair.txn(all(vec![PbRangeRequest { revision, ..get("a") }.op()])).await;
        let _ = pair.txn(all(vec![PbRangeRequest { revision, ..get("a") }.op(), delete("x").op()])).await;
    }
    pair.range(everything()).await.expect("a read");
}

#[tokio::test]
async fn sort_orders_that_there_are_not_are_answered_alike() {
    let pair = Pair::start().await;
    for (key, value) in [("a", "2"), ("b", "1")] {
        pair.put(put(key, value)).await.expect("a put");
    }
    for (sort_order, sort_target) in [(3, 0), (9, 4), (-1, 4), (200, 2)] {
        let request = PbRangeRequest { sort_order, sort_target, ..everything() };
        let counted = PbRangeRequest { count_only: true, ..request.clone() };
        for request in [request, counted] {
            let _ = pair.range(request.clone()).await;
            let _ = pair.txn(all(vec![request.clone().op()])).await;
            let _ = pair.txn(all(vec![put("c", "1").op(), request.op()])).await;
        }
    }
    pair.range(everything()).await.expect("a read");
}

#[tokio::test]
async fn duplicate_keys_are_found_alike() {
    let pair = Pair::start().await;
    let nested = |then: Vec<PbTxnRequestOp>, or_else: Vec<PbTxnRequestOp>| choose(vec![], then, or_else).op();
    for ops in [
        vec![put("a", "").op(), put("a", "").op()],
        vec![put("a", "").op(), delete("a").op()],
        vec![delete("a").op(), put("a", "").op()],
        vec![put("b", "").op(), delete_range("a", "c").op()],
        vec![put("c", "").op(), delete_range("a", "c").op()],
        vec![put("b", "").op(), delete_range("a", "\0").op()],
        vec![put("b", "").op(), delete_range("c", "a").op()],
        vec![delete("a").op(), delete("a").op()],
        vec![put("a", "").op(), get("a").op(), get("a").op()],
        vec![put("a", "").op(), nested(vec![put("a", "").op()], vec![])],
        vec![put("a", "").op(), nested(vec![], vec![delete("a").op()])],
        vec![delete("a").op(), nested(vec![], vec![put("a", "").op()])],
        vec![nested(vec![put("a", "").op()], vec![put("a", "").op()])],
        vec![nested(vec![put("a", "").op()], vec![]), nested(vec![], vec![put("a", "").op()])],
        vec![nested(vec![put("a", "").op()], vec![]), nested(vec![delete("a").op()], vec![])],
        vec![nested(vec![delete("a").op()], vec![]), nested(vec![put("a", "").op()], vec![])],
        vec![nested(vec![nested(vec![put("a", "").op()], vec![])], vec![]), put("a", "").op()],
    ] {
        let _ = pair.txn(all(ops)).await;
        pair.range(everything()).await.expect("a read");
    }
}

#[tokio::test]
async fn operations_are_counted_alike() {
    let pair = Pair::start().await;
    let puts = |count: usize| (0..count).map(|number| put(&format!("k{number}"), "").op()).collect::<Vec<_>>();
    let gets = |count: usize| vec![get("a").op(); count];
    for count in [127, 128, 129] {
        let fits = count <= 128;
        assert_eq!(pair.txn(all(puts(count))).await.is_ok(), fits);
        assert_eq!(pair.txn(choose(vec![], vec![], gets(count))).await.is_ok(), fits);
        let compares = vec![compare("a", 0, Version(0)); count];
        assert_eq!(pair.txn(choose(compares, vec![], vec![])).await.is_ok(), fits);
        // One operation is a transaction that has the others.
        assert_eq!(pair.txn(all(vec![all(gets(count)).op()])).await.is_ok(), count < 128);
    }
}

#[tokio::test]
async fn large_requests_are_refused_at_the_same_byte() {
    let pair = Pair::start().await;
    let large = |size: usize| "x".repeat(size);
    // etcd wraps a request with an id of one or two bytes more or less, so that its limit itself moves by them.
    for (size, fits) in [(1 << 20, true), (1_572_864 - 40, true), (1_572_864, false), (2_000_000, false)] {
        assert_eq!(pair.put(put("a", &large(size))).await.is_ok(), fits, "{size}");
        assert_eq!(pair.txn(all(vec![put("a", &large(size - 20)).op()])).await.is_ok(), fits, "{size}");
    }
    // Beyond what gRPC takes in; and what only reads is not measured by etcd.
    for size in [2_097_152 - 40, 2_097_152, 3_000_000, 6_000_000] {
        refused(pair.put(put("a", &large(size))).await);
        let _ = pair.range(get(&large(size))).await;
        let _ = pair.txn(all(vec![get(&large(size)).op()])).await;
    }
}

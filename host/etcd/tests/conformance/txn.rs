//! Transactions.

use etcd_client::proto::PbTargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
use etcd_client::proto::{PbCompare, PbPutRequest, PbRangeRequest};

use crate::ops::{Op, all, choose, compare, delete, delete_range, everything, get, get_range, leased, put};
use crate::pair::Pair;

#[tokio::test]
async fn comparisons_hold_alike() {
    let pair = Pair::start().await;
    pair.grant(7, 60).await.expect("a new lease");
    for request in [put("a", "1"), put("a", "2"), leased("b", 7), put("e", "")] {
        pair.put(request).await.expect("a put");
    }
    for key in ["a", "b", "e", "x"] {
        for result in 0..=3 {
            for number in 0..=8 {
                for wanted in [Version(number), CreateRevision(number), ModRevision(number), Lease(number)] {
                    let compare = vec![compare(key, result, wanted)];
                    pair.txn(choose(compare, vec![], vec![])).await.expect("a transaction");
                }
            }
            for value in ["", "1", "2", "3", "leased"] {
                let compare = vec![compare(key, result, Value(value.into()))];
                pair.txn(choose(compare, vec![get(key).op()], vec![])).await.expect("a transaction");
            }
        }
    }
}

#[tokio::test]
async fn comparisons_of_ranges_and_of_kinds_that_do_not_fit_hold_alike() {
    let pair = Pair::start().await;
    for key in ["a", "ab", "b"] {
        pair.put(put(key, key)).await.expect("a put");
    }
    for (key, range_end) in [("a", "b"), ("a", "\0"), ("x", "z"), ("b", "a")] {
        for (result, wanted) in
            [(1, CreateRevision(1)), (1, CreateRevision(2)), (2, Value("b".into())), (0, Version(0))]
        {
            let compare = PbCompare { range_end: range_end.into(), ..compare(key, result, wanted) };
            pair.txn(choose(vec![compare], vec![], vec![])).await.expect("a transaction");
        }
    }
    for target in 0..=4 {
        for result in 0..=3 {
            let mismatched = PbCompare { target, ..compare("a", result, Lease(3)) };
            pair.txn(choose(vec![mismatched], vec![], vec![])).await.expect("a transaction");
            let bare = PbCompare { target_union: None, target, ..compare("a", result, Lease(3)) };
            pair.txn(choose(vec![bare], vec![], vec![])).await.expect("a transaction");
        }
    }
}

#[tokio::test]
async fn operations_see_those_before_them_and_share_a_revision() {
    let pair = Pair::start().await;
    pair.put(put("a", "1")).await.expect("a put");
    for ops in [
        vec![everything().op(), put("b", "1").op(), everything().op(), get("b").op()],
        vec![delete("x").op()],
        vec![delete("x").op(), get("a").op(), delete_range("a", "\0").op(), delete("a").op(), everything().op()],
        vec![put("a", "2").op(), PbPutRequest { prev_kv: true, ..put("b", "2") }.op(), delete("x").op()],
        vec![PbRangeRequest { revision: 2, ..everything() }.op(), put("c", "").op()],
        vec![],
    ] {
        pair.txn(all(ops)).await.expect("a transaction");
        pair.range(everything()).await.expect("a read");
    }
}

#[tokio::test]
async fn nested_transactions_are_decided_first_and_answered_alike() {
    let pair = Pair::start().await;
    pair.put(put("a", "1")).await.expect("a put");
    let inner = |then: &str, or_else: &str| {
        choose(vec![compare("a", 0, Value("1".into()))], vec![put(then, "t").op()], vec![put(or_else, "e").op()])
    };
    for ops in [
        vec![put("a", "2").op(), inner("b", "c").op(), get_range("a", "\0").op()],
        vec![inner("b", "c").op(), all(vec![inner("d", "e").op(), delete("a").op()]).op()],
        vec![all(vec![get("a").op()]).op()],
        vec![all(vec![put("k", "").op()]).op(), all(vec![delete("k").op()]).op(), everything().op()],
        vec![put("z", "").op(), delete_range("a", "\0").op(), everything().op()],
        vec![delete_range("a", "\0").op(), put("z", "").op(), everything().op()],
    ] {
        pair.txn(all(ops)).await.expect("a transaction");
        pair.range(everything()).await.expect("a read");
    }
}

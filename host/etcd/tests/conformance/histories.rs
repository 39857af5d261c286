//! Requests drawn at random: both must answer each of them alike, and tell the same events of all of them.

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnRequest, PbTxnRequestOp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::ops::{Op as _, choose, compare, delete_range, everything, get_range, put};
use crate::pair::Pair;
use crate::streams::{Create, Streams};

/// One request. Revisions are counted back from the present, so that they mean something whatever came before.
#[derive(Clone, Debug)]
enum Op {
    Put(PbPutRequest),
    Range { request: PbRangeRequest, back: i64 },
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact { back: i64 },
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    TimeToLive { id: i64 },
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "aa", "ab", "b", "c"]).prop_map(str::to_owned)
}

fn range_end() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => Just(String::new()),
        3 => prop::sample::select(vec!["b", "c", "ab", "d"]).prop_map(str::to_owned),
        1 => Just("\0".to_owned()),
    ]
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => 1..4_i64]
}

fn a_put() -> impl Strategy<Value = PbPutRequest> {
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.15), any::<bool>());
    (key(), "[xyz]{0,2}", lease(), flags).prop_map(|(key, value, lease, (ignore_value, ignore_lease, prev_kv))| {
        let value = if ignore_value { String::new() } else { value };
        let lease = if ignore_lease { 0 } else { lease };
        PbPutRequest { lease, ignore_value, ignore_lease, prev_kv, ..put(&key, &value) }
    })
}

fn a_range() -> impl Strategy<Value = PbRangeRequest> {
    let cut = (0..4_i64, 0..3_i32, 0..5_i32);
    let shown = (prop::bool::weighted(0.2), prop::bool::weighted(0.2), any::<bool>());
    (key(), range_end(), cut, shown).prop_map(
        |(key, end, (limit, sort_order, sort_target), (keys_only, count_only, serializable))| {
            let cut = PbRangeRequest { limit, sort_order, sort_target, ..get_range(&key, &end) };
            PbRangeRequest { keys_only, count_only, serializable, ..cut }
        },
    )
}

fn a_delete() -> impl Strategy<Value = PbDeleteRequest> {
    (key(), range_end(), any::<bool>())
        .prop_map(|(key, end, prev_kv)| PbDeleteRequest { prev_kv, ..delete_range(&key, &end) })
}

fn a_compare() -> impl Strategy<Value = etcd_client::proto::PbCompare> {
    let wanted = prop_oneof![
        (0..4_i64).prop_map(PbTargetUnion::Version),
        (0..40_i64).prop_map(PbTargetUnion::CreateRevision),
        (0..40_i64).prop_map(PbTargetUnion::ModRevision),
        (0..4_i64).prop_map(PbTargetUnion::Lease),
        "[xyz]{0,1}".prop_map(|value| PbTargetUnion::Value(value.into())),
    ];
    (key(), 0..4_i32, wanted).prop_map(|(key, result, wanted)| compare(&key, result, wanted))
}

fn a_txn() -> impl Strategy<Value = PbTxnRequest> {
    // A deletion of all from a key on, and a put that keeps the value of one of them, end the process of the real one.
    let closed = a_delete().prop_filter("an open end", |request| request.range_end != [0]);
    let leaf = prop_oneof![
        a_put().prop_map(PbPutRequest::op),
        a_range().prop_map(PbRangeRequest::op),
        closed.prop_map(PbDeleteRequest::op),
    ];
    let branches = |op: BoxedStrategy<PbTxnRequestOp>| {
        let ops = || prop::collection::vec(op.clone(), 0..4);
        (prop::collection::vec(a_compare(), 0..2), ops(), ops())
            .prop_map(|(compares, then, or_else)| choose(compares, then, or_else))
    };
    let op = leaf.prop_recursive(2, 12, 4, move |op| branches(op.boxed()).prop_map(PbTxnRequest::op));
    branches(op.boxed())
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => a_put().prop_map(Op::Put),
        4 => (a_range(), 0..12_i64).prop_map(|(request, back)| Op::Range { request, back }),
        3 => a_delete().prop_map(Op::Delete),
        6 => a_txn().prop_map(Op::Txn),
        1 => (-1..12_i64).prop_map(|back| Op::Compact { back }),
        2 => (1..4_i64, prop_oneof![Just(60_i64), Just(9_000_000_001)]).prop_map(|(id, ttl)| Op::Grant { id, ttl }),
        1 => (1..4_i64).prop_map(|id| Op::Revoke { id }),
        1 => (1..4_i64).prop_map(|id| Op::TimeToLive { id }),
    ]
}

/// Both servers, and what all histories have made of them so far.
struct Histories {
    pair: Pair,
    revision: i64,
}

impl Histories {
    /// Carries out one request; the answers are compared by [`Pair`].
    async fn carry_out(&mut self, op: Op) {
        let pair = &self.pair;
        match op {
            Op::Put(request) => drop(pair.put(request).await),
            // Without going back it reads the present by not naming it.
            Op::Range { request, back: 0 } => drop(pair.range(request).await),
            Op::Range { request, back } => {
                let revision = (self.revision - back + 2).max(1);
                drop(pair.range(PbRangeRequest { revision, ..request }).await);
            }
            Op::Delete(request) => drop(pair.delete(request).await),
            Op::Txn(request) => drop(pair.txn(request).await),
            Op::Compact { back } => drop(pair.compact((self.revision - back).max(0)).await),
            Op::Grant { id, ttl } => drop(pair.grant(id, ttl).await),
            Op::Revoke { id } => drop(pair.revoke(id).await),
            Op::TimeToLive { id } => drop(pair.time_to_live(id).await),
        }
        let all = pair.range(everything()).await.expect("a read");
        self.revision = all.header.expect("a header").revision;
    }

    /// A history on what the one before has left, from no keys and no leases on, and watched.
    async fn run(&mut self, ops: Vec<Op>) {
        self.pair.delete(delete_range("\0", "\0")).await.expect("a deletion");
        for id in 1..4 {
            let _ = self.pair.revoke(id).await;
        }
        self.revision = self.pair.range(everything()).await.expect("a read").header.expect("a header").revision;
        let mut streams = Streams::open(&self.pair).await;
        let all = || Create { key: "\0".to_owned(), range_end: "\0".to_owned(), prev_kv: true, ..Create::default() };
        streams.create(all()).await;
        streams.create(Create { key: "a".to_owned(), range_end: "b".to_owned(), filters: vec![1], ..all() }).await;
        for op in ops {
            self.carry_out(op).await;
        }
        // The last event is known by both watches: all before it has been told then.
        self.pair.put(put("a", "last")).await.expect("a put");
        streams.until("last").await;
    }
}

#[test]
fn random_histories_are_the_same() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let pair = runtime.block_on(Pair::start());
    let histories = std::cell::RefCell::new(Histories { pair, revision: 1 });
    let cases = std::env::var("HISTORIES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let history = prop::collection::vec(an_op(), 1..30);
    let run = TestRunner::new(config).run(&history, |ops| {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(histories.borrow_mut().run(ops)));
        std::panic::catch_unwind(run).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            TestCaseError::fail(text)
        })
    });
    if let Err(TestError::Fail(why, ops)) = run {
        panic!("the histories differ: {why}\nafter {ops:#?}");
    }
    run.expect("histories can be drawn");
}

use etcd_client::proto::{PbCompare, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequestOp};

use super::*;

fn put_of(key: &str, value: &str) -> PbPutRequest {
    PbPutRequest { key: key.into(), value: value.into(), ..PbPutRequest::default() }
}

fn op(request: PbTxnOpRequest) -> PbTxnRequestOp {
    PbTxnRequestOp { request: Some(request) }
}

fn value_is(key: &str, value: &str) -> PbCompare {
    let target_union = Some(PbTargetUnion::Value(value.into()));
    PbCompare { key: key.into(), target: 3, target_union, ..PbCompare::default() }
}

fn read_of(key: &str, machine: &Machine) -> Vec<PbKeyValue> {
    let request = PbRangeRequest { key: key.into(), ..PbRangeRequest::default() };
    let present = machine.store.revision();
    range::range(&machine.store, request, present, machine.store.compacted()).expect("it can be read").kvs
}

use etcd_client::proto::PbKeyValue;

#[test]
fn a_nested_transaction_is_decided_before_the_first_operation() {
    let mut machine = Machine::default();
    machine.put(put_of("a", "1")).expect("a put");
    let nested = PbTxnRequest {
        compare: vec![value_is("a", "1")],
        success: vec![op(PbTxnOpRequest::RequestPut(put_of("then", "")))],
        failure: vec![op(PbTxnOpRequest::RequestPut(put_of("else", "")))],
    };
    let success = vec![op(PbTxnOpRequest::RequestPut(put_of("a", "2"))), op(PbTxnOpRequest::RequestTxn(nested))];
    let (answer, effect) = machine.txn(PbTxnRequest { success, ..PbTxnRequest::default() }).expect("a transaction");

    assert_eq!(effect.and_then(|effect| effect.revision()), Some(3));
    let Some(PbTxnOpResponse::ResponseTxn(nested)) = &answer.responses[1].response else { panic!("{answer:?}") };
    assert!(nested.succeeded, "the value was still 1 when it was decided");
    assert_eq!((read_of("then", &machine).len(), read_of("else", &machine).len()), (1, 0));
}

#[test]
fn a_transaction_that_is_refused_has_changed_nothing() {
    let mut machine = Machine::default();
    let success = vec![
        op(PbTxnOpRequest::RequestPut(put_of("a", "1"))),
        op(PbTxnOpRequest::RequestPut(PbPutRequest { lease: 9, ..put_of("b", "1") })),
    ];
    let refused = machine.txn(PbTxnRequest { success, ..PbTxnRequest::default() });
    assert_eq!(refused.err(), Some(Refusal::LeaseNotFound));
    assert_eq!((machine.store.revision(), read_of("a", &machine).len()), (1, 0));
}

#[test]
fn a_revoked_lease_takes_its_keys_with_it_in_one_revision() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    let (id, ttl, _) = machine.grant(0, 5, now).expect("a lease");
    for key in ["b", "a", "c"] {
        machine.put(PbPutRequest { lease: id, ..put_of(key, "") }).expect("the lease is there");
    }
    let effect = machine.revoke(id).expect("the lease is there");
    let Effect::Revoke { entry: Some(entry), .. } = effect else { panic!("{effect:?}") };
    let names: Vec<_> = entry.changes.iter().map(|change| change.kv.key.clone()).collect();
    assert_eq!((ttl, entry.revision, names), (5, 5, vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    assert_eq!(machine.revoke(id).err(), Some(Refusal::LeaseNotFound));
}

#[test]
fn a_compaction_is_accepted_once_and_never_ahead() {
    let mut machine = Machine::default();
    machine.put(put_of("a", "1")).expect("a put");
    let compact = |machine: &mut Machine, revision| {
        machine.compact(&PbCompactionRequest { revision, ..PbCompactionRequest::default() }).err()
    };
    assert_eq!(compact(&mut machine, 3), Some(Refusal::FutureRevision));
    assert_eq!(compact(&mut machine, 2), None);
    assert_eq!(compact(&mut machine, 2), Some(Refusal::Compacted));
}

#[test]
fn what_was_restored_is_what_was_there() {
    let (mut machine, now, mut effects) = (Machine::default(), Instant::now(), Vec::new());
    let (id, _, effect) = machine.grant(0, 5, now).expect("a lease");
    effects.push(effect);
    for request in [put_of("a", "1"), PbPutRequest { lease: id, ..put_of("b", "1") }, put_of("a", "2")] {
        effects.extend(machine.put(request).expect("a put").1);
    }
    effects
        .push(machine.compact(&PbCompactionRequest { revision: 3, ..PbCompactionRequest::default() }).expect("once"));
    machine.compacted(3);

    let mut again = Machine::default();
    effects.into_iter().for_each(|effect| again.restore(effect, now));
    assert_eq!(read_of("a", &again), read_of("a", &machine));
    assert_eq!(again.lessor.get(id).map(|lease| lease.keys.len()), Some(1));
    assert_eq!((again.store.revision(), again.store.compacted()), (4, 3));
    assert_eq!(again.store.entries(0).count(), machine.store.entries(0).count());
}

#[test]
fn what_puts_is_refused_where_there_is_no_space_and_what_deletes_is_not() {
    let mut machine = Machine::default();
    machine.set_quota(1000);
    let put = |machine: &mut Machine, key: &str| machine.put(put_of(key, &"x".repeat(900))).map(|_| ());
    assert_eq!([put(&mut machine, "a"), put(&mut machine, "b")], [Ok(()), Err(Refusal::NoSpace)]);
    let txn = |op| PbTxnRequest { failure: vec![op], ..PbTxnRequest::default() };
    let of_put = txn(op(PbTxnOpRequest::RequestPut(put_of("b", "1"))));
    let of_range =
        txn(op(PbTxnOpRequest::RequestRange(PbRangeRequest { key: b"a".into(), ..PbRangeRequest::default() })));
    let nested = txn(op(PbTxnOpRequest::RequestTxn(of_put.clone())));
    let told = [of_put, nested, of_range].map(|request| machine.txn(request).map(|_| ()));
    assert_eq!(told, [Err(Refusal::NoSpace), Err(Refusal::NoSpace), Ok(())]);
    assert_eq!(machine.grant(1, 5, Instant::now()).map(|_| ()), Err(Refusal::NoSpace));
    assert_eq!(machine.delete(PbDeleteRequest { key: b"a".into(), ..PbDeleteRequest::default() }).0.deleted, 1);
    // Its former value is still there.
    assert_eq!(put(&mut machine, "b"), Err(Refusal::NoSpace));
    let revision = machine.store.revision();
    machine.compact(&PbCompactionRequest { revision, physical: false }).expect("it is not compacted");
    machine.compacted(revision);
    assert_eq!((put(&mut machine, "b"), machine.is_full()), (Ok(()), true));
}

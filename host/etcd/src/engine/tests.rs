use etcd_client::proto::PbPutRequest;
use futures_util::FutureExt as _;

use super::*;

fn grant(id: i64, ttl: i64) -> impl FnOnce(&mut Machine) -> Result<((), Option<Effect>), Refusal> {
    move |machine| machine.grant(id, ttl, Instant::now()).map(|(.., effect)| ((), Some(effect)))
}

async fn put(engine: &Engine, key: &str, lease: i64) {
    let request = PbPutRequest { key: key.into(), lease, ..PbPutRequest::default() };
    engine.write(|machine| machine.put(request)).await.expect("a put");
}

#[tokio::test(start_paused = true)]
async fn old_revisions_are_thrown_away_and_as_many_kept_as_was_said() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    for _ in 0..30 {
        put(&engine, "a", 0).await;
    }
    let compacting = engine.compact_all_but(10);
    assert!(tokio::time::timeout(COMPACT_EVERY * 2, compacting).await.is_err(), "it goes on");
    assert_eq!(engine.visible(), Visible { revision: 31, compacted: 21 });
}

#[tokio::test(start_paused = true)]
async fn leases_end_in_the_order_of_their_ends_each_at_its_time() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    let expiring = Arc::clone(&engine);
    let expiring = tokio::spawn(async move { expiring.expire().await });
    let begin = Instant::now();
    for (id, ttl) in [(1, 60), (2, 10), (3, 30)] {
        engine.write(grant(id, ttl)).await.expect("a new id");
        put(&engine, &format!("of-{id}"), id).await;
    }
    let mut revisions = engine.revisions();
    for (seconds, revision) in [(10, 5), (30, 6), (60, 7)] {
        revisions.wait_for(|now| *now == revision).await.expect("the engine is there");
        assert_eq!(begin.elapsed().as_secs(), seconds);
    }
    expiring.abort();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_revoked_any_more_keeps_nobody_from_going_on() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    engine.write(grant(1, 5)).await.expect("a new id");
    // As after a write that has failed.
    engine.end(Duration::ZERO);
    let expiring = tokio::time::timeout(std::time::Duration::from_secs(60), engine.expire());
    assert!(expiring.await.is_err(), "it waits, and lets others run");
}

#[tokio::test(start_paused = true)]
async fn revisions_that_take_much_are_thrown_away_at_once() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    let large = |engine: Arc<Engine>| async move {
        let request = PbPutRequest { key: b"a".to_vec(), value: vec![7; 1 << 20], ..PbPutRequest::default() };
        engine.write(|machine| machine.put(request)).await.expect("a put");
    };
    let compacting = Arc::clone(&engine);
    let compacting = tokio::spawn(async move { compacting.compact_all_but(10_000).await });
    for _ in 0..200 {
        large(Arc::clone(&engine)).await;
        tokio::task::yield_now().await;
        let (logged, all) = (engine.read().machine.store().logged(), engine.read().machine.store().bytes());
        assert!(logged.max(all) <= HISTORY_BYTES + (2 << 20), "{logged} {all}");
    }
    let Visible { revision, compacted } = engine.visible();
    assert!((31..=64).contains(&(revision - compacted)), "{revision} {compacted}");
    compacting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_though_nobody_waited_for_its_grant() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    let expiring = Arc::clone(&engine);
    let expiring = tokio::spawn(async move { expiring.expire().await });
    tokio::task::yield_now().await;
    // It waits for a grant. What is decided is granted, whoever goes.
    drop(engine.decide(grant(1, 5)));
    let gone = async {
        while engine.read().machine.lessor().get(1).is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("its time is over");
    expiring.abort();
}

#[tokio::test(start_paused = true)]
async fn what_was_renewed_meanwhile_is_not_revoked() {
    let engine = Engine::in_memory(Identity::new(None), Machine::default());
    engine.write(grant(1, 5)).await.expect("a new id");
    tokio::time::advance(Duration::from_secs(5)).await;
    let seen = Instant::now();
    // Between the look and the decision a renewal, which had come in time, had its turn.
    engine.lock().machine.renew(1, seen - Duration::from_secs(1)).expect("it was there");
    engine.revoke(&[1], seen).await.expect("nothing is wrong");
    assert!(engine.read().machine.lessor().get(1).is_some());
}

/// As the thread leaves it that ends in a panic.
#[tokio::test]
async fn whoever_waits_is_answered_when_the_thread_that_writes_is_gone() {
    let engine = Engine::new(Identity::new(None), Machine::default(), Pending::new(0));
    let (_, durable) = engine.decide(grant(1, 5)).expect("it is decided");
    drop(keeper::Answers(&engine));
    let told = durable.expect("it is not durable").await;
    assert_eq!(told, Ok(Err(Refusal::Broken)));
    assert_eq!(engine.write(grant(2, 5)).await, Err(Refusal::Broken), "and later ones are refused");
    assert_eq!(engine.visible().revision, 1);
}

/// With a disk that never answers: who waited for one after the other would not come to the second.
#[tokio::test]
async fn leases_that_end_together_are_decided_before_the_first_is_durable() {
    let engine = Engine::new(Identity::new(None), Machine::default(), Pending::new(0));
    for id in 1..=500 {
        engine.decide(grant(id, 2)).expect("a new id").0.expect("a new id");
    }
    let many: Vec<i64> = (1..=500).collect();
    let revoked = engine.revoke(&many, Instant::now() + Duration::from_secs(3)).now_or_never();
    assert_eq!(revoked, None, "nothing is durable");
    assert_eq!(engine.read().machine.lessor().ids().count(), 0);
}

/// With a disk that never answers.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_disk_that_hangs_is_told_so_and_others_are_not_let_in() {
    let engine = Engine::new(Identity::new(None), Machine::default(), Pending::new(0));
    assert_eq!(engine.write(grant(1, 5)).await, Err(Refusal::TimedOut));
    let large = PbPutRequest { key: b"a".to_vec(), value: vec![7; 1 << 20], ..PbPutRequest::default() };
    let mut waiting = 0;
    let refused = loop {
        assert!(waiting < 100, "nobody is kept out");
        match engine.decide(|machine| machine.put(large.clone())) {
            Ok(_) => waiting += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, waiting), (Refusal::TooManyRequests, 64));
}

/// A lease is told to be gone when a crash cannot bring it back.
#[tokio::test(start_paused = true)]
async fn a_renewal_of_what_has_ended_waits_until_that_is_durable() {
    let engine = Engine::new(Identity::new(None), Machine::default(), Pending::new(0));
    engine.decide(grant(1, 5)).expect("it is decided").0.expect("a new id");
    assert_eq!(engine.renew(1).await, Ok(Some(5)), "nothing has to be kept of that");
    engine.decide(|machine| machine.revoke(1).map(|effect| ((), Some(effect)))).expect("it is decided").0.expect("it");
    assert_eq!(engine.renew(1).now_or_never(), None);
}

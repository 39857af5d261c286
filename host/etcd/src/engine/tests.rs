use etcd_client::proto::PbPutRequest;

use super::*;

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
        let grant =
            engine.write(|machine| machine.grant(id, ttl, Instant::now()).map(|(.., effect)| ((), Some(effect))));
        grant.await.expect("a new id");
        engine.granted();
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
    let grant = engine.write(|machine| machine.grant(1, 5, Instant::now()).map(|(.., effect)| ((), Some(effect))));
    grant.await.expect("a new id");
    // As after a write that has failed.
    engine.end();
    let expiring = tokio::time::timeout(std::time::Duration::from_secs(60), engine.expire());
    assert!(expiring.await.is_err(), "it waits, and lets others run");
}

//! Leases of a host: renewed over one stream, and past members that do not answer.

use std::time::{Duration, Instant};

use componenthost::etcd::lease::KeepAlive;
use componenthost::etcd::{Etcd as Registry, EtcdConfig, Fault};
use futures_util::future::join_all;
use tests::etcd::{Etcd, Settings};
use tests::{LIMIT, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(20);

/// How many streams of renewals etcd has seen.
async fn streams(etcd: &Etcd) -> f64 {
    let mut connection = TcpStream::connect(etcd.endpoint()).await.expect("etcd listens");
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it is sent");
    let mut text = String::new();
    connection.read_to_string(&mut text).await.expect("etcd answers");
    let started = |line: &&str| line.starts_with("grpc_server_started_total") && line.contains("LeaseKeepAlive");
    let line = text.lines().find(started).expect("etcd counts its calls");
    line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_silent_member_costs_no_lease_and_is_left() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    let host = etcd.registry().await;
    let first = host.endpoint();
    let keep_alive = KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    keep_alive.renew(LONG, LONG).await.expect("an answer").expect("the lease");

    etcd.member(0).proxy().black_hole();
    let (since, hedge_after) = (Instant::now(), Duration::from_millis(300));
    keep_alive.renew(hedge_after, LONG).await.expect("an answer").expect("the lease");
    assert!(since.elapsed() >= hedge_after && since.elapsed() < LONG / 4, "{:?}", since.elapsed());
    assert_ne!(host.endpoint(), first);
    // Nobody waits for the silent one any more.
    within(LONG / 4, keep_alive.renew(LONG, LONG)).await.expect("an answer").expect("the lease");
}

#[tokio::test]
async fn two_silent_members_of_three_cost_no_lease_as_long_as_the_third_has_a_leader() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    let host = etcd.registry().await;
    let keep_alive = KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    for silent in [0, 1] {
        etcd.member(silent).proxy().black_hole();
    }
    let since = Instant::now();
    keep_alive.renew(Duration::from_millis(200), LONG).await.expect("an answer").expect("the lease");
    assert!(since.elapsed() < LONG / 4, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_broken_connection_is_made_again_within_one_renewal() {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let host = etcd.registry().await;
    let keep_alive = KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    keep_alive.renew(LONG, LONG).await.expect("an answer").expect("the lease");
    etcd.member(0).proxy().cut();
    etcd.member(0).proxy().heal();
    keep_alive.renew(LONG, LONG).await.expect("an answer").expect("the lease");
}

#[tokio::test]
async fn all_leases_of_a_host_are_renewed_over_one_stream() {
    let etcd = Etcd::start().await;
    let host = etcd.registry().await;
    let leases = join_all((0..20).map(|_| host.grant_lease(LONG))).await;
    let leases: Vec<_> = leases.into_iter().map(|lease| lease.expect("a lease").lease_id).collect();
    etcd.revoke(leases[0]).await;
    for _ in 0..3 {
        let renewed = join_all(leases.iter().map(|lease| {
            let keep_alive = KeepAlive::new(host.clone(), *lease);
            async move { keep_alive.renew(LONG, LONG).await.expect("an answer") }
        }));
        let renewed = renewed.await;
        assert_eq!(renewed[0], None, "it was revoked");
        assert!(renewed[1..].iter().all(|ttl| *ttl == Some(LONG)), "{renewed:?}");
    }
    assert_eq!(streams(&etcd).await, 1.0);
}

#[tokio::test]
async fn a_renewal_that_nobody_answers_ends_at_its_limit() {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let host = etcd.registry().await;
    let keep_alive = KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    etcd.member(0).proxy().black_hole();
    let (since, limit) = (Instant::now(), Duration::from_millis(500));
    keep_alive.renew(Duration::from_millis(100), limit).await.expect_err("silence");
    assert!(since.elapsed() >= limit && since.elapsed() < LONG / 4, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_member_without_a_leader_takes_no_renewal() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    let config = EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() };
    let host = Registry::connect(&config).await.expect("etcd answers");
    let keep_alive = KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    etcd.member(1).kill();
    etcd.member(2).kill();
    eventually(LIMIT, async || match host.get("ask", "key", None).await {
        Err(error) if matches!(error.fault(), Fault::NoLeader) => Ok(()),
        other => Err(other.map(drop)),
    })
    .await;
    // It would wait for a leader as long as for any request.
    let since = Instant::now();
    let error = keep_alive.renew(LONG, LONG).await.expect_err("there is no leader");
    assert!(matches!(error.fault(), Fault::NoLeader) && since.elapsed() < LONG / 8, "{error:?}, {:?}", since.elapsed());
}

#[tokio::test]
async fn a_stream_on_which_everything_waits_for_a_dead_leader_is_left_for_a_new_one() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    if etcd.leader().await == 0 {
        etcd.move_leader().await;
    }
    let config = EtcdConfig { endpoints: vec![etcd.endpoint()], root_path: etcd.prefix(), ..EtcdConfig::default() };
    let host = componenthost::etcd::Etcd::connect(&config).await.expect("etcd answers");
    let lease = async || KeepAlive::new(host.clone(), host.grant_lease(LONG).await.expect("a lease").lease_id);
    let (first, second) = (lease().await, lease().await);
    first.renew(LONG, LONG).await.expect("an answer").expect("the lease");

    // The follower passes this on to the leader, and does not stop waiting for it when another leads.
    etcd.member(etcd.leader().await).stop().await;
    let first = tokio::spawn(async move { first.renew(LONG, LONG).await });
    let hedge_after = Duration::from_millis(1500);
    // The first one's request is to be as old as that: time itself is the condition.
    tokio::time::sleep(hedge_after).await;
    etcd.leader().await;
    let since = Instant::now();
    second.renew(hedge_after, LONG).await.expect("an answer").expect("the lease");
    assert!(since.elapsed() < hedge_after, "asked only once: {:?}", since.elapsed());
    // Who waited on the old stream is told, and asks again.
    within(LONG / 4, first).await.expect("no panic").expect("an answer").expect("the lease");
}

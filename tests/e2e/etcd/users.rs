//! etcd with users: tokens that run out, rights that change, passwords that are wrong.

use std::time::{Duration, Instant};

use componenthost::etcd::lease::KeepAlive;
use componenthost::etcd::password::Password;
use componenthost::etcd::{Authentication, Etcd as Registry, EtcdConfig, Fault};
use etcd_client::{Txn, TxnOp};
use tests::etcd::{Etcd, Settings, Token};
use tests::probe::{calling, coordinator};
use tests::{Cluster, LIMIT, eventually};

const LONG: Duration = Duration::from_secs(60);

/// An etcd where the user `host` may do everything below `ours/`.
async fn guarded(token: Token) -> Etcd {
    let etcd = Etcd::start_with(Settings::default().users("open sesame").token(token)).await;
    etcd.add_user("host", "word", "ours/").await;
    etcd
}

fn as_host(etcd: &Etcd, password: &str) -> EtcdConfig {
    EtcdConfig {
        endpoints: etcd.endpoints(),
        root_path: "ours".to_owned(),
        user: "host".to_owned(),
        password: Password::from(password),
        ..EtcdConfig::default()
    }
}

async fn fault_of(config: &EtcdConfig) -> Fault {
    Registry::connect(config).await.err().expect("there is no way in").fault().clone()
}

async fn put(etcd: &Registry) -> Result<(), Fault> {
    let txn = Txn::new().and_then([TxnOp::put("ours/key", "value", None)]);
    etcd.txn("put", txn).await.map(drop).map_err(|error| error.fault().clone())
}

#[tokio::test]
async fn who_is_not_known_is_told_so() {
    let etcd = guarded(Token::Simple(300)).await;
    let refused = Fault::Authentication(Authentication::Refused);
    assert_eq!(fault_of(&as_host(&etcd, "wrong")).await, refused);
    let stranger = EtcdConfig { user: "stranger".to_owned(), ..as_host(&etcd, "word") };
    assert_eq!(fault_of(&stranger).await, refused);
    let nobody = EtcdConfig { user: String::new(), password: Password::default(), ..as_host(&etcd, "") };
    assert_eq!(fault_of(&nobody).await, Fault::Authentication(Authentication::NoUser));
    let error = Registry::connect(&as_host(&etcd, "swordfish")).await.err().expect("refused");
    assert!(!format!("{error:?} {error}").contains("swordfish"), "{error:?}");
}

#[tokio::test]
async fn rights_that_change_make_a_token_old_and_cost_nothing() {
    let etcd = guarded(Token::Signed(300)).await;
    let host = Registry::connect(&as_host(&etcd, "word")).await.expect("it is let in");
    let lease = host.grant_lease(LONG).await.expect("a lease").lease_id;
    let keep_alive = KeepAlive::new(host.clone(), lease);
    for n in 0..3 {
        etcd.add_user(&format!("another-{n}"), "word", "theirs/").await;
        put(&host).await.expect("it may");
        keep_alive.renew(LONG, LONG).await.expect("it is renewed").expect("it is there");
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_taken_anew() {
    let etcd = guarded(Token::Simple(1)).await;
    let host = Registry::connect(&as_host(&etcd, "word")).await.expect("it is let in");
    put(&host).await.expect("it may");
    // A member that is started again has forgotten the tokens that it gave.
    etcd.restart().await;
    eventually(LIMIT, async || put(&host).await).await;
    // Longer than a token lives: etcd says of none when it has run out, and a request would make it live on.
    tokio::time::sleep(Duration::from_secs(3)).await;
    put(&host).await.expect("it may");
}

#[tokio::test]
async fn a_password_that_was_changed_does_not_loop_and_is_found_in_its_file() {
    let etcd = guarded(Token::Signed(300)).await;
    let directory = tempfile::tempdir().expect("a directory");
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "word\n").expect("it is writable");
    let host = EtcdConfig { password_file: password_file.clone(), password: Password::default(), ..as_host(&etcd, "") };
    let host = Registry::connect(&host).await.expect("it is let in");
    etcd.client().await.user_change_password("host", "another").await.expect("changed");
    let refused = Err(Fault::Authentication(Authentication::Refused));
    assert_eq!(put(&host).await, refused);
    // Nobody is asked now: each answer to a wrong password takes etcd a tenth of a second or so.
    let since = Instant::now();
    for _ in 0..1000 {
        assert_eq!(put(&host).await, refused);
    }
    assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
    std::fs::write(&password_file, "another").expect("it is writable");
    eventually(LIMIT, async || put(&host).await).await;
}

#[tokio::test]
async fn a_host_goes_on_after_etcd_has_forgotten_its_token() {
    let cluster = Cluster::with_etcd(Etcd::start_with(Settings::default().users("open sesame")).await);
    // Long enough that a login on a busy machine cannot cost the lease.
    let ttl = || cluster.config().set("session.ttl", "6s");
    let as_root = || ttl().set("etcd.user", "root").set("etcd.password", "open sesame");
    let alpha = cluster.host(as_root().probe("alpha", calling(&["beta"]))).await;
    alpha.healthy().await;
    let registration = async || cluster.sessions("alpha").await.into_values().next().map(|record| record.lease_id);
    let before = registration().await;
    cluster.etcd().restart().await;
    // It follows beta, which comes after the restart, and has kept its own lease.
    let beta = cluster.host(as_root().probe("beta", coordinator())).await;
    beta.healthy().await;
    alpha.ready().await;
    assert_eq!(registration().await, before);
    assert!(!format!("{:?} {:?}", alpha.log(), beta.log()).contains("open sesame"));
}

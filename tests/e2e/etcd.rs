//! The harness' own etcd, and the proxy before it, do what the tests rely on.

mod history;
mod join;
mod renewals;
mod tls;
mod users;

use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, Error, KeyValue};
use tests::etcd::{Etcd, Settings, Token, shared};
use tests::{LIMIT, eventually, within};
use tonic::Code;

/// A client that finds the first member as hosts do.
async fn as_hosts_do(etcd: &Etcd) -> Client {
    let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
    Client::connect([etcd.endpoint()], Some(options)).await.expect("an endpoint without credentials is not dialled")
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> Code {
    match answer.expect_err("refused") {
        Error::GRpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_restarted_etcd_keeps_its_data() {
    let etcd = Etcd::start().await;
    etcd.client().await.put("key", "value", None).await.expect("a put");
    etcd.kill();
    etcd.restart().await;
    let answer = etcd.client().await.get("key", None).await.expect("a get");
    assert_eq!(answer.kvs().first().map(KeyValue::value), Some(b"value".as_slice()));
}

#[tokio::test]
async fn prefixes_are_unique() {
    assert_ne!(shared().await.prefix(), shared().await.prefix());
}

#[tokio::test]
async fn a_lost_etcd_begins_anew_and_a_replaced_one_has_another_id() {
    let etcd = Etcd::start().await;
    let header = async || {
        let put = etcd.client().await.put("key", "value", None).await.expect("a put");
        let header = put.header().expect("each answer has a header");
        (header.cluster_id(), header.revision())
    };
    let (first, _) = (header().await, header().await);
    etcd.lose_all().await;
    assert_eq!(header().await, first);
    etcd.replace().await;
    assert_ne!(header().await.0, first.0);
}

#[tokio::test]
async fn a_cut_proxy_refuses_and_a_healed_one_leads_on() {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let proxy = etcd.member(0).proxy();
    let mut client = as_hosts_do(&etcd).await;
    client.get("key", None).await.expect("a get");
    assert_eq!(proxy.counters().open, 1, "{:?}", proxy.counters());
    proxy.cut();
    assert_eq!(proxy.counters().open, 0);
    client.get("key", None).await.expect_err("cut");
    client.get("key", None).await.expect_err("refused");
    proxy.heal();
    eventually(LIMIT, async || client.get("key", None).await).await;
    assert_eq!(proxy.counters().accepted, 2);
}

#[tokio::test]
async fn a_black_hole_is_silent_and_what_was_sent_arrives_after_it() {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let proxy = etcd.member(0).proxy();
    let mut client = as_hosts_do(&etcd).await;
    client.get("key", None).await.expect("a get");
    proxy.black_hole();
    let before = proxy.counters();
    let mut put = Box::pin(client.put("key", "value", None));
    tokio::time::timeout(Duration::from_millis(300), &mut put).await.expect_err("silence");
    let mut another = as_hosts_do(&etcd).await;
    tokio::time::timeout(Duration::from_millis(300), another.get("key", None)).await.expect_err("silence");
    let during = proxy.counters();
    assert_eq!((during.up, during.down, during.accepted), (before.up, before.down, before.accepted + 1));
    proxy.heal();
    within(LIMIT, put).await.expect("a put");
}

#[tokio::test]
async fn a_delay_holds_up_each_way() {
    let etcd = Etcd::start_with(Settings::default().proxied()).await;
    let mut client = as_hosts_do(&etcd).await;
    client.get("key", None).await.expect("a get");
    etcd.member(0).proxy().delay(Duration::from_millis(100));
    let begin = Instant::now();
    client.get("key", None).await.expect("a get");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn three_members_go_on_without_any_one_of_them() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    etcd.client().await.put("key", "value", None).await.expect("a put");
    let first = etcd.leader().await;
    assert_ne!(etcd.move_leader().await, first);
    etcd.member(etcd.leader().await).kill();
    etcd.leader().await;
    etcd.client().await.put("key", "another", None).await.expect("a put");
    let gone = (0..3).find(|index| !etcd.member(*index).runs()).expect("one was killed");
    etcd.restart_member(gone).await;
    let answer = etcd.client_of(etcd.member(gone)).await.get("key", None).await.expect("a get");
    assert_eq!(answer.kvs().first().map(KeyValue::value), Some(b"another".as_slice()));
}

#[tokio::test]
async fn with_users_nothing_is_allowed_without_a_login() {
    let etcd = Etcd::start_with(Settings::default().users("open sesame").token(Token::Signed(60))).await;
    etcd.client().await.put("key", "value", None).await.expect("root may put");
    assert_eq!(code(as_hosts_do(&etcd).await.get("key", None).await), Code::InvalidArgument);
    etcd.add_user("host", "word", "ours/").await;
    let options = ConnectOptions::new().with_user("host", "word");
    let mut host = Client::connect([etcd.endpoint()], Some(options)).await.expect("logged in");
    host.put("ours/key", "value", None).await.expect("it may");
    assert_eq!(code(host.put("key", "value", None).await), Code::PermissionDenied);
    // A change of permissions makes a signed token old.
    etcd.add_user("another", "word", "theirs/").await;
    assert_eq!(code(host.put("ours/key", "value", None).await), Code::InvalidArgument);
}

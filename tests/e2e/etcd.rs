//! The harness' own etcd does what the tests rely on.

use tests::etcd::{Etcd, shared};

#[tokio::test]
async fn a_restarted_etcd_keeps_its_data() {
    let etcd = Etcd::start().await;
    etcd.client().await.put("key", "value", None).await.expect("a put");
    etcd.kill();
    etcd.restart().await;
    let answer = etcd.client().await.get("key", None).await.expect("a get");
    assert_eq!(answer.kvs().first().map(etcd_client::KeyValue::value), Some(b"value".as_slice()));
}

#[tokio::test]
async fn prefixes_are_unique() {
    assert_ne!(shared().await.prefix(), shared().await.prefix());
}

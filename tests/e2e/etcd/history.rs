//! An etcd that comes back without its data is found.

use tests::etcd::Etcd;
use tests::{LIMIT, eventually};

#[tokio::test]
async fn an_etcd_that_lost_its_data_or_was_replaced_is_found() {
    let etcd = Etcd::start().await;
    let host = etcd.registry().await;
    etcd.client().await.put("key", "value", None).await.expect("a put");
    let read = async || host.get("read", "key", None).await;
    read().await.expect("an answer");
    let known = host.history().borrow().clone();
    assert!(known.cluster_id != 0 && known.losses == 0, "{known:?}");

    etcd.kill();
    etcd.restart().await;
    eventually(LIMIT, read).await;
    assert_eq!(*host.history().borrow(), known, "a restart loses nothing");

    etcd.lose_all().await;
    eventually(LIMIT, read).await;
    let lost = host.history().borrow().clone();
    assert_eq!((lost.cluster_id, lost.losses), (known.cluster_id, 1), "{lost:?}");
    assert!(lost.last_loss.as_ref().is_some_and(|loss| loss.contains("went backwards")), "{lost:?}");

    etcd.replace().await;
    eventually(LIMIT, read).await;
    let replaced = host.history().borrow().clone();
    assert!(replaced.losses == 2 && replaced.cluster_id != known.cluster_id, "{replaced:?}");
}

//! Server ids, against a real etcd.

use std::collections::BTreeSet;

use componenthost::session::{SessionError, take_server_id};
use tests::etcd::shared;

#[tokio::test]
async fn server_ids_are_never_given_twice() {
    let root_path = shared().await.prefix();
    let takers: Vec<_> = (0..50)
        .map(|_| {
            let root_path = root_path.clone();
            tokio::spawn(async move {
                let registry = shared().await.registry_at(&root_path).await;
                let mut taken = Vec::new();
                for _ in 0..2 {
                    taken.push(take_server_id(&registry).await.expect("an id").0);
                }
                taken
            })
        })
        .collect();
    let mut ids = Vec::new();
    for taker in takers {
        ids.extend(taker.await.expect("no taker panics"));
    }
    assert_eq!(BTreeSet::from_iter(ids.clone()), BTreeSet::from_iter(1..=100), "{ids:?}");
}

#[tokio::test]
async fn a_counter_that_is_no_number_is_an_error() {
    let registry = shared().await.registry().await;
    shared().await.client().await.put(registry.keys().next_server_id(), "many", None).await.expect("a put");
    let error = take_server_id(&registry).await.expect_err("no number");
    assert!(matches!(&error, SessionError::Counter { value, .. } if value == "many"), "{error}");
}

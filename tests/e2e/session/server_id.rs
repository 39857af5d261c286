//! Server ids, against a real etcd.

use std::collections::BTreeSet;

use componenthost::session::{SessionError, raise_server_ids, take_server_id};
use plugin_api::identity::ServerId;
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

#[tokio::test]
async fn raised_ids_begin_above_all_that_were_known() {
    let registry = shared().await.registry().await;
    // No counter at all, as after the loss of etcd's data.
    assert_eq!(raise_server_ids(&registry, ServerId(41)).await.expect("raised"), ServerId(42));
    assert_eq!(take_server_id(&registry).await.expect("an id"), ServerId(42));
    // Another host knew less: nothing goes back.
    assert_eq!(raise_server_ids(&registry, ServerId(7)).await.expect("raised"), ServerId(43));
    assert_eq!(take_server_id(&registry).await.expect("an id"), ServerId(43));
}

#[tokio::test]
async fn ids_are_never_raised_to_where_none_is_left() {
    let registry = shared().await.registry().await;
    raise_server_ids(&registry, ServerId(i64::MAX)).await.expect("raised");
    take_server_id(&registry).await.expect("an id is left");
}

#[tokio::test]
async fn ids_that_many_raise_and_take_at_once_are_above_and_never_given_twice() {
    let root_path = shared().await.prefix();
    let hosts: Vec<_> = (0..10)
        .map(|host| {
            let root_path = root_path.clone();
            tokio::spawn(async move {
                let registry = shared().await.registry_at(&root_path).await;
                raise_server_ids(&registry, ServerId(100 + host)).await.expect("raised");
                take_server_id(&registry).await.expect("an id").0
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for (least, host) in (101..).zip(hosts) {
        let id = host.await.expect("no host panics");
        assert!(id >= least && ids.insert(id), "{id} of {ids:?}, at least {least}");
    }
}

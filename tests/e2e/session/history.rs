//! etcd that comes back without its data.

use tests::cluster::Cluster;
use tests::probe::calling;

use super::*;

#[tokio::test]
async fn a_session_is_registered_again_with_an_etcd_that_lost_its_data() {
    let etcd = Etcd::start().await;
    let host = HostSide::in_etcd(&etcd).await;
    let mut client = etcd.client().await;
    for _ in 0..50 {
        client.put(host.registry.keys().next_server_id(), "1", None).await.expect("a put");
    }
    // A key that is deleted would be a sign to stop: this one is forgotten. No renewal is due that could tell of it.
    let session = host.open(SessionSettings { on_deleted: OnDeleted::Stop, ..coordinator(5, LONG) });
    let before = held(&session).await;
    etcd.lose_all().await;
    let lower = |status: &SessionStatus| {
        as_held(status).filter(|held| held.registration.create_revision < before.registration.create_revision)
    };
    let after = status(&session, lower).await;
    assert_ne!(after.registration.lease_id, before.registration.lease_id);
    // What is seen of it at lower revisions than before is believed.
    let _ = etcd.client().await.delete(after.key.as_str(), None).await.expect("a delete");
    status(&session, |status| matches!(status, SessionStatus::Deleted { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_host_raises_the_server_ids_when_etcd_has_lost_its_data() {
    let cluster = Cluster::with_own_etcd().await;
    let counter = cluster.keys().next_server_id();
    cluster.etcd().client().await.put(counter.as_str(), "41", None).await.expect("a put");
    let host = cluster.probe("alpha", tests::probe::coordinator()).await;
    host.healthy().await;
    cluster.etcd().replace().await;
    let mut client = cluster.etcd().client().await;
    eventually(LIMIT, async || {
        let answer = client.get(counter.as_str(), None).await.map_err(|error| error.to_string())?;
        let next = answer.kvs().first().map(|stored| stored.value().to_vec());
        holds(next.as_deref() == Some(b"42"), format!("{next:?}"))
    })
    .await;
}

#[tokio::test]
async fn ids_are_raised_above_a_peer_that_has_gone_with_etcds_data() {
    let cluster = Cluster::with_own_etcd().await;
    let alpha = cluster.probe("alpha", calling(&["beta"])).await;
    let record = Record { server_id: 500, address: "127.0.0.1:1".to_owned(), exclusive: true, ..Record::default() };
    let beta = Role::new("beta").expect("a role");
    cluster.etcd().put_session(&cluster.keys(), &beta, &record, LONG).await;
    eventually(LIMIT, async || {
        let view = alpha.connections().await;
        let tables = view["discovery"].as_array().cloned().unwrap_or_default();
        holds(tables.iter().any(|table| table["role"] == "beta" && table["sessions"] == 1), view.to_string())
    })
    .await;
    cluster.etcd().replace().await;
    let mut client = cluster.etcd().client().await;
    eventually(LIMIT, async || {
        let answer = client.get(cluster.keys().next_server_id(), None).await.map_err(|error| error.to_string())?;
        holds(!answer.kvs().is_empty(), "nobody has raised them".to_owned())
    })
    .await;
    let taken = cluster.probe("beta", tests::probe::coordinator()).await.healthy().await.component("beta").await;
    assert!(taken["server_id"].as_i64() > Some(500), "{taken}");
}

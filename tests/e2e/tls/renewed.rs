//! Certificates are renewed while hosts run.

use std::time::Duration;

use componenthost::connections::ConnectionsConfig;
use plugin_api::peers::PeerLink;
use tests::authority::Authority;
use tests::etcd::Signed;
use tests::probe::node;
use tests::{Cluster, Host, LIMIT, eventually, holds};

use super::hosts::over_tls;
use super::rig::{CALLED, Called, Caller, quick, tls};

const NAME: &[&str] = &["worker.blue.example"];

#[tokio::test]
async fn a_link_comes_back_at_once_when_our_own_certificate_is_renewed() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.host(&[CALLED])));
    let stale = ours.sign_expired("own", &["caller.blue.example"]);
    // Nothing but the renewal brings it back: there is no probe.
    let caller = Caller::of(&tls(&ours, &stale)).sees(called.address);
    caller.given_up().await;
    ours.sign("own", &["caller.blue.example"]);
    caller.link(PeerLink::Ready).await;
}

#[tokio::test]
async fn a_link_comes_back_by_itself_when_the_peers_certificate_is_renewed() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.sign_expired("peer", NAME)));
    let config = ConnectionsConfig { probe_interval: Duration::from_millis(100), ..quick() };
    let caller = Caller::with(&tls(&ours, &ours.host(&["caller"])), config).sees(called.address);
    caller.given_up().await;
    ours.sign("peer", NAME);
    caller.link(PeerLink::Ready).await;
}

#[tokio::test]
async fn new_connections_use_the_new_certificate_and_links_stay() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.sign("peer", NAME)));
    let own = tls(&ours, &ours.host(&["caller"]));
    let before = Caller::of(&own).sees(called.address);
    before.link(PeerLink::Ready).await;
    ours.sign_expired("peer", NAME);
    eventually(LIMIT, async || {
        let after = Caller::of(&own).sees(called.address);
        eventually(LIMIT, async || {
            let link = after.view().peers.first().map(|peer| peer.link);
            holds(link.is_some_and(|link| link != PeerLink::Connecting), link)
        })
        .await;
        let error = after.view().peers[0].last_error.clone();
        holds(error.as_ref().is_some_and(|error| error.contains("expired")), error)
    })
    .await;
    let view = before.view();
    assert_eq!((view.peers[0].link, view.peers[0].attempts), (PeerLink::Ready, 1));
}

fn warnings(host: &Host) -> usize {
    host.log().iter().filter(|line| line.message().starts_with("the new files of [tls] cannot be used")).count()
}

#[tokio::test]
async fn a_broken_file_is_told_once_and_the_one_before_it_stays_in_use() {
    let (cluster, ours) = (Cluster::start().await, Authority::new("ours"));
    let own: Signed = ours.host(&["alpha"]);
    let host = cluster.host(cluster.config().probe("alpha", node()).tls(&ours, &own)).await;
    let good = std::fs::read(&own.certificate).expect("it is there");
    std::fs::write(&own.certificate, "no certificate").expect("it can be written");
    host.logged(|line| line.text("error").is_some_and(|error| error.contains("alpha.pem\" holds no certificate")))
        .await;
    let mut probe = over_tls(&host, "alpha", &ours).await;
    probe.held(probe_plugin::v1::Empty {}).await.expect("a new connection by the old certificate");
    // The same text again is no change; a new certificate is one.
    std::fs::write(&own.certificate, good).expect("it can be written");
    ours.host(&["alpha"]);
    host.logged(|line| line.message().starts_with("certificates were renewed")).await;
    assert_eq!(warnings(&host), 1);
}

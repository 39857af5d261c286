//! etcd over TLS, and what is said where it cannot be had.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use componenthost::etcd::{Etcd as Registry, EtcdConfig, Fault, TlsConfig};
use componenthost::tls::fault::TlsFault;
use serde_json::json;
use tests::cluster::Cluster;
use tests::etcd::{Etcd, Settings, shared};
use tests::eventually::holds;
use tests::{LIMIT, eventually};

/// All that an etcd that wants certificates from its clients asks for.
fn trusted(etcd: &Etcd) -> EtcdConfig {
    let files = etcd.certificates();
    let (ca, client) = (files.authority.clone(), files.client.clone());
    let tls = TlsConfig { ca, cert: client.certificate, key: client.key, server_name: String::new() };
    EtcdConfig { endpoints: etcd.endpoints(), tls, ..EtcdConfig::default() }
}

async fn fault_of(config: &EtcdConfig) -> Fault {
    Registry::connect(config).await.err().expect("there is no way in").fault().clone()
}

fn change(config: &EtcdConfig, change: impl FnOnce(&mut EtcdConfig)) -> EtcdConfig {
    let mut config = config.clone();
    change(&mut config);
    config
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_apart() {
    let etcd = Etcd::start_with(Settings::default().tls(true)).await;
    let (good, files) = (trusted(&etcd), etcd.certificates());
    assert_eq!(good.mistakes(), []);
    Registry::connect(&good).await.expect("it is let in");

    let unnamed = change(&good, |config| config.tls.ca = PathBuf::new());
    assert_eq!(fault_of(&unnamed).await, Fault::Tls(TlsFault::UnknownAuthority));
    let other = change(&good, |config| config.tls.ca = files.other_authority.clone());
    assert_eq!(fault_of(&other).await, Fault::Tls(TlsFault::UnknownAuthority));
    let renamed = change(&good, |config| config.tls.server_name = "elsewhere".to_owned());
    assert!(matches!(fault_of(&renamed).await, Fault::Tls(TlsFault::WrongName(name)) if name.contains("elsewhere")));
    let anonymous = change(&good, |config| (config.tls.cert, config.tls.key) = Default::default());
    assert_eq!(fault_of(&anonymous).await, Fault::Tls(TlsFault::CertificateWanted));
    let stranger = files.stranger.clone();
    let strange = change(&good, |config| (config.tls.cert, config.tls.key) = (stranger.certificate, stranger.key));
    assert!(matches!(fault_of(&strange).await, Fault::Tls(TlsFault::CertificateRefused(_))));
    let plain = EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() };
    assert_eq!(fault_of(&plain).await, Fault::Tls(TlsFault::PlainClient));
    // A file that went away after the configuration was read.
    let lost = change(&good, |config| config.tls.ca = PathBuf::from("/none/ca.pem"));
    assert!(matches!(fault_of(&lost).await, Fault::Tls(TlsFault::File(text)) if text.contains("/none/ca.pem")));
}

#[tokio::test]
async fn other_ways_in_which_a_member_cannot_be_had_are_told_apart() {
    let at = |endpoint: String| EtcdConfig { endpoints: vec![endpoint], ..EtcdConfig::default() };
    // Only where silence is meant: a busy machine may need longer for an answer.
    let soon = Duration::from_millis(300);
    let plain = shared().await.endpoint();
    assert_eq!(fault_of(&at(format!("https://{plain}"))).await, Fault::Tls(TlsFault::PlainServer));
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    for scheme in ["http", "https"] {
        let config = EtcdConfig { request_timeout: soon, ..at(format!("{scheme}://{address}")) };
        assert_eq!(fault_of(&config).await, Fault::NoAnswer(soon), "{scheme}");
    }
    drop(silent);
    assert_eq!(fault_of(&at(format!("https://{address}"))).await, Fault::Refused);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_a_mistake_in_the_configuration() {
    let etcd = Etcd::start_with(Settings::default().tls(true)).await;
    let mixed = change(&trusted(&etcd), |config| config.tls.key = etcd.certificates().stranger.key.clone());
    let mistakes = mixed.mistakes();
    assert!(matches!(&mistakes[..], [("tls.key", text)] if text.contains("is not the key of")), "{mistakes:?}");
}

#[tokio::test]
async fn a_host_joins_over_tls_and_keeps_its_session() {
    let cluster = Cluster::with_etcd(Etcd::start_with(Settings::default().tls(true)).await);
    let files = cluster.etcd().certificates();
    let path = |path: &Path| path.display().to_string();
    let config = cluster.config().probe("alpha", json!({}));
    let config = config.set("etcd.tls.ca", path(&files.authority));
    let config = config.set("etcd.tls.cert", path(&files.client.certificate));
    let host = cluster.host(config.set("etcd.tls.key", path(&files.client.key))).await;
    host.healthy().await;
    let lease = cluster.sessions("alpha").await.into_values().next().expect("it is registered").lease_id;
    // More renewals than one lease outlives.
    eventually(LIMIT, async || {
        let renewals = host.component("alpha").await["session"]["renewals"].clone();
        holds(renewals.as_u64() >= Some(6), renewals)
    })
    .await;
    assert_eq!(cluster.sessions("alpha").await.into_values().next().map(|record| record.lease_id), Some(lease));
}

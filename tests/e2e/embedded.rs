//! Hosts with an etcd within them: nothing else has to run, and nothing that was acknowledged is lost.

use std::path::Path;

use componenthost_etcd::{EmbeddedEtcd, Settings};
use etcd_client::{Client, GetOptions};
use serde_json::json;
use tests::binary::{binary, plugin_dir};
use tests::cluster::{TTL_SECONDS, free_address};
use tests::config::HostConfig;
use tests::host::{Host, Start};
use tests::probe::{calling, coordinator};

/// A host with a probe, and an etcd within it at this port.
fn config(port: u16, data_dir: &str) -> HostConfig {
    let embedded = short().set("etcd.embedded", true).set("etcd.embedded_port", port).set("etcd.data_dir", data_dir);
    embedded.probe("alpha", coordinator())
}

/// A host that uses the etcd of another.
fn outside(port: u16) -> HostConfig {
    short().set("etcd.endpoints", json!([format!("127.0.0.1:{port}")]))
}

/// Ports that are free, short times.
fn short() -> HostConfig {
    HostConfig::new()
        .set("session.ttl", format!("{TTL_SECONDS}s"))
        .set("server.listen", "127.0.0.1:0")
        .set("admin.listen", "127.0.0.1:0")
        .set("plugins.dirs", json!([plugin_dir().display().to_string()]))
        .set("telemetry.format", "json")
        .set("shutdown.grace", "1s")
}

fn spawn(config: HostConfig) -> Host {
    Host::spawn(binary(), "alpha", config, Start::default())
}

fn free_port() -> u16 {
    free_address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port")
}

/// All keys that a directory has kept, and the cluster whose they are.
async fn kept(data_dir: &Path) -> (Vec<String>, u64) {
    let settings = Settings { data_dir: Some(data_dir.to_owned()), ..Settings::default() };
    let etcd = EmbeddedEtcd::start_with(&settings).await.expect("nobody has it any more");
    let mut client = Client::connect([etcd.endpoint()], None).await.expect("it listens");
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("it answers");
    let keys = all.kvs().iter().map(|kv| kv.key_str().expect("a text").to_owned()).collect();
    let cluster = etcd.cluster_id();
    etcd.stop().await;
    (keys, cluster)
}

#[tokio::test]
async fn a_host_needs_no_other_etcd_and_gives_its_session_up_before_its_own_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = spawn(config(0, &directory.path().display().to_string()));
    host.healthy().await;
    assert!(host.stop().await.success(), "it stops in good order");
    let (keys, _) = kept(directory.path()).await;
    assert!(keys.iter().any(|key| key.ends_with("/session/id")), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("/session/alpha")), "the session was not given up: {keys:?}");
}

#[tokio::test]
async fn a_killed_host_comes_back_with_what_its_etcd_had() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = spawn(config(0, &directory.path().display().to_string()));
    host.healthy().await;
    host.kill9();
    let (before, cluster) = kept(directory.path()).await;
    assert!(before.iter().any(|key| key.contains("/session/alpha")), "{before:?}");
    host.restart().await;
    host.healthy().await;
    host.stop().await;
    assert_eq!(kept(directory.path()).await.1, cluster);
}

#[tokio::test]
async fn other_processes_of_the_machine_use_it_by_its_port() {
    let port = free_port();
    let first = spawn(config(port, ""));
    first.healthy().await;
    let other = outside(port).probe("beta", calling(&["alpha"]));
    let other = Host::spawn(binary(), "beta", other, Start::default());
    other.healthy().await.ready().await;
    other.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_port_or_a_directory_that_another_has_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let (port, data_dir) = (free_port(), directory.path().display().to_string());
    let first = spawn(config(port, &data_dir));
    first.healthy().await;
    for (port, data_dir, expected) in [
        (port, "", format!("cannot listen at 127.0.0.1:{port}")),
        (0, data_dir.as_str(), format!("the data directory {data_dir} is in use by process {}", first.pid())),
    ] {
        let refused = spawn(config(port, data_dir));
        let status = refused.ended().await;
        assert_eq!(status.code(), Some(1));
        assert!(refused.tail().contains(&expected), "no \"{expected}\" in\n{}", refused.tail());
    }
}

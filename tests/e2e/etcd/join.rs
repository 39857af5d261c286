//! An etcd that cannot be used at a host's start, and what `check --connect` says of it.

use std::process::{Command, Output};
use std::time::Duration;

use componenthost::etcd::{Etcd as Registry, EtcdConfig, Fault};
use serde_json::json;
use tests::binary::binary;
use tests::cluster::{Cluster, free_address};
use tests::etcd::{Etcd, Settings};
use tests::log::LogLine;
use tests::{HostConfig, LIMIT, eventually, holds};

async fn guarded() -> Cluster {
    Cluster::with_etcd(Etcd::start_with(Settings::default().users("open sesame")).await)
}

fn says_in_error(line: &LogLine, text: &str) -> bool {
    line.text("error").is_some_and(|error| error.contains(text))
}

/// `check --connect`: its code and all that it wrote.
fn check(config: &HostConfig) -> (i32, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("host.toml");
    config.write(&file);
    let output = Command::new(binary()).args(["check", "--connect", "--config"]).arg(file).output();
    let Output { status, stdout, stderr } = output.expect("the host can be started");
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    (status.code().expect("it ends by itself"), text)
}

#[tokio::test]
async fn a_host_says_why_it_waits_for_etcd_and_joins_when_it_can() {
    let cluster = guarded().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "abracadabra").expect("it is writable");
    let config = cluster.config().probe("alpha", json!({})).set("etcd.user", "root");
    let host = cluster.host(config.set("etcd.password_file", file.display().to_string())).await;
    // Twice: it goes on trying, at its pace.
    let says = || host.log().iter().filter(|line| says_in_error(line, "no such user and password")).count();
    eventually(LIMIT, async || holds(says() >= 2, "not said twice yet")).await;
    host.assert_running();
    assert!(says() < 10, "it tries too often");
    std::fs::write(&file, "open sesame").expect("it is writable");
    host.healthy().await;
    let all = format!("{:?}", host.log());
    assert!(!all.contains("abracadabra") && !all.contains("open sesame"));
}

#[tokio::test]
async fn a_host_says_that_nobody_listens() {
    let cluster = Cluster::start().await;
    let config = cluster.config().probe("alpha", json!({})).set("etcd.endpoints", json!([free_address()]));
    let host = cluster.host(config).await;
    host.logged(|line| says_in_error(line, "connection refused")).await;
    let health = host.get("/healthz").await;
    assert!(health.status == 503 && health.body.contains("connection refused"), "{health:?}");
    host.assert_running();
}

#[tokio::test]
async fn a_member_that_lost_its_cluster_says_so() {
    let etcd = Etcd::start_with(Settings::three_members()).await;
    etcd.member(1).kill();
    etcd.member(2).kill();
    let request_timeout = Duration::from_secs(1);
    // That the others are missed says less than that there is no leader, wherever it stands in the list.
    let endpoints = vec![etcd.endpoint(), free_address()];
    let config = EtcdConfig { endpoints, request_timeout, ..EtcdConfig::default() };
    // It notices after an election's time.
    eventually(LIMIT, async || match Registry::connect(&config).await.err().map(|error| error.fault().clone()) {
        Some(Fault::NoLeader) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_check_tells_of_each_member_in_one_try() {
    let cluster = guarded().await;
    let endpoint = cluster.etcd().endpoint();
    let config = cluster.config().probe("alpha", json!({})).set("etcd.user", "root");
    let good = config.clone().set("etcd.password", "open sesame");
    let (code, text) = check(&good);
    let ok = format!("etcd {endpoint}: ok: etcd 3.");
    assert!(code == 0 && text.contains(&ok) && text.contains(", leader, answers a read in "), "{code} {text}");
    assert!(text.contains("alpha: ok"), "{text}");

    let closed = free_address();
    let (code, text) = check(&good.set("etcd.endpoints", json!([endpoint, closed])));
    let refused = format!("etcd {closed}: failed: connection refused");
    assert!(code == 1 && text.contains(&ok) && text.contains(&refused), "{code} {text}");

    let (code, text) = check(&config.set("etcd.password", "abracadabra"));
    assert!(code == 1 && text.contains("authentication failed") && !text.contains("abracadabra"), "{code} {text}");
}

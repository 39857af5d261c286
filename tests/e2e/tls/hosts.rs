//! Real processes that call one another over mutual TLS; their etcd has none.

use std::ffi::OsString;
use std::path::Path;

use componenthost::cli::call::{CallError, call as run_call};
use componenthost::cli::{self, Command};
use componenthost::tls::{Security, connect, stream::Trace};
use hyper_util::rt::TokioIo;
use plugin_api::identity::Role;
use probe_plugin::v1::CallKind;
use tests::authority::{Authority, NAMES};
use tests::client::Probe;
use tests::probe::{call, calling, coordinator, node, reaches};
use tests::{Cluster, Host, LIMIT, eventually};
use tonic::transport::Endpoint;

use super::rig::tls;

/// A client of the host's probe, with a certificate as another host has it.
pub async fn over_tls(host: &Host, role: &str, authority: &Authority) -> Probe {
    let config = tls(authority, &authority.host(&["client"]));
    let security = Security::of_client(&config).expect("the files are good");
    let (address, peer) = (host.address().await, Role::new(role).expect("a role"));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    let connector = tower::service_fn(move |_| {
        let (address, peer, security) = (address.clone(), peer.clone(), security.clone());
        async move { connect::connect(&address, &peer, &security, &Trace::default()).await.map(TokioIo::new) }
    });
    // Its listener listens last.
    let channel = eventually(LIMIT, || endpoint.connect_with_connector(connector.clone())).await;
    probe_plugin::client(channel, role)
}

#[tokio::test]
async fn two_hosts_call_and_stream_over_mutual_tls() {
    let (cluster, ours) = (Cluster::start().await, Authority::new("ours"));
    let config = |role: &str, probe| {
        let config = cluster.config().probe(role, probe).tls(&ours, &ours.host(&[role]));
        config.set("telemetry.log", "info,componenthost::serve=debug")
    };
    let beta = cluster.host(config("beta", coordinator())).await;
    let alpha = cluster.host(config("alpha", calling(&["beta"]))).await;
    let probe = over_tls(&alpha, "alpha", &ours).await;
    reaches(&probe, &call("beta", CallKind::Unary)).await;
    for kind in [CallKind::ServerStream, CallKind::ClientStream, CallKind::BidiStream] {
        let seen = probe.clone().call(call("beta", kind)).await.expect("the probe tells what it saw").into_inner();
        assert_eq!(seen.code, 0, "{kind:?}: {seen:?}");
    }
    let connections = alpha.connections().await;
    let peer = &connections["dependencies"][0]["peers"][0];
    assert_eq!((peer["link"].as_str(), peer["unverified"].as_bool()), (Some("ready"), Some(false)), "{connections}");
    let is_alphas = |role: Option<String>| role.as_deref() == Some("alpha");
    beta.logged(|line| line.message() == "a caller's certificate" && is_alphas(line.text("role"))).await;
}

async fn run(arguments: &[&str]) -> Result<String, CallError> {
    let line = ["componenthost", "call"].iter().chain(arguments).map(OsString::from);
    let Ok(Command::Call(arguments)) = cli::parse(line) else { panic!("no call: {arguments:?}") };
    let mut out = Vec::new();
    run_call(&arguments, &mut out).await?;
    Ok(String::from_utf8(out).expect("the answer is text"))
}

#[tokio::test]
async fn the_command_line_calls_over_tls_with_a_configuration_or_with_files() {
    let (cluster, ours) = (Cluster::start().await, Authority::new("ours"));
    let host = cluster.host(cluster.config().probe("alpha", node()).tls(&ours, &ours.host(&["alpha"]))).await;
    host.healthy().await;
    let text = |path: &Path| path.display().to_string();
    let config = text(&host.directory().join("host.toml"));
    let answer = run(&["alpha", "Held", "--config", &config]).await.expect("an answer");
    assert!(answer.contains("running"), "{answer}");

    let (address, own, ca) = (host.address().await, ours.host(&["operator"]), text(&ours.file()));
    let (cert, key) = (text(&own.certificate), text(&own.key));
    let bare = ["alpha", "Held", "--address", &address];
    let anonymous = [bare.as_slice(), &["--ca", &ca, "--names", NAMES]].concat();
    run(&[anonymous.as_slice(), &["--cert", &cert, "--key", &key]].concat()).await.expect("an answer");
    let refused = run(&anonymous).await.expect_err("it shows no certificate");
    assert!(plugin_api::error::chain(&refused).contains("it wants a certificate from its clients"), "{refused:?}");
    let refused = run(&bare).await.expect_err("it has no TLS");
    assert!(plugin_api::error::chain(&refused).contains("wants TLS"), "{refused:?}");
    let refused = run(&["alpha", "Held", "--address", "192.0.2.1:1"]).await.expect_err("no plain text");
    assert!(plugin_api::error::chain(&refused).contains("tls.plain_text = true"), "{refused:?}");
}

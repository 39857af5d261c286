//! Plugins that are linked into the host's binary, several of them into one.

use std::path::Path;

use plugin_api::export::Plugin;
use probe_plugin::v1::CallKind;
use proto::rootcoord::v1::AllocIdRequest;
use serde_json::{Value, json};
use tests::Cluster;
use tests::border::Bordered;
use tests::probe::{call, calling, coordinator, faulty, reaches};

#[tokio::test]
async fn several_plugins_are_linked_into_one_host() {
    let cluster = Cluster::start().await;
    let config = cluster.config().linked("rootcoord", "rootcoord", json!({}));
    let config =
        config.linked("alpha", "probe-plugin", calling(&["beta"])).linked("beta", "probe-plugin", coordinator());
    let host = cluster.spawn_program(Path::new(env!("CARGO_BIN_EXE_linked-host")), config, &[]);
    host.healthy().await.ready().await;

    host.rootcoord().await.alloc_id(AllocIdRequest { count: 1 }).await.expect("RootCoord answers");
    reaches(&host.probe("alpha").await, &call("beta", CallKind::Unary)).await;
    assert_eq!(host.component("alpha").await["plugin"], Value::Null, "no file was loaded");
}

#[tokio::test]
async fn linked_and_loaded_components_live_in_one_host() {
    let cluster = Cluster::start().await;
    let config = cluster.config().linked("alpha", "probe-plugin", calling(&["beta"])).probe("beta", coordinator());
    let host = cluster.spawn_program(Path::new(env!("CARGO_BIN_EXE_linked-host")), config, &[]);
    host.healthy().await.ready().await;
    reaches(&host.probe("alpha").await, &call("beta", CallKind::Unary)).await;
}

#[tokio::test]
async fn each_linked_plugin_is_its_own() {
    let linked: [(&Plugin, &str); 3] =
        [(&rootcoord::PLUGIN, "rootcoord"), (&querycoord::PLUGIN, "querycoord"), (&querynode::PLUGIN, "querynode")];
    for (plugin, role) in linked {
        let component = Bordered::linked(plugin, role, "");
        let descriptor = component.component().descriptor().expect("a descriptor");
        assert_eq!((plugin.package, descriptor.role.map(String::from).as_deref()), (role, Some(role)));
    }
}

#[tokio::test]
async fn a_linked_constructors_error_is_told() {
    let cluster = Cluster::start().await;
    let switch = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let config = cluster.config().linked("alpha", "probe-plugin", faulty("new", "fail", switch.path()));
    let host = cluster.spawn_program(Path::new(env!("CARGO_BIN_EXE_linked-host")), config, &[]);
    let view = host.in_state("alpha", "Abnormal").await;
    assert!(view["cause"].as_str().is_some_and(|cause| cause.contains("fails as configured")), "{view}");
}

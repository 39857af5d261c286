//! The gate as an operator meets it: in `componenthost check`, and in a host that starts.

use std::process::{Command, Output};

use serde_json::json;
use tests::{Cluster, HostConfig, eventually};

use super::bench::{Bench, names};

/// `componenthost check` of a configuration that has the test's own directory as its plugin directory.
fn check(bench: &Bench, config: HostConfig) -> (Option<i32>, String) {
    let file = bench.path("host.toml");
    config.set("plugins.dirs", json!([bench.dir.path(), tests::binary::plugin_dir()])).write(&file);
    let mut command = Command::new(tests::binary::binary());
    let Output { status, stdout, stderr } = command.arg("check").arg("--config").arg(file).output().expect("it runs");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn with_plugin(role: &str, plugin: &str) -> HostConfig {
    HostConfig::new().set(&format!("component.{role}.plugin"), plugin)
}

#[test]
fn check_accepts_a_plugin_that_fits() {
    let bench = Bench::new();
    bench.smallest();
    let (code, text) = check(&bench, with_plugin("anyrole", "smallest").set("component.anyrole.version", "^1.2"));
    assert_eq!(code, Some(0), "{text}");
    names(&text, &["anyrole: ok", "1.2.3", "libsmallest.so"]);
}

#[test]
fn check_tells_of_every_plugin_what_the_gate_says() {
    let bench = Bench::new();
    bench.file("libtext.so", "a text");
    bench.c("aborts");
    let config =
        with_plugin("alpha", "text").set("component.beta.plugin", "aborts").set("component.gamma.plugin", "none");
    let (code, text) = check(&bench, config);
    assert_eq!(code, Some(1), "{text}");
    let looked = bench.path("libnone.so").display().to_string();
    names(&text, &["alpha: refused", "not an ELF file", "beta: refused", "SIGABRT", "gamma: refused", &looked]);
}

#[test]
fn a_version_that_the_configuration_does_not_allow() {
    let bench = Bench::new();
    bench.smallest();
    let (code, text) = check(&bench, with_plugin("alpha", "smallest").set("component.alpha.version", ">=2"));
    assert_eq!(code, Some(1), "{text}");
    names(&text, &["libsmallest.so has the version 1.2.3", "allows >=2"]);
}

#[test]
fn check_makes_the_component_to_see_what_it_is() {
    let bench = Bench::new();
    let config = with_plugin("querynode", "rootcoord").set("component.querycoord.config.load_timeout", "0s");
    let (code, text) = check(&bench, config);
    assert_eq!(code, Some(1), "{text}");
    names(
        &text,
        &["librootcoord.so plays the role rootcoord", "expected querynode", "querycoord: refused", "load_timeout"],
    );
}

#[tokio::test]
async fn a_role_that_the_configuration_does_not_allow() {
    let cluster = Cluster::start().await;
    let config = cluster.config().set("shutdown.limit", "20s").component("querynode", "rootcoord", json!({}));
    let host = cluster.host(config).await;
    let view = eventually(tests::LIMIT, || async {
        let view = host.component("querynode").await;
        if view["state_code"] == "Abnormal" { Ok(view) } else { Err(view) }
    })
    .await;
    names(&view.to_string(), &["librootcoord.so plays the role rootcoord", "expected querynode"]);
    assert_eq!(view["quarantined"], true, "another try would fail in the same way: {view}");
}

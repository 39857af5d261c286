//! The second versions are plugins like the first.

use std::process::Command;

use tests::HostConfig;
use tests::binary::{binary, plugin_dir, second};

#[test]
fn each_second_version_passes_the_gate() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let file = folder.path().join("host.toml");
    let plugins = [
        ("alpha", "probe_plugin"),
        ("rootcoord", "rootcoord"),
        ("querycoord", "querycoord"),
        ("querynode", "querynode"),
    ];
    let config = HostConfig::new().set("plugins.dirs", serde_json::json!([plugin_dir()]));
    let config = plugins
        .iter()
        .fold(config.set("host.state_dir", folder.path().display().to_string()), |config, (role, plugin)| {
            config.component(role, &second(plugin), serde_json::json!({}))
        });
    config.write(&file);
    let output = Command::new(binary()).arg("check").arg("--config").arg(&file).output().expect("it can be started");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    for (role, plugin) in plugins {
        assert!(text.contains(&format!("{role}: ok")) && text.contains(&format!("lib{plugin}_v2.so")), "{text}");
    }
    assert_eq!(text.matches(" 2.0.0,").count(), 4, "{text}");
}

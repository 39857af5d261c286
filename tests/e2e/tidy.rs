//! The house keeps its own order: who may know whom, where `unsafe` may be, that each file says what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each part of the host may know of the others, beside itself. Parts that are not named may know all: they compose.
const KNOWS: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("lifecycle", &[]),
    ("metrics", &[]),
    ("swap", &[]),
    ("tls", &[]),
    ("trouble", &[]),
    ("wire", &[]),
    ("signals", &["cli"]),
    ("telemetry", &[]),
    ("admin", &["metrics", "swap"]),
    ("etcd", &["cluster", "tls"]),
    ("session", &["cluster", "etcd", "trouble"]),
    ("discovery", &["cluster", "etcd", "trouble"]),
    ("connections", &["cluster", "metrics", "tls", "wire"]),
    ("metadata", &["etcd", "session"]),
    ("plugin", &["connections", "metadata"]),
    ("serve", &["lifecycle", "metrics", "plugin", "tls", "wire"]),
];

/// Where `unsafe` is allowed: the ABI's edge, and the mapping of a sealed memfd.
const UNSAFE: &[&str] = &[
    "plugin-api/src/border",
    "plugin-api/src/export.rs",
    "host/src/plugin/gate",
    "plugins/querynode/src/memory.rs",
    "tests",
];

/// Who may name `abi_stable`: another ABI crate would take its place there.
const ABI: &[&str] =
    &["plugin-api/src/border", "plugin-api/src/export.rs", "plugin-api/src/task.rs", "host/src/plugin", "tests"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All of our `.rs` files as (path in the workspace, text).
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["host", "plugin-api", "plugins", "tests"] {
        collect(&workspace().join(folder), folder, &mut found);
    }
    assert!(found.len() > 100, "the sources were not found: {}", found.len());
    found
}

fn collect(folder: &Path, name: &str, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the workspace");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = format!("{name}/{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, found);
        } else if name.ends_with(".rs") {
            found.push((name, std::fs::read_to_string(&path).expect("a text")));
        }
    }
}

fn is_below(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| name.starts_with(place))
}

#[test]
fn siblings_do_not_know_one_another() {
    for (name, text) in sources() {
        let Some(part) = name.strip_prefix("host/src/").and_then(|rest| rest.split(['/', '.']).next()) else {
            continue;
        };
        let Some((_, knows)) = KNOWS.iter().find(|(known, _)| *known == part) else { continue };
        let named = text
            .split("crate::")
            .skip(1)
            .map(|rest| rest.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_'));
        let named: BTreeSet<&str> = named.filter_map(|mut words| words.next()).collect();
        for other in named.iter().filter(|other| **other != part) {
            assert!(knows.contains(other), "{name} knows `{other}`; {part} may know {knows:?} only");
        }
    }
}

#[test]
fn arrows_between_crates_point_one_way() {
    let manifest = |path: &str| std::fs::read_to_string(workspace().join(path)).expect("a manifest");
    let host = manifest("host/Cargo.toml");
    for plugin in ["proto", "rootcoord", "querycoord", "querynode"] {
        assert!(
            !host.contains(&format!("\n{plugin}.")),
            "the host names no plugin and no component's messages: {plugin}"
        );
        let own = manifest(&format!("plugins/{plugin}/Cargo.toml"));
        assert!(!own.contains("\ncomponenthost"), "{plugin} knows the contract, never the host");
    }
    let contract = manifest("plugin-api/Cargo.toml");
    assert!(!contract.contains("path =") && !contract.contains("\ncomponenthost") && !contract.contains("\nproto"));
}

#[test]
fn unsafe_stays_at_the_edge() {
    for (name, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let unsafe_ = code
            .clone()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"));
        assert!(!unsafe_ || is_below(&name, UNSAFE), "{name} has unsafe code");
        let abi = code.clone().any(|line| line.contains("abi_stable"));
        assert!(!abi || is_below(&name, ABI), "{name} names abi_stable");
    }
}

#[test]
fn each_file_says_what_it_is() {
    for (name, text) in sources() {
        // Tests beside their code are described by it.
        if !name.ends_with("/tests.rs") {
            assert!(text.starts_with("//!"), "{name} has no module doc");
        }
        assert!(!text.contains(concat!("#[", "ignore")), "{name}: a test that is ignored tests nothing");
    }
}

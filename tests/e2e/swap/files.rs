//! Files that a swap does not take: each is refused with what was expected and found, and nothing has changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use componenthost::plugin::gate::Digest;
use componenthost::swap::{Outcome, Phase};
use serde_json::json;
use tempfile::TempDir;
use tests::binary::{plugin_dir, plugin_file, second};
use tests::probe::coordinator;
use tests::{Cluster, Host, HostConfig};

use crate::swap::rig::{AT_ONCE, answer_of, first_edition, second_edition};

/// A host with `alpha` that also takes plugins from a folder of the test's own.
async fn host(config: impl FnOnce(HostConfig) -> HostConfig) -> (Host, TempDir) {
    let cluster = Cluster::start().await;
    let folder = TempDir::with_prefix("componenthost-test-files-").expect("a temporary directory can be made");
    let own = cluster.config().set("plugins.dirs", json!([plugin_dir(), folder.path()]));
    let host = cluster.host(config(own.probe("alpha", coordinator()))).await;
    host.healthy().await;
    (host, folder)
}

async fn is_refused(host: &Host, file: &Path, words: &[&str]) {
    let before = host.as_before_a_swap("alpha").await;
    let swapped = host.swap("alpha", file, &AT_ONCE).await;
    swapped.assert_failed(Outcome::Refused, Phase::Prepare, words);
    assert_eq!(host.as_before_a_swap("alpha").await, before);
    answer_of(host, "alpha").await;
}

/// The second edition in the folder, under this mode.
fn with_mode(folder: &TempDir, mode: u32) -> PathBuf {
    let path = folder.path().join("libown.so");
    fs::copy(second_edition(), &path).expect("a copy");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions are set");
    path
}

#[tokio::test]
async fn a_file_that_is_no_plugin_is_refused() {
    let (host, folder) = host(|config| config).await;
    let text = folder.path().join("libtext.so");
    fs::write(&text, "a text").expect("it is writable");
    is_refused(&host, &text, &["libtext.so", "not an ELF file"]).await;
    let short = folder.path().join("libshort.so");
    let whole = fs::read(second_edition()).expect("a plugin");
    fs::write(&short, &whole[..whole.len() / 2]).expect("it is writable");
    is_refused(&host, &short, &["libshort.so", "truncated"]).await;
    is_refused(&host, &folder.path().join("libnone.so"), &["libnone.so"]).await;
    is_refused(&host, folder.path(), &["directory", "expected a regular file"]).await;
}

#[tokio::test]
async fn another_components_plugin_is_refused() {
    let cluster = Cluster::start().await;
    let host = cluster.component("querynode").await;
    host.healthy().await;
    let swapped = host.swap("querynode", &plugin_file("rootcoord"), &AT_ONCE).await;
    let words = ["plays the role rootcoord", "expected querynode"];
    swapped.assert_failed(Outcome::Refused, Phase::Prepare, &words);
}

#[tokio::test]
async fn a_place_that_others_can_write_is_refused() {
    let (host, folder) = host(|config| config).await;
    is_refused(&host, &with_mode(&folder, 0o666), &["libown.so", "written by"]).await;
    let elsewhere = TempDir::new().expect("a temporary directory can be made");
    is_refused(&host, &with_mode(&elsewhere, 0o644), &["outside the plugin directories"]).await;
    host.swap("alpha", &with_mode(&folder, 0o644), &AT_ONCE).await.assert(Outcome::Committed);
}

#[tokio::test]
async fn a_hash_that_is_pinned_is_pinned_for_swaps_too() {
    let pinned = Digest::of(&fs::read(first_edition()).expect("a plugin")).to_string();
    let (host, _folder) = host(|config| config.set("component.alpha.sha256", pinned.as_str())).await;
    is_refused(&host, &second_edition(), &["pins", &pinned]).await;
    host.swap("alpha", &first_edition(), &AT_ONCE).await.assert(Outcome::Committed);
}

#[tokio::test]
async fn a_version_that_is_not_allowed_is_refused() {
    let (host, _folder) = host(|config| config.set("component.alpha.version", "<2")).await;
    is_refused(&host, &second_edition(), &["2.0.0", "allows <2"]).await;
}

#[tokio::test]
async fn a_configuration_that_the_new_one_does_not_know_is_refused() {
    let cluster = Cluster::start().await;
    let config = cluster.config().component("rootcoord", "rootcoord", json!({ "release_timeout": "3s" }));
    let host = cluster.host(config).await;
    host.healthy().await;
    let swapped = host.swap("rootcoord", &second_edition(), &AT_ONCE).await;
    swapped.assert_failed(Outcome::Refused, Phase::Prepare, &["configuration", "release_timeout"]);
    // What is wrong with another component's plugin is not that it does not know this one's configuration.
    let swapped = host.swap("rootcoord", &plugin_file(&second("querynode")), &AT_ONCE).await;
    swapped.assert_failed(Outcome::Refused, Phase::Prepare, &["plays the role querynode", "expected rootcoord"]);
}

#[tokio::test]
async fn the_same_file_again_and_a_plugin_by_its_name_are_swapped() {
    let (host, _folder) = host(|config| config).await;
    for _ in 0..2 {
        host.swap("alpha", &first_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    }
    host.swap("alpha", Path::new("probe_plugin_v2"), &AT_ONCE).await.assert(Outcome::Committed);
    assert_eq!(host.component("alpha").await["version"], "2.0.0");
}

#[tokio::test]
async fn a_role_that_is_not_here_is_told_with_those_that_are() {
    let (host, _folder) = host(|config| config).await;
    let swapped = host.swap("delta", &second_edition(), &AT_ONCE).await;
    assert_eq!((swapped.code, swapped.told.len()), (1, 0), "{swapped:?}");
    assert!(swapped.err.contains("delta") && swapped.err.contains("alpha"), "{}", swapped.err);
}

#[tokio::test]
async fn no_more_is_swapped_than_the_memory_of_former_generations_allows() {
    let (other, _folder) = host(|config| config).await;
    let mapped = other.generations("alpha").await[0].mapped_bytes;
    // Room for one that has ended, and not for two.
    let (host, _folder) = host(|config| config.set("plugins.retired_memory_limit", mapped + mapped / 2)).await;
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    let swapped = host.swap("alpha", &first_edition(), &AT_ONCE).await;
    swapped.assert_failed(Outcome::Refused, Phase::Prepare, &["plugins.retired_memory_limit", "restart the host"]);
    assert_eq!(host.component("alpha").await["version"], "2.0.0");
}

#[tokio::test]
async fn a_component_that_is_linked_in_is_swapped_for_a_file() {
    let cluster = Cluster::start().await;
    let config = cluster.config().linked("alpha", "probe-plugin", coordinator());
    let host = cluster.spawn_program(Path::new(env!("CARGO_BIN_EXE_linked-host")), config, &[]);
    host.healthy().await;
    host.swap("alpha", &second_edition(), &AT_ONCE).await.assert(Outcome::Committed);
    assert_eq!(answer_of(&host, "alpha").await.version, "2.0.0");
    let generations = host.only_one_generation_lives("alpha").await;
    assert_eq!(generations.iter().map(|one| one.path.is_some()).collect::<Vec<_>>(), [false, true]);
}

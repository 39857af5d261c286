//! Swaps that nobody asks for: a watched file that changes (`--watch`), and SIGHUP.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tests::binary::plugin_dir;
use tests::{Cluster, Host, HostConfig, LIMIT, eventually, holds};

use crate::swap::rig::{answer_of, first_edition, limits, second_edition};

/// Where a host's plugin lies, which a test builds anew.
struct Built {
    folder: TempDir,
}

impl Built {
    fn new() -> Self {
        let built = Self { folder: TempDir::with_prefix("componenthost-test-built-").expect("a temporary directory") };
        built.replace(&first_edition());
        built
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("libalpha.so")
    }

    /// As a linker does that does not write into what is open: another file under the same name.
    fn replace(&self, file: &Path) {
        let next = self.folder.path().join("next");
        fs::copy(file, &next).expect("a copy");
        fs::rename(&next, self.path()).expect("it can be renamed");
    }

    fn config(&self, cluster: &Cluster) -> HostConfig {
        let config = limits(cluster.config()).set("plugins.dirs", json!([plugin_dir(), self.folder.path()]));
        let config = config.probe("alpha", json!({ "kind": "coordinator" })).probe("beta", json!({ "kind": "node" }));
        config.set("component.alpha.plugin", self.path().display().to_string()).set("swap.probation", "0s")
    }
}

async fn version(host: &Host) -> String {
    answer_of(host, "alpha").await.version
}

async fn becomes(host: &Host, expected: &str) {
    eventually(LIMIT, async || {
        let found = version(host).await;
        holds(found == expected, found)
    })
    .await;
}

async fn watching(cluster: &Cluster, built: &Built) -> Host {
    let host = cluster.spawn_with(&["--watch"], built.config(cluster));
    host.healthy().await;
    host
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "what was measured is shown")]
async fn a_watched_file_that_is_replaced_is_swapped_within_a_second() {
    let (cluster, built) = (Cluster::start().await, Built::new());
    let host = watching(&cluster, &built).await;
    let mut fastest = Duration::MAX;
    for (file, expected) in [(second_edition(), "2.0.0"), (first_edition(), "0.1.0"), (second_edition(), "2.0.0")] {
        built.replace(&file);
        let began = Instant::now();
        becomes(&host, expected).await;
        fastest = fastest.min(began.elapsed());
    }
    println!("the new code answered after {fastest:?}");
    // The machine may be busy with others, but not all three times.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    assert_eq!(host.component("beta").await["generation"], 1);
}

#[tokio::test]
async fn a_watched_file_that_is_not_whole_yet_is_not_taken() {
    let (cluster, built) = (Cluster::start().await, Built::new());
    let host = watching(&cluster, &built).await;
    let whole = fs::read(second_edition()).expect("a plugin");
    // As a linker may leave it for a while, in another inode.
    fs::remove_file(built.path()).expect("it is there");
    fs::write(built.path(), &whole[..whole.len() / 2]).expect("it is writable");
    assert_eq!(version(&host).await, "0.1.0");
    fs::write(built.path(), &whole).expect("it is writable");
    becomes(&host, "2.0.0").await;
    host.assert_running();
}

#[tokio::test]
async fn a_hangup_swaps_what_has_changed_and_nothing_else() {
    let (cluster, built) = (Cluster::start().await, Built::new());
    let host = cluster.host(built.config(&cluster)).await;
    host.healthy().await;
    host.hang_up();
    built.replace(&second_edition());
    host.hang_up();
    becomes(&host, "2.0.0").await;
    assert_eq!(host.component("alpha").await["swaps"].as_array().map(Vec::len), Some(1), "once, when it had changed");
    assert_eq!(host.component("beta").await["generation"], 1);
}

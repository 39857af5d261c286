//! The built host and the built plugins, and the proof that they are of this build.
//!
//! `cargo test -p tests` builds neither: it would test what an earlier build has left. So the tests fail where the binary's
//! build id is not their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ADVICE: &str = "run `tests/run`, or `cargo build --workspace` before the tests";

/// The built `componenthost`.
///
/// # Panics
///
/// Where it is not there, or is of another build than the library that this test is linked with.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = profile_dir().join("componenthost");
        let output = Command::new(&path).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("no {}: {error}; {ADVICE}", path.display()));
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        let own = componenthost::BUILD_ID;
        assert!(
            version.contains(own),
            "{} is {}, and not of the build {own}; {ADVICE}",
            path.display(),
            version.trim()
        );
        path
    })
}

/// The embedded etcd as a program.
///
/// # Panics
///
/// Where it is not there.
pub fn embedded_etcd() -> PathBuf {
    let path = profile_dir().join("embedded-etcd");
    assert!(path.is_file(), "no {}; {ADVICE}", path.display());
    path
}

/// The folder of the plugins that were built with the tests: the one explicit `plugins.dirs` of every host here.
///
/// Cargo builds the plugins, which are dependencies of this crate, into `deps`, and `cargo build` links them one folder
/// up. What lies in `deps` is always of the present build.
pub fn plugin_dir() -> PathBuf {
    let dir = profile_dir().join("deps");
    for plugin in ["probe_plugin", "rootcoord", "querycoord", "querynode"] {
        for name in [plugin.to_owned(), second(plugin)] {
            let file = dir.join(format!("lib{name}.so"));
            assert!(file.is_file(), "no {}; {ADVICE}", file.display());
        }
    }
    dir
}

/// The file of a plugin, by the name of its library.
pub fn plugin_file(plugin: &str) -> PathBuf {
    plugin_dir().join(format!("lib{plugin}.so"))
}

/// The name of a plugin's second version.
pub fn second(plugin: &str) -> String {
    format!("{plugin}_v2")
}

/// A plugin without what only a debugger reads, in this folder: a fraction of the bytes that a swap has to read and to hash,
/// as in a release.
///
/// # Panics
///
/// Where it cannot be made.
pub fn stripped(plugin: &str, folder: &Path) -> PathBuf {
    let file = folder.join(format!("lib{plugin}.so"));
    let done = Command::new("strip").arg("--strip-debug").arg(plugin_file(plugin)).arg("-o").arg(&file).status();
    assert!(done.is_ok_and(|status| status.success()), "strip cannot make {}; it comes with cc", file.display());
    file
}

/// `target/debug` or `target/release`: where this very executable lies; that of a test in `deps` there.
fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a process knows its executable");
    let folder = program.parent().expect("an executable lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.expect("cargo puts tests into <profile>/deps").to_owned()
}

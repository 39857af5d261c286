//! The built host and the built plugins, and the proof that they are of this build.
//!
//! `cargo test -p tests` builds neither: it would test what an earlier build has left. So the tests fail where the
//! binary is older than one of the files that it is made from.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

const ADVICE: &str = "run `tests/run`, or `cargo build --workspace` before the tests";

/// The built `componenthost`.
///
/// # Panics
///
/// Where it is not there, or is of an older build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = profile_dir().join("componenthost");
        let built = modified(&path).unwrap_or_else(|error| panic!("no {}: {error}; {ADVICE}", path.display()));
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for source in ["host/src", "host/proto", "host/build.rs", "plugin-api/src", "Cargo.lock"] {
            if let Some((file, changed)) = newest(&workspace.join(source)) {
                assert!(changed <= built, "{} is older than {}; {ADVICE}", path.display(), file.display());
            }
        }
        path
    })
}

/// The newest file at or below a path.
fn newest(path: &Path) -> Option<(PathBuf, SystemTime)> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).ok()?;
        entries.flatten().filter_map(|entry| newest(&entry.path())).max_by_key(|(_, changed)| *changed)
    } else {
        modified(path).ok().map(|changed| (path.to_owned(), changed))
    }
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(path)?.modified()
}

/// The folder of the plugins that were built with the tests: the one explicit `plugins.dirs` of every host here.
///
/// Cargo builds the plugins, which are dependencies of this crate, into `deps`, and `cargo build` links them one folder
/// up. What lies in `deps` is always of the present build.
pub fn plugin_dir() -> PathBuf {
    let dir = profile_dir().join("deps");
    for plugin in ["probe_plugin", "rootcoord", "querycoord", "querynode"] {
        let file = dir.join(format!("lib{plugin}.so"));
        assert!(file.is_file(), "no {}; {ADVICE}", file.display());
    }
    dir
}

/// `target/debug` or `target/release`: where the executable of this very test lies, without `deps`.
fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    let deps = test.parent().expect("an executable lies in a folder");
    deps.parent().expect("cargo puts tests into <profile>/deps").to_owned()
}

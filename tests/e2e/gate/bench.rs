//! A plugin directory of a test's own, the compilers that fill it, and the gate before it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use componenthost::plugin::copy::private_copy;
use componenthost::plugin::gate::first_look::{FirstLook, first_look};
use componenthost::plugin::gate::{Admitted, Allowed, GateError, PluginsConfig, inspect};
use plugin_api::error::chain;
use plugin_api::identity::Role;

/// Ends on the temporary directory's removal.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub config: PluginsConfig,
    pub allowed: Allowed,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = PluginsConfig { dirs: vec![dir.path().to_owned()], ..PluginsConfig::default() };
        let allowed = Allowed { role: Role::new("querynode").expect("a role"), version: None, sha256: None };
        Self { dir, config, allowed }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file is written");
        path
    }

    pub fn subdir(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a directory is made");
        set_mode(&path, mode);
        path
    }

    /// A fixture in C as a shared object.
    pub fn c(&self, name: &str) -> PathBuf {
        self.cc(name, &format!("lib{name}.so"), &["-shared", "-fPIC"])
    }

    pub fn cc(&self, fixture: &str, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(name);
        compile(Command::new("cc").args(flags).arg(fixtures().join(fixture).with_extension("c")).arg("-o").arg(&path));
        path
    }

    /// A source in Rust as a shared object, with the crates that the tests themselves are built with.
    pub fn rust(&self, source: &Path, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(&format!("lib{name}.so"));
        let deps = tests::binary::plugin_dir();
        let mut rustc = Command::new("rustc");
        rustc.args([
            "--edition=2024",
            "--crate-type=cdylib",
            "-Cdebuginfo=0",
            "-Cstrip=debuginfo",
            "--crate-name",
            name,
        ]);
        rustc.env("CARGO_PKG_NAME", name).env("CARGO_PKG_VERSION", "1.2.3").env("CARGO_CRATE_NAME", name);
        for extern_crate in ["plugin_api", "abi_stable", "serde"] {
            rustc.arg("--extern").arg(format!("{extern_crate}={}", newest(&deps, extern_crate).display()));
        }
        let search = format!("dependency={}", deps.display());
        compile(rustc.args(flags).arg("-L").arg(search).arg(source).arg("-o").arg(&path));
        path
    }

    /// The smallest legal plugin, as it is in the examples of `plugin-api`.
    pub fn smallest(&self) -> PathBuf {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-api/examples/smallest.rs");
        self.rust(&example, "smallest", &[])
    }

    pub fn by_hand(&self, fault: &str) -> PathBuf {
        self.rust(&fixtures().join("by_hand.rs"), "by_hand", &["--cfg", fault])
    }

    pub fn inspect(&self, path: &Path) -> Result<Admitted, GateError> {
        inspect(path, &self.config, &self.allowed)
    }

    /// Why the file is refused before it is opened: the whole chain, as an operator reads it.
    pub fn refusal(&self, path: &Path) -> String {
        chain(&self.inspect(path).expect_err("the file is refused"))
    }

    pub async fn look(&self, path: &Path) -> Result<FirstLook, GateError> {
        let admitted = self.inspect(path).expect("the file passes what needs no opening");
        let copy = private_copy(&admitted, &self.path("copies"), 1).expect("a private copy");
        let program = tests::binary::binary();
        first_look(program, copy.path(), &admitted.path, self.config.first_look_timeout).await
    }

    pub async fn refusal_of_look(&self, path: &Path) -> String {
        chain(&self.look(path).await.expect_err("the first look refuses it"))
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gate")
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions are set");
}

/// That a text names all of these.
#[track_caller]
pub fn names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

/// Waits until there are processes with this in their command lines, or none.
pub async fn processes(word: &Path, expected: bool) {
    let found = async || {
        while running(word.as_os_str()) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found()).await.expect("the processes are as expected");
}

fn running(word: &OsStr) -> bool {
    let processes = fs::read_dir("/proc").expect("the list of processes").flatten();
    let mut command_lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    command_lines.any(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_encoded_bytes()))
}

/// The library of a crate that was built last, which is that of this very build.
fn newest(deps: &Path, extern_crate: &str) -> PathBuf {
    let prefix = format!("lib{extern_crate}-");
    let libraries = fs::read_dir(deps).expect("the build's libraries").flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(".rlib")
    });
    let newest = libraries.max_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok());
    newest.unwrap_or_else(|| panic!("no {prefix}….rlib in {}", deps.display())).path()
}

fn compile(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

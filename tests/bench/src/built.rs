//! What a user would run: the built host, and the programs that it is compared with. Cargo builds none of them for the bench.

use std::path::PathBuf;
use std::process::Command;

/// Beside this very program.
///
/// # Panics
///
/// Where it has not been built.
pub fn bare_server() -> PathBuf {
    let program = std::env::current_exe().expect("a process knows its executable").with_file_name("bare-server");
    assert!(program.is_file(), "no {}: cargo build --release --workspace", program.display());
    program
}

/// Builds them, where cargo runs this program; what is there already is left alone. Elsewhere they have to be there.
///
/// # Panics
///
/// Where they cannot be built.
pub fn build() {
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    // Together with the bench: so the features are its own, and nothing is built twice.
    let packages = ["-p", "bench", "-p", "componenthost", "-p", "tests"];
    // Not this program itself, which is started again and again.
    let programs = ["bare-server", "componenthost", "embedded-etcd"].map(|name| ["--bin", name]);
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", profile]).args(packages).args(programs.as_flattened());
    let status = command.status();
    assert!(status.is_ok_and(|status| status.success()), "the host cannot be built");
}

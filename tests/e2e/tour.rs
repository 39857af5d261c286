//! The tour of `plugins/README.md`, run as it is written: each `$ ` line of its console blocks, in order, in one bash.
//!
//! It runs in a folder of its own, with an etcd of its own; the environment puts in place what a user's machine has: where
//! etcd and the program are, ports that are free, short leases. What is shown below a command has to be what it prints,
//! standard error included; `...` in a line is any text, a line of it alone any lines. Where nothing is shown the command
//! has to succeed. `UPDATE=1 tests/run tour` writes what was printed into the README where that differs.

mod page;
mod shown;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tests::binary::{binary, plugin_dir};
use tests::cluster::TTL_SECONDS;
use tests::etcd::Etcd;
use tests::{LIMIT, within};

use page::{Page, Step};

/// The whole tour, on a machine that does much else.
const TOUR_LIMIT: Duration = Duration::from_secs(150);

/// How a command went.
struct Ran {
    code: String,
    printed: String,
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where there is a `python3` that has NumPy: nowhere else than in the path, or Debian's.
fn python_with_numpy() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_numpy = |folder: &Path| {
        let program = folder.join("python3");
        let import = || Command::new(&program).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
        program.is_file() && import().is_ok_and(|status| status.success())
    };
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let found = folders.find(|folder| has_numpy(folder));
    found.expect("no python3 with NumPy: install the package python3-numpy, as `tests/run` does")
}

/// The folder of the tour: the shipped configurations, whose plugins are those of this build, and the program.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix("componenthost-tour-").expect("a temporary directory can be made");
    for name in ["bin", "config", "home", "out"] {
        std::fs::create_dir(folder.path().join(name)).expect("it is new");
    }
    std::os::unix::fs::symlink(binary(), folder.path().join("bin/componenthost")).expect("a link can be made");
    std::os::unix::fs::symlink(python_with_numpy().join("python3"), folder.path().join("bin/python3"))
        .expect("a link can be made");
    for role in ["rootcoord", "querycoord", "querynode"] {
        let file = format!("config/{role}.toml");
        let shipped = std::fs::read_to_string(project().join(&file)).expect("a shipped configuration");
        let mut config: toml::Table = shipped.parse().expect("it is TOML");
        let component = config["component"].as_table_mut().expect("it has components");
        let component = component[role].as_table_mut().expect("it has its role");
        let plugin = plugin_dir().join(format!("lib{role}.so")).display().to_string();
        component.insert("plugin".to_owned(), plugin.into());
        std::fs::write(folder.path().join(file), config.to_string()).expect("it is writable");
    }
    folder
}

/// A script that runs each step in the same shell, its output and its exit code each in a file.
fn script(steps: &[Step]) -> String {
    // Whatever it has started ends with it.
    let mut script = String::from("trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\ntrap 'exit 124' TERM\n");
    for (number, step) in steps.iter().enumerate() {
        let out = format!("\"$OUT/{number}\"");
        script.push_str(&format!("{{\n{}\n}} >{out} 2>&1 </dev/null\necho $? >{out}.code\n", step.command));
    }
    script
}

/// Runs the steps, as far as they come within the limit.
async fn run(steps: &[Step]) -> Vec<Ran> {
    let (etcd, folder) = (Etcd::start().await, folder());
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("script"), script(steps)).expect("it is writable");
    let mut bash = Command::new("bash");
    bash.arg(at("script")).current_dir(folder.path()).stdin(Stdio::null()).env_clear();
    let path = std::env::var("PATH").unwrap_or_default();
    bash.env("PATH", format!("{}:{path}", at("bin").display())).env("HOME", at("home")).env("OUT", at("out"));
    for (name, value) in [
        // Calls read where etcd is from the configuration that this names; hosts name their own.
        ("CONFIG", at("config/querycoord.toml").display().to_string()),
        ("ETCD_ENDPOINTS", etcd.endpoint()),
        ("SERVER_LISTEN", "127.0.0.1:0".to_owned()),
        ("ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("HOST_STATE_DIR", at("state").display().to_string()),
        ("HOST_RUN_DIR", at("run").display().to_string()),
        ("SESSION_TTL", format!("{TTL_SECONDS}s")),
    ] {
        bash.env(format!("COMPONENTHOST_{name}"), value);
    }
    let mut bash = bash.spawn().expect("there is a bash");
    let pid = Pid::from_raw(bash.id().cast_signed()).expect("a child's pid is not zero");
    let mut ended = tokio::task::spawn_blocking(move || bash.wait());
    if tokio::time::timeout(TOUR_LIMIT, &mut ended).await.is_err() {
        rustix::process::kill_process(pid, Signal::TERM).expect("a child can be signalled");
        drop(within(LIMIT, ended).await);
    }
    let read = |name: String| std::fs::read_to_string(at("out").join(name)).unwrap_or_default();
    let ran = |number: usize| {
        let code = read(format!("{number}.code")).trim().to_owned();
        // A bash that reads a script says on its own which of its jobs were killed, and when it likes.
        let of_bash = format!("{}: line ", at("script").display());
        let printed: String =
            read(number.to_string()).split_inclusive('\n').filter(|line| !line.starts_with(&of_bash)).collect();
        Ran { code, printed: printed.replace(&folder.path().display().to_string(), "...") }
    };
    (0..steps.len()).map(ran).collect()
}

#[tokio::test]
async fn it_runs_as_it_is_written() {
    let file = project().join("plugins/README.md");
    let text = std::fs::read_to_string(&file).expect("the README is there");
    let page = Page::new(&text);
    assert!(page.steps.len() > 10, "the tour was not found");
    let ran = run(&page.steps).await;
    let mut wrong = Vec::new();
    for (step, ran) in page.steps.iter().zip(&ran) {
        let as_shown = if step.shown.is_empty() { ran.code == "0" } else { shown::is(&step.shown, &ran.printed) };
        if ran.code.is_empty() || !as_shown {
            wrong.push((step, ran));
        }
    }
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        let printed = wrong.iter().map(|(step, ran)| (step.line, shown::masked(&ran.printed)));
        std::fs::write(&file, page.with(printed.collect())).expect("the README is writable");
        return;
    }
    let wrong = wrong.iter().map(|(step, Ran { code, printed })| {
        let (line, command, shown) = (step.line, &step.command, step.shown.join("\n"));
        let code = if code.is_empty() { "which did not end" } else { code };
        format!("plugins/README.md:{line}: {command}\nprinted (exit code {code}):\n{printed}\nshown:\n{shown}\n")
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Mistakes in the configuration and in the command line, as a user meets them: the text on standard error and code 64.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::binary::binary;

/// The program with these arguments and variables, and nothing else of the environment.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(binary()).args(arguments).env_clear().envs(variables.iter().copied()).output();
    let Output { status, stdout, stderr } = output.expect("the host can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

/// A file of that text, in a directory that goes with it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("host.toml");
    std::fs::write(&path, text).expect("it is writable");
    (directory, path.to_str().expect("UTF-8").to_owned())
}

const WRONG: &str = "[etcd]\nroot_pth = 'a'\n[shutdown]\ngrace = 5\n[admin]\nlisten = '0.0.0.0:1'\n[component.Root]\n";

#[test]
fn all_mistakes_of_file_and_variables_are_shown_at_once() {
    let (_directory, path) = file(WRONG);
    let variables = [("COMPONENTHOST_SESSION_TTL", "soon"), ("COMPONENTHOST_SESION_TTL", "5s")];
    for arguments in [&["--config", path.as_str()][..], &["check", "--config", path.as_str()]] {
        let (code, stdout, stderr) = run(arguments, &variables);
        assert_eq!((code, stdout.as_str()), (64, ""), "{stderr}");
        for part in [
            "6 mistakes in the configuration:",
            &format!("{path}:2: etcd.root_pth: unknown; the nearest known one is etcd.root_path"),
            &format!("{path}:4: shutdown.grace: expected a duration such as \"5s\", found 5"),
            &format!("{path}:6: admin.listen: expected a loopback address"),
            &format!("{path}:7: component.Root: 'Root' is no role"),
            "COMPONENTHOST_SESSION_TTL: session.ttl: expected a duration such as \"5s\", found \"soon\"",
            "COMPONENTHOST_SESION_TTL: unknown; the nearest known one is COMPONENTHOST_SESSION_TTL",
        ] {
            assert!(stderr.contains(part), "{part:?} is not in\n{stderr}");
        }
    }
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let (_directory, path) = file(WRONG);
    let (code, _, stderr) = run(&["check"], &[("COMPONENTHOST_CONFIG", &path)]);
    assert!(code == 64 && stderr.contains("etcd.root_pth"), "{code} {stderr}");
}

#[test]
fn a_file_that_is_not_toml_shows_the_line() {
    let (_directory, path) = file("[component.rootcoord]\n[component.rootcoord]\n");
    let (code, _, stderr) = run(&["--config", &path], &[]);
    assert!(code == 64 && stderr.contains(&format!("{path}:2: not valid TOML: duplicate key")), "{code} {stderr}");
    let (code, _, stderr) = run(&["--config", "/none/such.toml"], &[]);
    assert!(code == 64 && stderr.contains("/none/such.toml: cannot be read"), "{code} {stderr}");
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for arguments in [&[][..], &["start"], &["check"], &["call", "Root", "Check"], &["call", "rootcoord"]] {
        let (code, stdout, stderr) = run(arguments, &[]);
        assert!(code == 64 && stdout.is_empty() && stderr.contains("--help"), "{arguments:?}: {code} {stderr}");
    }
    for arguments in [&["--help"][..], &["check", "--help"], &["call", "--help"]] {
        let (code, stdout, _) = run(arguments, &[]);
        assert!(code == 0 && stdout.contains("Exit codes:"), "{arguments:?}: {code} {stdout}");
    }
}

#[test]
fn a_call_that_fails_ends_with_1() {
    let (code, stdout, stderr) = run(&["call", "rootcoord", "Check", "--address", "127.0.0.1:1"], &[]);
    let expected = stderr.starts_with("cannot connect to 127.0.0.1:1: ");
    assert!(code == 1 && stdout.is_empty() && expected, "{code} {stderr}");
}

#[test]
fn the_shipped_files_have_no_mistakes() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in ["reference.toml", "standalone.toml", "rootcoord.toml", "querycoord.toml", "querynode.toml"] {
        let path: PathBuf = config.join(name);
        let (code, _, stderr) = run(&["check", "--config", path.to_str().expect("UTF-8")], &[]);
        assert_ne!(code, 64, "{name}: {stderr}");
    }
}

#[test]
fn check_finds_what_only_the_plugin_knows() {
    let other_role = "[component.alpha]\nplugin = 'rootcoord'\n";
    let other_version = "[component.beta]\nplugin = 'probe_plugin'\nversion = '>=2'\n[component.beta.config]\n";
    let (_directory, path) = file(&format!("{other_role}{other_version}"));
    let (code, stdout, _) = run(&["check", "--config", &path], &[]);
    assert!(code == 1 && stdout.contains("alpha: refused:") && stdout.contains("beta: refused:"), "{code} {stdout}");

    let (_directory, path) = file("[component.querynode]\n[component.querynode.config]\nparallel_searches = 0\n");
    let variable = ("COMPONENTHOST_COMPONENT_QUERYNODE_CONFIG_DATA_DIR", "x");
    for arguments in [&["--config", path.as_str()][..], &["check", "--config", path.as_str()]] {
        let (code, stdout, stderr) = run(arguments, &[variable]);
        let text = stdout + &stderr;
        for part in [
            format!("{path}:3: component.querynode.config.parallel_searches: "),
            format!("{}: component.querynode.config.data_dir: unknown field", variable.0),
        ] {
            assert!(code == 64 && text.contains(&part), "{part:?} is not in {code} {text}");
        }
    }
}

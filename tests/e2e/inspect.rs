//! `componenthost plugin inspect`: the built program, before real files.

use std::path::Path;
use std::process::Command;

use plugin_api::identity::Role;
use serde_json::Value;
use tests::eventually::within;
use tests::host::LIMIT;

use crate::gate::bench::{Bench, names, set_mode};

/// The head of a plugin in Rust whose constructor is `$new`, and that may have a static constructor.
const HEAD: &str = "
    use plugin_api::{BoxError, Component, Context, Dependency, Descriptor, Services, async_trait};
    #[derive(serde::Deserialize)] struct Config {}
    struct Probed;
    #[async_trait]
    impl Component for Probed {
        fn descriptor(&self) -> Descriptor {
            Descriptor::coordinator(\"alpha\").depends_on(Dependency::nodes(\"beta\").optional()).gate(\"/a.B/C\")
        }
        async fn start(&self, _: Context) -> Result<Services, BoxError> { Ok(Services::new()) }
    }
    plugin_api::export!(new);
";

/// A plugin whose constructor has this body.
fn plugin(bench: &Bench, name: &str, body: &str) -> std::path::PathBuf {
    let source = format!("{HEAD} fn new(_: Config) -> Result<Probed, BoxError> {{ {body} }}");
    bench.rust(&bench.file(&format!("{name}.rs"), source), name, &[])
}

/// Its exit code, and what it has written to standard output.
async fn inspect(path: &Path, options: &[&str]) -> (i32, String) {
    let mut command = Command::new(tests::binary::binary());
    command.args(["plugin", "inspect"]).arg(path).args(options).env_remove("COMPONENTHOST_CONFIG");
    run(command).await
}

async fn run(mut command: Command) -> (i32, String) {
    let output = within(LIMIT, tokio::task::spawn_blocking(move || command.output())).await;
    let output = output.expect("no panic").expect("it runs");
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code().expect("an exit code"), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[tokio::test]
async fn a_plugin_is_described_from_outside_of_the_plugin_directories() {
    let bench = Bench::new();
    let path = plugin(&bench, "probed", "Ok(Probed)");
    let (code, text) = inspect(&path, &[]).await;
    assert_eq!(code, 0, "{text}");
    names(&text, &["probed 1.2.3, with plugin-api", "panic = unwind", "interfaces   1; this host takes 1"]);
    names(&text, &["alpha (coordinator)", "version      1.2.3", "beta (node, optional)", "gated        /a.B/C"]);
    names(&text, &["lease policy fence", "exports      componenthost_plugin_probed", "outside the plugin directories"]);
    names(&inspect(&path, &["--role", "beta"]).await.1, &["alpha: a host refuses it as beta"]);

    let (code, json) = inspect(&path, &["--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let admitted = bench.inspect(&path).expect("a plugin");
    assert_eq!((code, &json["file"]["sha256"]), (0, &admitted.sha256.to_string().into()));
    assert_eq!((&json["file"]["size"], &json["interface"]), (&admitted.size.into(), &1.into()));
    assert_eq!((&json["component"]["role"], &json["component"]["gated"][0]), (&"alpha".into(), &"/a.B/C".into()));
    assert!(json["refused"].is_null() && json["wrote"].is_null(), "{json}");
}

#[tokio::test]
async fn one_that_plays_any_role_is_asked_as_the_one_that_is_named() {
    let bench = Bench::new();
    let path = bench.smallest();
    names(&inspect(&path, &[]).await.1, &["role         any; --role"]);
    names(&inspect(&path, &["--role", "gamma"]).await.1, &["role         gamma (node)"]);
}

#[tokio::test]
async fn the_place_is_judged_by_the_configuration() {
    let bench = Bench::new();
    let path = bench.smallest();
    let role = Role::new("alpha").expect("a role");
    let text = format!("[plugins]\ndirs = [\"{}\"]\n[component.{role}]\n", bench.dir.path().display());
    let config = bench.file("host.toml", text).display().to_string();
    names(&inspect(&path, &["--config", &config]).await.1, &["place        a host would open it there"]);
    set_mode(&path, 0o777);
    let (code, text) = inspect(&path, &["--config", &config]).await;
    assert_eq!(code, 0, "{text}");
    names(&text, &["can be written by everybody", "smallest 1.2.3"]);
}

#[tokio::test]
async fn a_constructor_that_wants_more_than_nothing_is_told_with_the_rest() {
    let bench = Bench::new();
    for (name, body, words) in [
        ("refuses", "Err(\"no folder was given\".into())", "no folder was given"),
        ("panics", "panic!(\"no folder at all\")", "panicked: no folder at all"),
    ] {
        let (code, text) = inspect(&plugin(&bench, name, body), &[]).await;
        assert_eq!(code, 0, "{text}");
        names(&text, &["its constructor refuses an empty configuration", words, &format!("{name} 1.2.3"), "sha256"]);
    }
}

#[tokio::test]
async fn one_that_ends_its_process_while_a_component_is_made_is_told_with_the_rest() {
    let bench = Bench::new();
    for (name, body, end) in
        [("aborts", "std::process::abort()", "signal 6 (SIGABRT)"), ("leaves", "std::process::exit(0)", "exit code 0")]
    {
        let (code, text) = inspect(&plugin(&bench, name, body), &[]).await;
        assert_eq!(code, 1, "{text}");
        names(
            &text,
            &["while a component was made of an empty configuration", end, &format!("{name} 1.2.3"), "sha256"],
        );
    }
}

#[tokio::test]
async fn one_that_ends_its_process_while_it_is_opened_is_told() {
    let bench = Bench::new();
    for (fixture, end) in [("aborts", "signal 6 (SIGABRT)"), ("exits", "exit code 0")] {
        let (code, text) = inspect(&bench.c(fixture), &[]).await;
        assert_eq!(code, 1, "{text}");
        names(&text, &["while it was being opened", end, "sha256", "exports"]);
    }
    let (code, text) = inspect(&bench.c("garbage"), &[]).await;
    assert_eq!(code, 1, "{text}");
    names(&text, &["while it was asked for its root module"]);
}

#[tokio::test]
async fn one_that_hangs_is_ended_at_the_limit() {
    let bench = Bench::new();
    let text = "[plugins]\nfirst_look_timeout = \"300ms\"\n[component.alpha]\n";
    let config = bench.file("host.toml", text).display().to_string();
    for path in [bench.c("hangs"), plugin(&bench, "sleeps", "loop { std::thread::park() }")] {
        let (code, text) = inspect(&path, &["--config", &config]).await;
        assert_eq!(code, 1, "{text}");
        names(&text, &["took more than 300ms while"]);
    }
}

#[tokio::test]
async fn what_it_writes_to_standard_output_is_told() {
    let bench = Bench::new();
    let (code, text) = inspect(&plugin(&bench, "talks", "println!(\"{{\\\"hello\\\": 7}}\"); Ok(Probed)"), &[]).await;
    assert_eq!(code, 1, "{text}");
    names(&text, &["writes       to standard output, which is the host's: '{\"hello\": 7}'", "alpha (coordinator)"]);
    let json = inspect(&bench.path("libtalks.so"), &["--json"]).await.1;
    assert!(serde_json::from_str::<Value>(&json).is_ok(), "what it writes is not among what is said of it: {json}");
}

#[tokio::test]
async fn what_is_no_plugin_or_cannot_be_read_is_told() {
    let bench = Bench::new();
    let whole = bench.smallest();
    let bytes = std::fs::read(&whole).expect("a plugin");
    for (path, words) in [
        (bench.path("nothing.so"), "No such file"),
        (bench.dir.path().to_owned(), "a directory: expected a regular file"),
        (bench.file("text.so", "a text"), "not an ELF file"),
        (bench.file("short.so", &bytes[..bytes.len() / 2]), "truncated"),
        (bench.c("plain"), "no symbol that begins with componenthost_plugin_"),
    ] {
        let (code, text) = inspect(&path, &[]).await;
        assert_eq!(code, 1, "{text}");
        names(&text, &["refused", words]);
    }
    set_mode(&whole, 0o000);
    let (code, text) = run(without_roots_rights(&whole)).await;
    assert_eq!(code, 1, "{text}");
    names(&text, &["refused", "Permission denied"]);
}

/// Root may read everything, unless it has given that up.
fn without_roots_rights(path: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if std::fs::read("/proc/self/status").is_ok_and(|status| String::from_utf8_lossy(&status).contains("\nUid:\t0\t")) {
        command.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    command.arg(tests::binary::binary()).args(["plugin", "inspect"]).arg(path).env_remove("COMPONENTHOST_CONFIG");
    command
}

//! `componenthost connections`: the built program, asked for what a host shows.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::eventually::{eventually, holds, within};
use tests::host::LIMIT;
use tests::probe::{calling_nodes, node};
use tests::{Cluster, Host};
use tokio::sync::mpsc;

/// The program with these arguments, and no variables that would lead it to other hosts.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(tests::binary::binary());
    command.arg("connections").args(arguments);
    command.env_remove("COMPONENTHOST_CONFIG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit code, and what it has written to standard output and standard error.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut program = program(arguments);
    let output = tokio::task::spawn_blocking(move || program.output());
    let output = within(LIMIT, output).await.expect("no panic").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

fn in_folder(host: &Host, name: &str) -> String {
    host.directory().join(name).display().to_string()
}

async fn socket(host: &Host, role: &str) -> String {
    let id = host.healthy().await.component(role).await["server_id"].clone();
    in_folder(host, &format!("run/{id}.sock"))
}

#[tokio::test]
async fn the_table_of_a_running_host_is_shown() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling_nodes("beta")).await;
    let beta = cluster.probe("beta", node()).await;
    let id = beta.healthy().await.component("beta").await["server_id"].clone();
    let socket = socket(&alpha, "alpha").await;
    let config = in_folder(&alpha, "host.toml");
    // By its socket, by its configuration, and by its role.
    for arguments in [&["--socket", &socket][..], &["--config", &config], &["alpha", "--config", &config, "--events"]] {
        let shown = eventually(LIMIT, async || {
            let (code, out, error) = run(arguments).await;
            holds(code == 0 && out.contains(&format!("beta-{id}")) && out.contains("ready"), (&out, &error))
                .map(|()| out.clone())
                .map_err(|_| format!("{out}{error}"))
        })
        .await;
        assert!(shown.contains("beta, for alpha (node, required): 1 peer; table of revision "), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        assert_eq!(shown.contains(&format!("beta-{id} online")), arguments.contains(&"--events"), "{shown}");
    }
    let (_, json, _) = run(&["--socket", &socket, "--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let api = alpha.connections().await;
    for field in ["registration", "session", "link", "attempts", "address"] {
        let of = |view: &Value| view["dependencies"][0]["peers"][0][field].clone();
        assert_eq!(of(&json), of(&api), "{field}");
    }
    assert!(json["dependencies"][0]["events"].as_array().is_some_and(|events| !events.is_empty()), "{json}");
}

#[tokio::test]
async fn where_there_is_not_one_host_it_says_so() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let write = |run: &Path, file: &str| {
        let path = folder.path().join(file);
        let probe = "[component.alpha]\nplugin = \"probe_plugin\"\n";
        std::fs::write(&path, format!("[host]\nrun_dir = \"{}\"\n{probe}", run.display())).expect("a file");
        path.display().to_string()
    };
    let nowhere = write(&folder.path().join("nowhere"), "nowhere.toml");
    let (code, _, error) = run(&["--config", &nowhere]).await;
    assert!(code == 1 && error.contains("no host of this user answers in "), "{code} {error}");
    let (code, _, error) = run(&["--socket", "/no/such.sock"]).await;
    assert!(code == 1 && error.contains("the host at /no/such.sock gives no answer: cannot connect"), "{code} {error}");
    assert_eq!(run(&["--config", "/no/such.toml"]).await.0, 64);

    // Two hosts with sockets in one directory, and a socket that was left behind.
    let cluster = Cluster::start().await;
    let run_dir = folder.path().join("run");
    let variable = [("COMPONENTHOST_HOST_RUN_DIR", run_dir.to_str().expect("UTF-8"))];
    let spawn = |role: &str| {
        let config = cluster.config().probe(role, calling_nodes("beta"));
        cluster.spawn_program(tests::binary::binary(), config, &variable)
    };
    let (one, other) = (spawn("alpha"), spawn("gamma"));
    tokio::join!(one.healthy(), other.healthy());
    drop(std::os::unix::net::UnixListener::bind(run_dir.join("77.sock")).expect("a socket"));
    let config = write(&run_dir, "both.toml");
    let (code, _, error) = run(&["--config", &config]).await;
    assert!(code == 1 && error.contains("several hosts run here") && !error.contains("77.sock"), "{code} {error}");
    assert!(["alpha (server id ", "gamma (server id "].iter().all(|name| error.contains(name)), "{error}");
    let (code, out, error) = run(&["gamma", "--config", &config]).await;
    assert!(code == 0 && out.starts_with("gamma (server id "), "{code} {out} {error}");
    let (code, _, error) = run(&["beta", "--config", &config]).await;
    assert!(code == 1 && error.contains("no host with the role beta runs here; there are:"), "{code} {error}");
    let (code, _, error) = run(&["--config", &config, "--server-id", "999999"]).await;
    assert!(code == 1 && error.contains("no host with the server id 999999"), "{code} {error}");

    // One that does not answer.
    other.sigstop().await;
    let id = one.component("alpha").await["server_id"].clone();
    let (code, out, error) = run(&["--config", &config, "--timeout", "300ms"]).await;
    assert!(code == 0 && out.starts_with(&format!("alpha (server id {id})")), "{code} {out} {error}");
    one.sigstop().await;
    let (code, _, error) = run(&["--config", &config, "--timeout", "300ms"]).await;
    assert!(code == 1 && error.contains("not within 300ms (--timeout)"), "{code} {error}");
    one.cont();
    other.cont();
}

#[tokio::test]
async fn what_happens_is_appended_where_there_is_no_terminal() {
    let cluster = Cluster::start().await;
    let alpha = cluster.probe("alpha", calling_nodes("beta")).await;
    let socket = socket(&alpha, "alpha").await;
    let mut child = program(&["--socket", &socket, "--watch"]).spawn().expect("it runs");
    let (sender, mut lines) = mpsc::unbounded_channel();
    let out = BufReader::new(child.stdout.take().expect("piped"));
    // It ends with the program.
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut line = async |text: &str| loop {
        let line = within(LIMIT, lines.recv()).await.expect("another line");
        if line.contains(text) {
            return line;
        }
    };
    line("nobody is registered").await;
    let beta = cluster.probe("beta", node()).await;
    let online = line(" online").await;
    let id = beta.healthy().await.component("beta").await["server_id"].clone();
    assert!(online.ends_with(&format!("beta-{id} online")), "{online}");
    beta.kill9();
    line(&format!("beta-{id} offline: SESSION_GONE")).await;
    assert!(alpha.stop().await.success());
    line("alpha Stopping").await;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = within(LIMIT, output).await.expect("no panic").expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("has ended"), "{output:?}");
}

//! The read-only answers over HTTP, asked with plain requests.

mod events;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use componenthost::admin::{self, ComponentView, Feed, MissingDependency, Past, PluginView, StepName, View};
use componenthost::metrics::Family;
use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use plugin_api::state::StateCode;
use serde_json::{Value, json};
use tests::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the fake host shows; a test turns it as it likes.
#[derive(Default)]
struct Shown(Mutex<Vec<ComponentView>>, Feed);

impl View for Shown {
    fn components(&self) -> Vec<ComponentView> {
        self.0.lock().expect("no test panics with it").clone()
    }

    fn connections(&self, past: Past) -> Value {
        let events = if past == Past::With { json!([{ "event": "online" }]) } else { json!([]) };
        json!({ "dependencies": [{ "role": "rootcoord", "events": events }] })
    }

    fn measured(&self) -> Vec<Family> {
        Vec::new()
    }

    fn feed(&self) -> &Feed {
        &self.1
    }
}

struct Admin {
    address: SocketAddr,
    shown: Arc<Shown>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Admin {
    async fn start(components: Vec<ComponentView>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shown = Arc::new(Shown(Mutex::new(components), Feed::new()));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(admin::run(listener, shown.clone(), shutdown.clone()));
        Self { address, shown, shutdown, task }
    }

    /// Status and body of one request.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let answer = tests::admin::request(&self.address.to_string(), &request).await.expect("an answer");
        (answer.status, answer.body)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &format!("Host: {}\r\n", self.address)).await
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    fn change(&self, change: impl FnOnce(&mut ComponentView)) {
        change(&mut self.shown.0.lock().expect("no test panics with it")[0]);
    }
}

fn role(name: &str) -> Role {
    Role::new(name).expect("a role")
}

fn healthy(name: &str) -> ComponentView {
    ComponentView {
        role: role(name),
        server_id: Some(ServerId(7)),
        kind: Some(Kind::Coordinator),
        version: Some("1.2.3".to_owned()),
        generation: 1,
        state_code: StateCode::Healthy,
        fenced: false,
        quarantined: false,
        serving_step: None,
        steps: Vec::new(),
        cause: None,
        since_ms: 12,
        restarts: 0,
        session: json!({ "held": true }),
        tables: Vec::new(),
        missing: Vec::new(),
        plugin: Some(PluginView { path: "/p/librootcoord.so".to_owned(), sha256: "00".to_owned() }),
        generations: Vec::new(),
        swap: None,
        swaps: Vec::new(),
    }
}

fn ok() -> (u16, String) {
    (200, "ok\n".to_owned())
}

#[tokio::test]
async fn an_unhealthy_component_is_named_with_its_step() {
    let admin = Admin::start(vec![healthy("querycoord"), healthy("rootcoord")]).await;
    assert_eq!(admin.get("/healthz").await, ok());
    admin.change(|component| {
        component.state_code = StateCode::Abnormal;
        component.serving_step = Some(StepName { number: 4, name: "session".to_owned() });
        component.cause = Some("start: disk full".to_owned());
    });
    let wrong = (503, "querycoord: Abnormal, step 4 (session): start: disk full\n".to_owned());
    assert_eq!(admin.get("/healthz").await, wrong);
    assert_eq!(admin.get("/readyz").await, wrong);
    assert_eq!(admin.get("/livez").await, ok());
}

#[tokio::test]
async fn every_state_code_has_its_health() {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    for code in StateCode::ALL {
        admin.change(|component| component.state_code = code);
        let expected = if matches!(code, StateCode::Healthy | StateCode::StandBy) { 200 } else { 503 };
        assert_eq!(admin.get("/healthz").await.0, expected, "{code}");
    }
}

#[tokio::test]
async fn a_fence_and_a_missing_dependency_leave_it_healthy_and_not_ready() {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    let missing = MissingDependency { role: role("rootcoord"), reason: "nobody is registered".to_owned() };
    admin.change(|component| component.missing.push(missing));
    assert_eq!(admin.get("/healthz").await, ok());
    let text = "querycoord: required dependency rootcoord cannot be called: nobody is registered\n";
    assert_eq!(admin.get("/readyz").await, (503, text.to_owned()));
    admin.change(|component| {
        component.missing.clear();
        component.fenced = true;
    });
    assert_eq!(admin.get("/healthz").await, ok());
    let (status, text) = admin.get("/readyz").await;
    assert!(status == 503 && text.starts_with("querycoord: fenced"), "{status} {text}");
}

#[tokio::test]
async fn components_and_connections_are_json() {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    let (status, all) = admin.json("/api/v1/components").await;
    assert_eq!((status, all["components"].as_array().map(Vec::len)), (200, Some(1)));
    let (status, one) = admin.json("/api/v1/components/querycoord").await;
    assert_eq!((status, &one), (200, &all["components"][0]));
    let fields = [("role", json!("querycoord")), ("server_id", json!(7)), ("state_code", json!("Healthy"))];
    for (field, value) in fields {
        assert_eq!(one[field], value, "{field}");
    }
    let (status, none) = admin.json("/api/v1/components/rootcoord").await;
    assert_eq!((status, &none["roles"]), (404, &json!(["querycoord"])));
    for (query, events) in [("", 1), ("?events=true", 1), ("?events=false", 0)] {
        let dependency = admin.json(&format!("/api/v1/connections{query}")).await.1["dependencies"][0].clone();
        assert_eq!(
            (&dependency["role"], dependency["events"].as_array().map(Vec::len)),
            (&json!("rootcoord"), Some(events))
        );
    }
    assert_eq!(admin.get("/api/v1/connections?event=false").await.0, 400);
    let (status, text) = admin.get("/nothing").await;
    assert!(status == 404 && text.contains("/api/v1/connections"), "{status} {text}");
}

#[tokio::test]
async fn other_hosts_origins_and_methods_are_refused() {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    let own = format!("Host: {}\r\n", admin.address);
    for (method, headers, expected) in [
        ("GET", own.clone(), 200),
        ("HEAD", own.clone(), 200),
        ("GET", format!("Host: localhost:{}\r\n", admin.address.port()), 200),
        ("GET", format!("{own}Origin: http://{}\r\n", admin.address), 200),
        ("GET", "Host: evil.example\r\n".to_owned(), 403),
        ("GET", "Host: 127.0.0.1:1\r\n".to_owned(), 403),
        ("GET", String::new(), 403),
        ("GET", format!("{own}Origin: http://evil.example\r\n"), 403),
        ("POST", own.clone(), 405),
        ("DELETE", own.clone(), 405),
        ("OPTIONS", own.clone(), 405),
    ] {
        let (status, text) = admin.ask(method, "/livez", &headers).await;
        assert_eq!(status, expected, "{method} {headers} {text}");
        assert!(method == "HEAD" || !text.is_empty(), "{method} {headers} has no text");
    }
}

#[tokio::test]
async fn the_stop_does_not_wait_for_an_idle_client() {
    let admin = Admin::start(vec![healthy("querycoord")]).await;
    // Accepted before the stop, and silent: a second client's answer proves that the first was accepted.
    let _silent = TcpStream::connect(admin.address).await.expect("it listens");
    assert_eq!(admin.get("/livez").await, ok());
    admin.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), admin.task).await;
    ended.expect("within the limit").expect("no panic").expect("no error");
    assert!(TcpStream::connect(admin.address).await.is_err(), "it listens no more");
}

#[tokio::test]
async fn the_hosts_own_user_is_answered_over_a_socket() {
    let cluster = Cluster::start().await;
    let host = cluster.probe("alpha", json!({})).await;
    let server_id = host.healthy().await.component("alpha").await["server_id"].clone();
    let socket = host.directory().join("run").join(format!("{server_id}.sock"));

    let mode = std::fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its own user alone");
    let mut stream = UnixStream::connect(&socket).await.expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n").await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    assert!(host.stop().await.success());
    assert!(!socket.exists(), "it goes with its host");
}

#[tokio::test]
async fn the_socket_of_another_cluster_is_left_alone() {
    let run_dir = tempfile::tempdir().expect("a temporary directory can be made");
    let run_dir_variable = [("COMPONENTHOST_HOST_RUN_DIR", run_dir.path().to_str().expect("UTF-8"))];
    let spawn = |cluster: &Cluster| {
        cluster.spawn_program(tests::binary::binary(), cluster.config().probe("alpha", json!({})), &run_dir_variable)
    };
    let (one, other) = (Cluster::start().await, Cluster::start().await);
    let first = spawn(&one);
    first.healthy().await;
    // Each cluster counts its ids from 1.
    let second = spawn(&other);
    second.healthy().await;
    second.logged(|line| line.message() == "no admin socket").await;
    second.stop().await;
    UnixStream::connect(run_dir.path().join("1.sock")).await.expect("the first one's socket answers");
}

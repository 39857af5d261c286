//! A host under test: a real process of the built binary, and what can be done to it and asked of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::admin::{self, Answer};
use crate::config::HostConfig;
use crate::eventually::{eventually, holds};
use crate::log::LogLine;
use crate::process::Process;
use crate::sockets;

/// A host answers, becomes Healthy, or ends within this time, on a machine that does much else.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A host of a [`crate::cluster::Cluster`]. Its process is killed on drop.
pub struct Host {
    program: PathBuf,
    name: String,
    config: HostConfig,
    start: Start,
    directory: TempDir,
    run: Mutex<Run>,
}

/// What each process is started with, beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Variables of the environment.
    pub env: Vec<(String, String)>,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// The present process and where it is reached.
#[derive(Clone)]
struct Run {
    number: u32,
    process: Arc<Process>,
    addresses: Option<Addresses>,
}

#[derive(Clone)]
struct Addresses {
    listen: String,
    admin: String,
}

impl Host {
    /// Starts a host and does not wait for anything. `config` needs no folders: the host gets a temporary one.
    pub fn spawn(program: &Path, name: &str, config: HostConfig, start: Start) -> Self {
        let directory = TempDir::with_prefix("componenthost-test-").expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = config.set("host.state_dir", path("state")).set("host.run_dir", path("run"));
        config.write(&directory.path().join("host.toml"));
        let run = Mutex::new(Run::start(program, name, &directory, &start, 1));
        Self { program: program.to_owned(), name: name.to_owned(), config, start, directory, run }
    }

    /// The host's own folder, for whatever a test lays beside its configuration.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Its configuration.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Waits until it has said where it listens.
    pub async fn listening(&self) -> &Self {
        self.addresses().await;
        self
    }

    /// Waits until all its components are Healthy, and `/healthz` says so.
    pub async fn healthy(&self) -> &Self {
        eventually(LIMIT, || async {
            let answer = self.get("/healthz").await;
            // A standby is in good health too, and not what is waited for.
            let components = self.components().await;
            let codes = components["components"].as_array().into_iter().flatten().map(|each| &each["state_code"]);
            let all = codes.into_iter().all(|code| code == "Healthy");
            if answer.status == 200 && all { Ok(()) } else { Err((answer, components)) }
        })
        .await;
        self
    }

    /// `host:port` of its gRPC listener.
    pub async fn address(&self) -> String {
        self.addresses().await.listen
    }

    /// `host:port` of its admin listener.
    pub async fn admin_address(&self) -> String {
        self.addresses().await.admin
    }

    /// A connection to it, as any gRPC client has one.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address().await)).expect("an address is a URI");
        eventually(LIMIT, || endpoint.connect()).await
    }

    /// Gets a path of its admin listener.
    pub async fn get(&self, path: &str) -> Answer {
        let address = self.admin_address().await;
        eventually(LIMIT, || async {
            self.assert_running();
            admin::get(&address, path).await
        })
        .await
    }

    /// `/api/v1/components`.
    pub async fn components(&self) -> Value {
        self.get("/api/v1/components").await.json()
    }

    /// `/api/v1/components/{role}`.
    ///
    /// # Panics
    ///
    /// Where there is no such component.
    pub async fn component(&self, role: &str) -> Value {
        let answer = self.get(&format!("/api/v1/components/{role}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until a component has that state code, and gives its view.
    pub async fn in_state(&self, role: &str, state_code: &str) -> Value {
        eventually(LIMIT, || async {
            let view = self.component(role).await;
            if view["state_code"] == state_code { Ok(view) } else { Err(view) }
        })
        .await
    }

    /// Waits until `/readyz` answers 200: all its required dependencies can be called.
    pub async fn ready(&self) -> &Self {
        eventually(LIMIT, || async {
            let answer = self.get("/readyz").await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
        self
    }

    /// The id of its present process, as soon as etcd has given it out.
    ///
    /// # Panics
    ///
    /// Where it has no such component.
    pub async fn server_id(&self, role: &str) -> i64 {
        eventually(LIMIT, || async { self.component(role).await["server_id"].as_i64().ok_or("no id yet") }).await
    }

    /// The number of its present process.
    pub fn pid(&self) -> i32 {
        self.run().process.pid().as_raw_nonzero().get()
    }

    /// How many TCP connections to an address its present process has made.
    pub fn connected_to(&self, address: &str) -> usize {
        let address: SocketAddr = address.parse().expect("an address");
        sockets::connected_to(self.pid(), address)
    }

    /// `/api/v1/connections`.
    pub async fn connections(&self) -> Value {
        self.get("/api/v1/connections").await.json()
    }

    /// What its present process has written.
    pub fn log(&self) -> Vec<LogLine> {
        self.run().process.log()
    }

    /// The end of what its present process has written, as it is.
    pub fn tail(&self) -> String {
        self.run().process.tail()
    }

    /// Waits until its present process has written a line for which `matches` holds, and gives that line.
    #[track_caller]
    pub fn logged(&self, matches: impl Fn(&LogLine) -> bool) -> impl Future<Output = LogLine> {
        let process = self.run().process;
        eventually(LIMIT, move || {
            let found = process.log().into_iter().find(|line| matches(line));
            async move { found.ok_or("no such line") }
        })
    }

    /// What is run, and with which variables of the environment.
    pub fn program(&self) -> (&Path, &[(String, String)]) {
        (&self.program, &self.start.env)
    }

    /// Has its process not ended?
    pub fn is_running(&self) -> bool {
        self.run().process.exit_status().is_none()
    }

    /// # Panics
    ///
    /// Where its process has ended.
    pub fn assert_running(&self) {
        let run = self.run();
        if let Some(status) = run.process.exit_status() {
            panic!("{} has ended with {status}:\n{}", self.name, run.process.tail());
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&self) {
        self.run().process.kill();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.run().process.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.run().process.signal(Signal::HUP);
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn stop(&self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&self) -> impl Future<Output = ExitStatus> {
        let process = self.run().process;
        eventually(Duration::from_secs(60), move || {
            let status = process.exit_status();
            async move { status.ok_or("it runs") }
        })
    }

    /// Holds it with SIGSTOP: its connections stay, and nothing answers. Returns when all its threads are held.
    pub async fn sigstop(&self) {
        let process = self.run().process;
        process.signal(Signal::STOP);
        eventually(LIMIT, async || holds(process.is_held(), "some of its threads run")).await;
    }

    /// Lets it go on after [`Host::sigstop`].
    pub fn cont(&self) {
        self.run().process.signal(Signal::CONT);
    }

    /// Starts it again from the same file and in the same folder; what runs of it is killed first.
    pub async fn restart(&self) -> &Self {
        self.kill9();
        let number = self.run().number + 1;
        *self.lock() = Run::start(&self.program, &self.name, &self.directory, &self.start, number);
        self.listening().await
    }

    async fn addresses(&self) -> Addresses {
        if let Some(known) = self.run().addresses {
            return known;
        }
        let number = self.run().number;
        let found = eventually(LIMIT, || async {
            self.assert_running();
            let lines = self.log();
            let line = lines.iter().find(|line| line.message() == "listening").ok_or("no line 'listening'")?;
            let text = |name| line.text(name).ok_or("a line 'listening' without addresses");
            Ok::<_, &str>(Addresses { listen: text("listen")?, admin: text("admin")? })
        })
        .await;
        let mut run = self.lock();
        if run.number == number {
            run.addresses = Some(found.clone());
        }
        found
    }

    fn run(&self) -> Run {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Run {
    fn start(program: &Path, name: &str, directory: &TempDir, start: &Start, number: u32) -> Self {
        let config = directory.path().join("host.toml").display().to_string();
        let output = directory.path().join(format!("output-{number}"));
        let own = start.arguments.iter().map(String::as_str);
        let arguments: Vec<_> = ["--config", &config].into_iter().chain(own).collect();
        let process = Process::start(name, program, &arguments, &start.env, &output);
        Self { number, process: Arc::new(process), addresses: None }
    }
}

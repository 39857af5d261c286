//! A real etcd for tests: Debian's binary on free loopback ports, with knobs for what goes wrong with it.
//!
//! [`shared`] gives one server for the whole test process; each test then works under a [`Etcd::prefix`] of its own. A test
//! that stops or kills its server starts one for itself. A watchdog process removes server and data when the test process
//! ends, however it ends.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use componenthost::cluster::{Keys, Record};
use componenthost::etcd::EtcdConfig;
use etcd_client::{Client, CompactionOptions, ConnectOptions, PutOptions};
use plugin_api::identity::{Role, ServerId};
use rustix::process::{Pid, Signal};
use tokio::sync::OnceCell;

use crate::eventually::{eventually, holds};
use crate::process::is_held;

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between the leader's heartbeats.
    pub heartbeat: Duration,
    /// Time without a heartbeat until an election. The least TTL of a lease is 1.5 times this, rounded up to seconds.
    pub election: Duration,
}

impl Default for Settings {
    /// Quick: answers after 50 to 130 ms, and allows leases of 1 s.
    fn default() -> Self {
        Self { heartbeat: Duration::from_millis(10), election: Duration::from_millis(100) }
    }
}

/// A running server. It is killed, and its data removed, on drop.
pub struct Etcd {
    settings: Settings,
    client_port: u16,
    /// Where it listens now: `client_port`, but while it is hidden.
    listens_at: AtomicU16,
    peer_port: u16,
    directory: PathBuf,
    server: Mutex<Option<Child>>,
    /// Kills the server and removes the directory when its standard input is closed.
    watchdog: Child,
}

/// A session that another host might have put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSession {
    /// Its key.
    pub key: String,
    /// Its lease; nobody renews it.
    pub lease_id: i64,
    /// The revision at which its key was put.
    pub revision: i64,
}

/// The server that all tests of this process share.
///
/// # Panics
///
/// As [`Etcd::start`].
pub async fn shared() -> &'static Etcd {
    static SHARED: OnceCell<Etcd> = OnceCell::const_new();
    SHARED.get_or_init(Etcd::start).await
}

impl Etcd {
    /// Starts a server with quick settings and waits until it answers.
    ///
    /// # Panics
    ///
    /// Where there is no `etcd` in the path, or it does not answer; the text says which.
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts a server with these settings and waits until it answers.
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`].
    pub async fn start_with(settings: Settings) -> Self {
        // A port that was free may be taken before the server binds it: then others are chosen.
        for _ in 0..5 {
            let started = Self::spawn(settings.clone());
            if started.wait_until_it_answers().await {
                return started;
            }
        }
        panic!("etcd ends as soon as it is started, five times in a row");
    }

    fn spawn(settings: Settings) -> Self {
        let directory = data_directory();
        let watchdog = Command::new("sh")
            .args(["-c", "read -r end; kill -9 $(cat \"$0/pid\"); rm -rf \"$0\""])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: an interrupt from the terminal must not take the watchdog along.
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let (client_port, peer_port) = free_ports();
        let (listens_at, server) = (AtomicU16::new(client_port), Mutex::new(None));
        let etcd = Self { settings, client_port, listens_at, peer_port, directory, server, watchdog };
        etcd.launch();
        etcd
    }

    fn launch(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("the data directory is writable");
        let client_url = format!("http://127.0.0.1:{}", self.listens_at.load(Ordering::Relaxed));
        let peer_url = format!("http://127.0.0.1:{}", self.peer_port);
        // The shell becomes the server: its pid is in the file before anything else happens.
        let server = Command::new("sh")
            .args(["-c", "echo $$ > \"$0/pid\"; exec etcd \"$@\""])
            .arg(&self.directory)
            .args(["--name", "test", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("test={peer_url}")])
            .args(["--heartbeat-interval", &self.settings.heartbeat.as_millis().to_string()])
            .args(["--election-timeout", &self.settings.election.as_millis().to_string()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        *self.lock() = Some(server);
    }

    /// False: it has ended at once, because a port was taken.
    async fn wait_until_it_answers(&self) -> bool {
        let since = Instant::now();
        let mut client = self.client().await;
        loop {
            if let Some(status) = self.lock().as_mut().and_then(|server| server.try_wait().ok().flatten()) {
                let log = self.log();
                assert!(status.code() != Some(127), "no etcd in the path: install the package etcd-server\n{log}");
                assert!(log.contains("address already in use"), "etcd has ended with {status}:\n{log}");
                return false;
            }
            // A linearizable read: there is a leader.
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), client.get("ready", None)).await {
                return true;
            }
            assert!(since.elapsed() < START_LIMIT, "etcd does not answer within {START_LIMIT:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `127.0.0.1:port`, as `etcd.endpoints` has it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// A root path (`etcd.root_path`) that no other test has.
    pub fn prefix(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A client of its own: connections belong to the runtime of the test that made them.
    ///
    /// # Panics
    ///
    /// Never: the client connects when it is first used.
    pub async fn client(&self) -> Client {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
        let endpoint = format!("127.0.0.1:{}", self.listens_at.load(Ordering::Relaxed));
        Client::connect([endpoint], Some(options)).await.expect("an endpoint without credentials is not dialled")
    }

    /// What the server has written: warnings and errors.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Holds the server with SIGSTOP: its connections stay, and nothing answers.
    pub async fn stop(&self) {
        let process = self.signal(Signal::STOP);
        eventually(START_LIMIT, async || holds(is_held(process), "some of its threads run")).await;
    }

    /// Lets a stopped server go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the server with SIGKILL and waits for its end. Its data stays for [`Etcd::restart`].
    pub fn kill(&self) {
        if let Some(mut server) = self.lock().take() {
            // Neither fails for a child that has not been waited for.
            server.kill().expect("a child can be killed");
            server.wait().expect("a child can be waited for");
            // Its number may soon be another process's.
            std::fs::remove_file(self.directory.join("pid")).expect("the server has written its pid");
        }
    }

    /// Starts the server again, on the same ports and with its data, and waits until it answers.
    ///
    /// # Panics
    ///
    /// Where it does not answer, or others hold its ports for long.
    pub async fn restart(&self) {
        let since = Instant::now();
        loop {
            self.kill();
            self.launch();
            if self.wait_until_it_answers().await {
                return;
            }
            assert!(since.elapsed() < START_LIMIT, "another process holds etcd's port:\n{}", self.log());
        }
    }

    /// As a host connects to it, under a root path of its own.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn registry(&self) -> componenthost::etcd::Etcd {
        self.registry_at(&self.prefix()).await
    }

    /// As a host connects to it, under this root path.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn registry_at(&self, root_path: &str) -> componenthost::etcd::Etcd {
        let config = EtcdConfig {
            endpoints: vec![self.endpoint()],
            root_path: root_path.to_owned(),
            request_timeout: Duration::from_secs(2),
            ..EtcdConfig::default()
        };
        componenthost::etcd::Etcd::connect(&config).await.expect("etcd answers")
    }

    /// Starts the server again at another port, where only [`Etcd::client`] finds it: what is done to it now, hosts cannot
    /// watch. [`Etcd::show`] brings it back.
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn hide(&self) {
        self.kill();
        self.listens_at.store(free_ports().0, Ordering::Relaxed);
        self.restart().await;
    }

    /// Ends [`Etcd::hide`].
    ///
    /// # Panics
    ///
    /// As [`Etcd::restart`].
    pub async fn show(&self) {
        self.kill();
        self.listens_at.store(self.client_port, Ordering::Relaxed);
        self.restart().await;
    }

    /// Throws away all history before the present revision, which is returned.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn compact(&self) -> i64 {
        let mut client = self.client().await;
        // A write, so that the present revision is later than all that was watched, and can be compacted.
        let put = client.put("compacted", "", None).await.expect("etcd answers a put");
        let revision = put.header().expect("each answer has a header").revision();
        let options = CompactionOptions::new().with_physical();
        client.compact(revision, Some(options)).await.expect("etcd answers a compaction");
        revision
    }

    /// Revokes a lease; its keys go with it.
    ///
    /// # Panics
    ///
    /// Where the server does not answer or does not know the lease.
    pub async fn revoke(&self, lease_id: i64) {
        self.client().await.lease_revoke(lease_id).await.expect("etcd revokes the lease");
    }

    /// Puts the session of another host, under a lease that nobody renews: the active key for an exclusive record, a
    /// member's key for another. Role and lease in the record are set here.
    ///
    /// # Panics
    ///
    /// Where the server does not answer.
    pub async fn put_session(&self, keys: &Keys, role: &Role, record: &Record, ttl: Duration) -> ForeignSession {
        let mut client = self.client().await;
        let seconds = i64::try_from(ttl.as_secs()).expect("a TTL is short");
        let lease_id = client.lease_grant(seconds, None).await.expect("etcd grants a lease").id();
        let key = match record.exclusive {
            true => keys.active_session(role),
            false => keys.member_session(role, ServerId(record.server_id)),
        };
        let record = Record { server_name: role.to_string(), lease_id, ..record.clone() };
        let value = serde_json::to_vec(&record).expect("a record is JSON");
        let options = PutOptions::new().with_lease(lease_id);
        let put = client.put(key.clone(), value, Some(options)).await.expect("etcd answers a put");
        ForeignSession { key, lease_id, revision: put.header().expect("each answer has a header").revision() }
    }

    fn signal(&self, signal: Signal) -> Pid {
        let guard = self.lock();
        let server = guard.as_ref().expect("the server runs");
        let pid = Pid::from_raw(server.id().cast_signed()).expect("a child's pid is not zero");
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
        pid
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().expect("no test panics while it holds the server")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        // Its input is closed by the wait.
        drop(self.watchdog.wait());
    }
}

/// A new directory, in memory where the machine has such a place: a server waits for each write to reach the disk.
fn data_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix("componenthost-test-etcd-")
        .tempdir_in(parent)
        .expect("a temporary directory can be made")
        .keep()
}

fn free_ports() -> (u16, u16) {
    // Both are held at the same time, so that they differ.
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a loopback port is free"));
    let [client, peer] = listeners.map(|listener| listener.local_addr().expect("a bound listener has a port").port());
    (client, peer)
}

//! One process of etcd: its ports, its data, and a watchdog that removes both when the test's process ends, however it ends.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::eventually::{eventually, holds};
use crate::port::Port;
use crate::process::is_held;
use crate::proxy::Proxy;

/// A signal has its effect within this time.
const SIGNAL_LIMIT: Duration = Duration::from_secs(20);

/// One member. It is killed, and its data removed, on drop.
pub struct Member {
    name: String,
    /// Where hosts are served, over TLS where that is asked for.
    hosts: Port,
    /// Where the harness itself is served: always there, in plain text, and behind no proxy.
    own: Port,
    peers: Port,
    proxy: Option<Proxy>,
    directory: PathBuf,
    running: Mutex<Option<Child>>,
    /// Kills the server and removes the directory when its standard input is closed.
    watchdog: Child,
}

/// What all members of a cluster are started with.
pub(super) struct Launch<'a> {
    /// `name=url,…`
    pub cluster: &'a str,
    /// The cluster's id follows from it, and from the members' addresses.
    pub token: &'a str,
    /// Flags that the settings ask for.
    pub flags: &'a [String],
    /// `http` or `https`, for hosts.
    pub scheme: &'a str,
    /// Hosts are not served.
    pub hidden: bool,
    /// Debian's etcd, or ours.
    pub program: &'a Path,
}

impl Member {
    /// A member that does not run yet.
    pub(super) fn new(index: usize, proxied: bool) -> Self {
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
        let [hosts, own, peers] = [(); 3].map(|()| Port::reserve());
        let proxy = proxied.then(|| Proxy::to(hosts.address()));
        let (name, running) = (format!("member-{index}"), Mutex::new(None));
        Self { name, hosts, own, peers, proxy, directory, running, watchdog }
    }

    /// Its part of `--initial-cluster`.
    pub(super) fn in_cluster(&self) -> String {
        format!("{}=http://{}", self.name, self.peers.address())
    }

    /// Starts its process, with whatever data it has.
    pub(super) fn launch(&self, launch: &Launch<'_>) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("the data directory is writable");
        let own_url = format!("http://{}", self.own.address());
        let hosts_url = format!("{}://{}", launch.scheme, self.hosts.address());
        let client_urls = if launch.hidden { own_url } else { format!("{hosts_url},{own_url}") };
        let peer_url = format!("http://{}", self.peers.address());
        // The shell becomes the server: its pid is in the file before anything else happens.
        let server = Command::new("sh")
            .args(["-c", "echo $$ > \"$0/pid\"; exec \"$@\""])
            .args([&self.directory, launch.program])
            .args(["--name", &self.name, "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &client_urls, "--advertise-client-urls", &client_urls])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", launch.cluster, "--initial-cluster-token", launch.token])
            .args(launch.flags)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        *self.running() = Some(server);
    }

    /// Where hosts find it: its proxy where it has one.
    pub fn address(&self) -> SocketAddr {
        self.proxy.as_ref().map_or_else(|| self.hosts.address(), Proxy::address)
    }

    /// Where the harness finds it, whatever its proxy does.
    pub(super) fn own_address(&self) -> SocketAddr {
        self.own.address()
    }

    /// The proxy between the hosts and it.
    ///
    /// # Panics
    ///
    /// Where the settings asked for none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the settings ask for proxies")
    }

    /// What it has written: warnings and errors.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Holds it with SIGSTOP: its connections stay, and nothing answers.
    pub async fn stop(&self) {
        let process = self.signal(Signal::STOP);
        eventually(SIGNAL_LIMIT, async || holds(is_held(process), "some of its threads run")).await;
    }

    /// Lets it go on after [`Member::stop`].
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it with SIGKILL and waits for its end. Its data stays.
    pub fn kill(&self) {
        if let Some(mut server) = self.running().take() {
            // Neither fails for a child that has not been waited for.
            server.kill().expect("a child can be killed");
            server.wait().expect("a child can be waited for");
            // Its number may soon be another process's.
            std::fs::remove_file(self.directory.join("pid")).expect("the server has written its pid");
        }
    }

    /// Removes its data: it comes back as one that has never been.
    ///
    /// # Panics
    ///
    /// Where it runs.
    pub fn forget(&self) {
        assert!(self.running().is_none(), "{} runs", self.name);
        std::fs::remove_dir_all(self.directory.join("data")).expect("a member that has run has data");
    }

    /// How it has ended by itself; `None` while it runs.
    pub(super) fn has_ended(&self) -> Option<std::process::ExitStatus> {
        self.running().as_mut().and_then(|server| server.try_wait().ok().flatten())
    }

    /// Is its process there, and not held by [`Member::stop`]?
    pub fn runs(&self) -> bool {
        self.running().as_ref().is_some_and(|server| !is_held(pid(server)))
    }

    fn signal(&self, signal: Signal) -> Pid {
        let running = self.running();
        let server = running.as_ref().expect("the member runs");
        rustix::process::kill_process(pid(server), signal).expect("a child can be signalled");
        pid(server)
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        // Its input is closed by the wait.
        drop(self.watchdog.wait());
    }
}

fn pid(server: &Child) -> Pid {
    Pid::from_raw(server.id().cast_signed()).expect("a child's pid is not zero")
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

//! Debian's etcd as a child process: on free ports, with a directory of its own, killed on drop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::Client;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running etcd.
pub struct RealEtcd {
    address: SocketAddr,
    process: Child,
    directory: TempDir,
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address")
}

impl RealEtcd {
    /// Starts one and waits until it answers a linearizable read.
    pub async fn start() -> Self {
        loop {
            let mut etcd = Self::launch();
            if etcd.answers().await {
                return etcd;
            }
            // Between our look and its start another program has taken one of the ports.
            let log = etcd.log();
            assert!(log.contains("address already in use"), "etcd has ended:\n{log}");
        }
    }

    fn launch() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (address, peers) = (free_port(), free_port());
        let [url, peer_url] = [address, peers].map(|address| format!("http://{address}"));
        let log = std::fs::File::create(directory.path().join("log")).expect("the directory is writable");
        let process = Command::new("etcd")
            .args(["--logger", "zap", "--log-level", "warn", "--data-dir"])
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("etcd is in the path: the package etcd-server");
        Self { address, process, directory }
    }

    /// What it has written: warnings and errors.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Says whether it answers; it does not where it has ended.
    async fn answers(&mut self) -> bool {
        let since = Instant::now();
        while self.process.try_wait().expect("a child can be asked").is_none() {
            let read = async { Client::connect([self.endpoint()], None).await?.get("ready", None).await };
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), read).await {
                return true;
            }
            assert!(since.elapsed() < START_LIMIT, "etcd does not answer:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// `127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        // Neither fails for a child that has not been waited for.
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a child can be waited for");
    }
}

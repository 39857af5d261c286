//! A cluster under test: an etcd prefix of its own, and the hosts that are started in it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use componenthost::cluster::{Keys, Record};
use etcd_client::GetOptions;
use plugin_api::identity::Role;
use serde_json::{Value, json};

use crate::binary::{binary, plugin_dir};
use crate::config::HostConfig;
use crate::etcd::{self, Etcd};
use crate::host::{Host, Start};

/// The time to live of every session here, in seconds: what the test's own etcd allows at least.
pub const TTL_SECONDS: u64 = 2;

/// A cluster of hosts.
pub struct Cluster {
    etcd: Server,
    root_path: String,
}

enum Server {
    Shared(&'static Etcd),
    Own(Box<Etcd>),
}

impl Cluster {
    /// A new cluster in the etcd that all tests of this process share.
    pub async fn start() -> Self {
        Self::in_etcd(Server::Shared(etcd::shared().await))
    }

    /// A new cluster with an etcd of its own, for what is done to etcd itself.
    pub async fn with_own_etcd() -> Self {
        Self::with_etcd(Etcd::start().await)
    }

    /// A new cluster in this etcd.
    pub fn with_etcd(etcd: Etcd) -> Self {
        Self::in_etcd(Server::Own(Box::new(etcd)))
    }

    fn in_etcd(etcd: Server) -> Self {
        let mut cluster = Self { etcd, root_path: String::new() };
        cluster.root_path = cluster.etcd().prefix();
        cluster
    }

    /// Its etcd.
    pub fn etcd(&self) -> &Etcd {
        match &self.etcd {
            Server::Shared(etcd) => etcd,
            Server::Own(etcd) => etcd,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.root_path
    }

    /// Where its things lie in etcd.
    pub fn keys(&self) -> Keys {
        Keys::new(&self.root_path, "meta")
    }

    /// What every host of it is configured with: ports that are free, short times.
    pub fn config(&self) -> HostConfig {
        HostConfig::new()
            .set("cluster.name", self.root_path.as_str())
            .set("etcd.endpoints", self.etcd().endpoints())
            .set("etcd.root_path", self.root_path.as_str())
            .set("session.ttl", format!("{TTL_SECONDS}s"))
            .set("server.listen", "127.0.0.1:0")
            .set("admin.listen", "127.0.0.1:0")
            .set("plugins.dirs", json!([plugin_dir().display().to_string()]))
            .set("telemetry.format", "json")
            .set("shutdown.limit", "20s")
            .set("shutdown.grace", "1s")
            .set("supervision.backoff_min", "50ms")
            .set("supervision.backoff_max", "200ms")
    }

    /// Starts a host and waits until it listens. It is named for its roles.
    pub async fn host(&self, config: HostConfig) -> Host {
        let host = self.spawn(config);
        host.listening().await;
        host
    }

    /// Starts a host and does not wait for anything.
    pub fn spawn(&self, config: HostConfig) -> Host {
        self.spawn_program(binary(), config, &[])
    }

    /// The same with another program than the built host, and with variables of the environment.
    pub fn spawn_program(&self, program: &Path, config: HostConfig, env: &[(&str, &str)]) -> Host {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Host::spawn(program, &config.roles().join("+"), config, Start { env, ..Start::default() })
    }

    /// Starts a host with more arguments than its configuration, and does not wait for anything.
    pub fn spawn_with(&self, arguments: &[&str], config: HostConfig) -> Host {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Host::spawn(binary(), &config.roles().join("+"), config, Start { arguments, ..Start::default() })
    }

    /// Starts a host with one probe in that role and waits until it listens.
    pub async fn probe(&self, role: &str, config: Value) -> Host {
        self.host(self.config().probe(role, config)).await
    }

    /// Starts a host with RootCoord, QueryCoord or QueryNode and waits until it listens.
    pub async fn component(&self, role: &str) -> Host {
        self.host(self.config().component(role, role, json!({}))).await
    }

    /// The sessions of a role that etcd has now, by key.
    ///
    /// # Panics
    ///
    /// Where etcd does not answer, or a value is no session.
    pub async fn sessions(&self, role: &str) -> BTreeMap<String, Record> {
        let role = Role::new(role).expect("a role");
        let prefix = self.keys().active_session(&role);
        let mut client = self.etcd().client().await;
        let answer = client.get(prefix, Some(GetOptions::new().with_prefix())).await.expect("etcd answers a get");
        let of_role = answer.kvs().iter().filter(|pair| self.keys().classify(&role, pair.key()).is_some());
        let read = of_role.map(|pair| {
            let record = serde_json::from_slice(pair.value()).expect("a session's value is a record");
            (String::from_utf8_lossy(pair.key()).into_owned(), record)
        });
        read.collect()
    }

    /// Deletes a key, as if its lease had run out.
    ///
    /// # Panics
    ///
    /// Where etcd does not answer.
    pub async fn delete(&self, key: &str) {
        self.etcd().client().await.delete(key, None).await.expect("etcd answers a delete");
    }
}

/// An address that was free a moment ago, for a host that has to come back at the same place.
///
/// # Panics
///
/// Where no port is free.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound listener has an address").to_string()
}

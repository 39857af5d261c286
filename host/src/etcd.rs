//! Requests to etcd: every one bounded in time, and its failure told once, in words that help.
//!
//! Leaf module, and the only one that knows `etcd_client`'s error and connection options. It uses one member of the cluster
//! at a time and goes to the next when that one fails: several endpoints in one client would go through tonic's balancer,
//! which picks at random and burns a call on a dead member. Leases are in [`lease`], followed keys in [`watch`]; what the
//! keys mean is not known here.

pub mod error;
pub mod lease;
pub mod watch;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, KvClient, LeaseClient, Txn, TxnResponse, WatchClient,
};
use serde::{Deserialize, Serialize};

pub use crate::etcd::error::{EtcdError, Fault};

use crate::cluster::Keys;

/// The largest answer that is taken. tonic's own limit, 4 MiB, is less than a cluster's metadata may have.
const LARGEST_ANSWER: usize = 64 << 20;

/// etcd closes connections that are pinged more often than once in 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Section `[etcd]`: where the cluster's etcd is, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// The members, `host:port` each. One is used at a time, the next when it fails.
    /// Default `["127.0.0.1:2379"]`, etcd's own port on this machine.
    pub endpoints: Vec<String>,
    /// The first part of every key, and the cluster's name where it has no other. Default `componenthost`; `by-dev` joins a
    /// Milvus development cluster.
    pub root_path: String,
    /// The second part of every key. Default `meta`, as in Milvus.
    pub meta_sub_path: String,
    /// How long a TCP connection to a member may take. Default 3 s: a member that needs longer is cut off.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long one request may take, with its connection. Default 5 s: more than an election takes.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            root_path: "componenthost".to_owned(),
            meta_sub_path: "meta".to_owned(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
        }
    }
}

impl EtcdConfig {
    /// All values that are out of range, as key and text.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.endpoints.is_empty() {
            mistakes.push(("endpoints", "names no member of etcd; give at least one \"host:port\"".to_owned()));
        }
        for endpoint in &self.endpoints {
            if let Some(text) = mistake_in_endpoint(endpoint) {
                mistakes.push(("endpoints", format!("\"{endpoint}\" {text}")));
            }
        }
        for (key, path) in [("root_path", &self.root_path), ("meta_sub_path", &self.meta_sub_path)] {
            if path.is_empty() || path.starts_with('/') || path.ends_with('/') {
                mistakes.push((key, format!("\"{path}\" must not be empty, nor begin or end with '/'")));
            }
        }
        for (key, limit) in [("connect_timeout", self.connect_timeout), ("request_timeout", self.request_timeout)] {
            if limit.is_zero() {
                mistakes.push((key, "must be more than zero".to_owned()));
            }
        }
        mistakes
    }
}

fn mistake_in_endpoint(endpoint: &str) -> Option<&'static str> {
    if endpoint.starts_with("https://") {
        return Some("asks for TLS, which this host does not speak to etcd");
    }
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return Some("is no \"host:port\"");
    };
    if authority.host().is_empty() || authority.port_u16().is_none_or(|port| port == 0) {
        return Some("is no \"host:port\"");
    }
    None
}

/// The cluster's etcd. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    config: EtcdConfig,
    keys: Keys,
    /// Replaced as a whole by the one that holds `moving`.
    member: ArcSwap<Member>,
    moving: tokio::sync::Mutex<()>,
}

/// The member of etcd that is used now.
struct Member {
    /// Counts the members used before, so that many failures at once lead to one move only.
    generation: u64,
    endpoint: String,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
}

impl Etcd {
    /// Connects to the first member that answers a linearizable read: etcd is there and has a leader. One try for each.
    ///
    /// # Errors
    ///
    /// The last member's failure, which tells *refused*, *no leader* and *no answer* apart.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let etcd = Self::lazy(config).await?;
        let mut tries = config.endpoints.len().max(1);
        loop {
            tries -= 1;
            // Any key does: what counts is that the read goes through the cluster's leader.
            match etcd.get("read from the cluster", etcd.keys().next_server_id(), None).await {
                Ok(_) => return Ok(etcd),
                Err(error) if tries == 0 => return Err(error),
                Err(error) => tracing::warn!(error = %error.chain(), "this member of etcd is passed over"),
            }
        }
    }

    async fn lazy(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let keys = Keys::new(&config.root_path, &config.meta_sub_path);
        let member = Member::new(config, 0).await?;
        let shared = Shared {
            config: config.clone(),
            keys,
            member: ArcSwap::from_pointee(member),
            moving: tokio::sync::Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where things lie in this cluster's etcd.
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// How long one request may take.
    pub fn request_timeout(&self) -> Duration {
        self.shared.config.request_timeout
    }

    /// The member that is used now, `host:port`.
    pub fn endpoint(&self) -> String {
        self.member().endpoint.clone()
    }

    /// A linearizable read. `doing` completes the error's text, "cannot …".
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn get(
        &self,
        doing: impl Into<Cow<'static, str>>,
        key: impl Into<Vec<u8>>,
        options: Option<GetOptions>,
    ) -> Result<GetResponse, EtcdError> {
        let key = key.into();
        self.bounded(doing, self.request_timeout(), |member| {
            let mut kv = member.kv.clone();
            async move { kv.get(key, options).await }
        })
        .await
    }

    /// A transaction. After an error that is not etcd's own answer nobody knows whether it was carried out.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn txn(&self, doing: impl Into<Cow<'static, str>>, txn: Txn) -> Result<TxnResponse, EtcdError> {
        self.bounded(doing, self.request_timeout(), |member| {
            let mut kv = member.kv.clone();
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// One request to the member that is used now, which is left for the next one where it fails.
    async fn bounded<T, F>(
        &self,
        doing: impl Into<Cow<'static, str>>,
        limit: Duration,
        request: impl FnOnce(&Member) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let member = self.member();
        let fault = match tokio::time::timeout(limit, request(&member)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Fault::of(error),
            Err(_) => Fault::NoAnswer(limit),
        };
        Err(self.failed(doing, &member, fault).await)
    }

    /// The error of a request to that member; leaves the member where the fault is the member's.
    async fn failed(&self, doing: impl Into<Cow<'static, str>>, member: &Member, fault: Fault) -> EtcdError {
        if fault.is_the_members() {
            self.leave(member).await;
        }
        EtcdError { doing: doing.into(), endpoint: member.endpoint.clone(), fault }
    }

    /// Goes to the next member, or to the same one by a new connection where there is no other: a connection may be dead
    /// without a sign. What runs over the old one goes on.
    async fn leave(&self, member: &Member) {
        let _moving = self.shared.moving.lock().await;
        if self.member().generation == member.generation
            && let Ok(next) = Member::new(&self.shared.config, member.generation + 1).await
        {
            self.shared.member.store(Arc::new(next));
        }
    }

    fn member(&self) -> Arc<Member> {
        self.shared.member.load_full()
    }
}

impl Member {
    async fn new(config: &EtcdConfig, generation: u64) -> Result<Self, EtcdError> {
        let count = config.endpoints.len().max(1) as u64;
        let index = usize::try_from(generation % count).unwrap_or_default();
        let endpoint = config.endpoints.get(index).cloned().unwrap_or_default();
        let options = ConnectOptions::new()
            .with_connect_timeout(config.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            // A member that is cut off from its cluster must not look alive, neither to a stream nor to a request.
            .with_require_leader(true);
        // Without credentials nothing is sent here: the connection is made by the first request.
        let client = Client::connect([&endpoint], Some(options)).await.map_err(|error| EtcdError {
            doing: "use the endpoint".into(),
            endpoint: endpoint.clone(),
            fault: Fault::of(error),
        })?;
        Ok(Self {
            generation,
            endpoint,
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            lease: client.lease_client(),
            watch: client.watch_client().max_decoding_message_size(LARGEST_ANSWER),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_mistake() {
        assert_eq!(EtcdConfig::default().mistakes(), []);
    }

    #[test]
    fn every_mistake_is_told() {
        let config = EtcdConfig {
            endpoints: vec!["127.0.0.1".to_owned(), "https://etcd:2379".to_owned(), "etcd:2379".to_owned()],
            root_path: String::new(),
            meta_sub_path: "meta/".to_owned(),
            connect_timeout: Duration::ZERO,
            request_timeout: Duration::ZERO,
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            ["endpoints", "endpoints", "root_path", "meta_sub_path", "connect_timeout", "request_timeout"]
        );
        let none = EtcdConfig { endpoints: vec![], ..EtcdConfig::default() };
        assert_eq!(none.mistakes().len(), 1);
    }
}

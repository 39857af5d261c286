//! Requests to etcd: every one bounded in time, and its failure told once, in words that help.
//!
//! Leaf module, and the only one that knows `etcd_client`'s error and connection options. It uses one member of the cluster
//! at a time and goes to the next when that one fails: several endpoints in one client would go through tonic's balancer,
//! which picks at random and burns a call on a dead member. Leases are in [`lease`], followed keys in [`watch`]; what the
//! keys mean is not known here.

pub mod error;
mod hedge;
mod history;
pub mod lease;
mod member;
mod renewals;
pub mod watch;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use etcd_client::{Error, GetOptions, GetResponse, ResponseHeader, Txn, TxnResponse};
use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;

pub use crate::etcd::error::{EtcdError, Fault};
pub use crate::etcd::history::History;

use crate::cluster::Keys;
use crate::etcd::history::{Chronicle, Known};
use crate::etcd::member::Member;

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
    chronicle: Chronicle,
    /// Replaced as a whole by the one that holds `next`.
    member: ArcSwap<Member>,
    /// The member that comes after the present one, where it is in use already beside it.
    next: tokio::sync::Mutex<Option<Arc<Member>>>,
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
            chronicle: Chronicle::new(),
            member: ArcSwap::from_pointee(member),
            next: tokio::sync::Mutex::new(None),
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

    /// Whether etcd is still the cluster that it was.
    pub fn history(&self) -> Receiver<History> {
        self.shared.chronicle.history()
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
        let (key, known) = (key.into(), self.shared.chronicle.known());
        let answer = self.bounded(doing, self.request_timeout(), |member| {
            let mut kv = member.kv.clone();
            async move { kv.get(key, options).await }
        });
        let answer = answer.await?;
        self.note(known, answer.header());
        Ok(answer)
    }

    /// A transaction. After an error that is not etcd's own answer nobody knows whether it was carried out.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn txn(&self, doing: impl Into<Cow<'static, str>>, txn: Txn) -> Result<TxnResponse, EtcdError> {
        let known = self.shared.chronicle.known();
        let answer = self.bounded(doing, self.request_timeout(), |member| {
            let mut kv = member.kv.clone();
            async move { kv.txn(txn).await }
        });
        let answer = answer.await?;
        self.note(known, answer.header());
        Ok(answer)
    }

    /// Takes the header of a linearizable answer.
    fn note(&self, known: Known, header: Option<&ResponseHeader>) {
        if let Some(header) = header {
            self.shared.chronicle.answered(known, header.cluster_id(), header.revision());
        }
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
        if let Ok(next) = self.beside(member).await
            && self.member().generation <= member.generation
        {
            self.prefer(&next).await;
        }
    }

    /// Another member than this one, to be asked beside it: the one that is used now where this was left, else the next.
    async fn beside(&self, member: &Member) -> Result<Arc<Member>, EtcdError> {
        let mut next = self.shared.next.lock().await;
        let known = [Some(self.member()), next.clone()];
        if let Some(other) = known.into_iter().flatten().find(|other| other.generation > member.generation) {
            return Ok(other);
        }
        let made = Arc::new(Member::new(&self.shared.config, member.generation + 1).await?);
        *next = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Uses this member from now on, unless a later one is used already.
    async fn prefer(&self, member: &Arc<Member>) {
        let mut next = self.shared.next.lock().await;
        if self.member().generation < member.generation {
            self.shared.member.store(Arc::clone(member));
            next.take_if(|next| next.generation <= member.generation);
        }
    }

    fn member(&self) -> Arc<Member> {
        self.shared.member.load_full()
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

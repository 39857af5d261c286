//! Requests to etcd: every one bounded in time, and its failure told once, in words that help.
//!
//! Leaf module, and the only one that knows `etcd_client`'s error and connection options. It uses one member of the cluster
//! at a time and goes to the next when that one fails: several endpoints in one client would go through tonic's balancer,
//! which picks at random and burns a call on a dead member. Leases are in [`lease`], followed keys in [`watch`]; what the
//! keys mean is not known here.

mod channel;
pub mod config;
mod connector;
mod credentials;
pub mod error;
mod hedge;
mod history;
pub mod lease;
mod login;
pub mod look;
mod member;
pub mod password;
mod renewals;
mod tls;
pub mod watch;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use etcd_client::{Error, GetOptions, GetResponse, ResponseHeader, Txn, TxnResponse};
use tokio::sync::watch::Receiver;

pub use crate::etcd::config::{EtcdConfig, TlsConfig};
pub use crate::etcd::error::{Authentication, EtcdError, Fault};
pub use crate::etcd::history::History;

use crate::cluster::Keys;
use crate::etcd::credentials::Credentials;
use crate::etcd::history::{Chronicle, Known};
use crate::etcd::member::Member;

/// The cluster's etcd. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    config: EtcdConfig,
    keys: Keys,
    credentials: Credentials,
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
    /// The last member's failure, which tells *refused*, *TLS*, *authentication*, *no leader* and *no answer* apart; but that
    /// of a member without a leader, where there is one: it says why the others are missed.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let etcd = Self::lazy(config).await?;
        let mut tries = config.endpoints.len().max(1);
        let mut without_leader = None;
        let pass_over = |error: &EtcdError| tracing::warn!(error = error.chain(), "this member of etcd is passed over");
        loop {
            tries -= 1;
            // Any key does: what counts is that the read goes through the cluster's leader.
            match etcd.get("read from the cluster", etcd.keys().next_server_id(), None).await {
                Ok(_) => return Ok(etcd),
                // Another member knows no other users.
                Err(error) if matches!(error.fault, Fault::Authentication(_)) => return Err(error),
                Err(error) if tries > 0 => {
                    pass_over(&error);
                    if matches!(error.fault, Fault::NoLeader) {
                        without_leader = Some(error);
                    }
                }
                Err(error) => return Err(without_leader.inspect(|_| pass_over(&error)).unwrap_or(error)),
            }
        }
    }

    async fn lazy(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let keys = Keys::new(&config.root_path, &config.meta_sub_path);
        let credentials = Credentials::new(config);
        let member = Member::new(config, 0, credentials.token()).await?;
        let shared = Shared {
            config: config.clone(),
            keys,
            credentials,
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
        let answer = self.repeated(doing, self.request_timeout(), |member| {
            let (mut kv, key, options) = (member.kv.clone(), key.clone(), options.clone());
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
        self.txn_within(doing, txn, self.request_timeout()).await
    }

    /// The same with a limit of its own, for those who cannot wait as long as others.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn txn_within(
        &self,
        doing: impl Into<Cow<'static, str>>,
        txn: Txn,
        limit: Duration,
    ) -> Result<TxnResponse, EtcdError> {
        let known = self.shared.chronicle.known();
        let answer = self.repeated(doing, limit, |member| {
            let (mut kv, txn) = (member.kv.clone(), txn.clone());
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

    /// One request to the member that is used now, which is left for the next one where it fails. Where etcd does not take
    /// our token, the request is sent once more, with a new one: etcd has not carried it out.
    async fn repeated<T, F>(
        &self,
        doing: impl Into<Cow<'static, str>>,
        limit: Duration,
        request: impl Fn(&Member) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let member = self.member();
        let answer = self.authorised(&member, |member| {
            let answer = request(member);
            async move { answer.await.map_err(Fault::of) }
        });
        let answer = tokio::time::timeout(limit, answer).await;
        match answer.unwrap_or(Err(Fault::NoAnswer(limit))) {
            Ok(answer) => Ok(answer),
            Err(fault) => Err(self.failed(doing, &member, fault).await),
        }
    }

    /// The same, sent once: what opens a stream, whose owner opens it again in any case.
    async fn bounded<T, F>(
        &self,
        doing: impl Into<Cow<'static, str>>,
        limit: Duration,
        request: impl FnOnce(&Arc<Member>) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (member, credentials) = (self.member(), &self.shared.credentials);
        let answer = async {
            let serial = credentials.ready(&member).await?;
            request(&member).await.map_err(Fault::of).map_err(|fault| {
                // The next one takes a new token.
                credentials.is_worth_repeating(&fault, serial);
                credentials.explained(fault)
            })
        };
        match tokio::time::timeout(limit, answer).await.unwrap_or(Err(Fault::NoAnswer(limit))) {
            Ok(answer) => Ok(answer),
            Err(fault) => Err(self.failed(doing, &member, fault).await),
        }
    }

    /// A request to that member, with a token if there is a user; once more where etcd does not take the token.
    async fn authorised<T, F>(&self, member: &Member, request: impl Fn(&Member) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let credentials = &self.shared.credentials;
        let mut is_repeated = false;
        loop {
            let serial = credentials.ready(member).await?;
            match request(member).await {
                Err(fault) if !is_repeated && credentials.is_worth_repeating(&fault, serial) => is_repeated = true,
                answer => return answer.map_err(|fault| credentials.explained(fault)),
            }
        }
    }

    /// The error of a request to that member; leaves the member where the fault is the member's.
    async fn failed(&self, doing: impl Into<Cow<'static, str>>, member: &Member, fault: Fault) -> EtcdError {
        let fault = match fault {
            Fault::Unreachable(text) => member.trace.told().map_or(Fault::Unreachable(text), Fault::Tls),
            other => other,
        };
        if fault.is_the_members() {
            self.leave(member).await;
        }
        EtcdError { doing: doing.into(), endpoint: member.endpoint.clone(), fault }
    }

    /// Goes to the next member, or to the same one by a new connection where there is no other: a connection may be dead
    /// without a sign. What runs over the old one goes on.
    async fn leave(&self, member: &Member) {
        self.shared.credentials.member_left();
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
        let made =
            Arc::new(Member::new(&self.shared.config, member.generation + 1, self.shared.credentials.token()).await?);
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

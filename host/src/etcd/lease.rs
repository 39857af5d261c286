//! Leases: granted, renewed, asked for, revoked. When to do which is decided in `session`.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};

use crate::etcd::{Etcd, EtcdError, Fault, Member};

/// A lease as etcd granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub lease_id: i64,
    /// How long it lives without a renewal: what etcd gives, which may be more than was asked for.
    pub ttl: Duration,
}

/// The stream that renews one lease. It is made, and made again, when it is needed.
pub struct KeepAlive {
    etcd: Etcd,
    lease_id: i64,
    stream: Option<Renewals>,
}

/// An open stream, and the member that it goes to.
struct Renewals {
    member: Arc<Member>,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

impl Etcd {
    /// A new lease. etcd counts in whole seconds: parts of one are rounded up.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Granted, EtcdError> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let answer = self
            .bounded("get a lease", self.request_timeout(), |member| {
                let mut lease = member.lease.clone();
                async move { lease.grant(seconds, None).await }
            })
            .await?;
        Ok(Granted { lease_id: answer.id(), ttl: in_seconds(answer.ttl()) })
    }

    /// Ends a lease; its keys go with it. False where there was no such lease any more.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn revoke_lease(&self, lease_id: i64) -> Result<bool, EtcdError> {
        let answer = self
            .bounded("revoke a lease", self.request_timeout(), |member| {
                let mut lease = member.lease.clone();
                async move { lease.revoke(lease_id).await }
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(EtcdError { fault: Fault::LeaseNotFound, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long a lease lives unless it is renewed; `None` where there is no such lease.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them.
    pub async fn time_left(&self, lease_id: i64) -> Result<Option<Duration>, EtcdError> {
        let answer = self
            .bounded("ask for a lease", self.request_timeout(), |member| {
                let mut lease = member.lease.clone();
                async move { lease.time_to_live(lease_id, None).await }
            })
            .await?;
        Ok((answer.ttl() >= 0).then(|| in_seconds(answer.ttl())))
    }
}

impl KeepAlive {
    /// For this lease. Nothing is sent yet.
    pub fn new(etcd: Etcd, lease_id: i64) -> Self {
        Self { etcd, lease_id, stream: None }
    }

    /// The lease.
    pub fn lease_id(&self) -> i64 {
        self.lease_id
    }

    /// Renews the lease; the answer is its new time to live, counted from the moment of this call, or `None` where there is
    /// no such lease any more. After a failure the next call makes a new stream, at the next member.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them; nothing came back within `limit`.
    ///
    /// # Cancel safety
    ///
    /// After a cancelled call the next one makes a new stream, so that no late answer is taken for its own.
    pub async fn renew(&mut self, limit: Duration) -> Result<Option<Duration>, EtcdError> {
        let open = self.stream.take();
        let member = open.as_ref().map_or_else(|| self.etcd.member(), |open| Arc::clone(&open.member));
        let renewal = async {
            let mut renewals = match open {
                Some(open) => open,
                None => Renewals::open(Arc::clone(&member), self.lease_id).await?,
            };
            let ttl = renewals.ask().await?;
            Ok((renewals, ttl))
        };
        let fault = match tokio::time::timeout(limit, renewal).await {
            Ok(Ok((_, ttl))) if ttl.is_zero() => return Ok(None),
            Ok(Ok((renewals, ttl))) => {
                self.stream = Some(renewals);
                return Ok(Some(ttl));
            }
            Ok(Err(Fault::LeaseNotFound)) => return Ok(None),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::NoAnswer(limit),
        };
        Err(self.etcd.failed("renew the lease", &member, fault).await)
    }
}

impl Renewals {
    async fn open(member: Arc<Member>, lease_id: i64) -> Result<Self, Fault> {
        // The client renews the lease once to make the stream, and keeps the answer's time to live for itself.
        let (keeper, answers) = member.lease.clone().keep_alive(lease_id).await.map_err(Fault::of)?;
        Ok(Self { member, keeper, answers })
    }

    /// One renewal; zero is a lease that is not there.
    async fn ask(&mut self) -> Result<Duration, Fault> {
        self.keeper.keep_alive().await.map_err(|_| Fault::StreamEnded)?;
        let answer = self.answers.message().await.map_err(Fault::of)?.ok_or(Fault::StreamEnded)?;
        Ok(in_seconds(answer.ttl()))
    }
}

fn in_seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

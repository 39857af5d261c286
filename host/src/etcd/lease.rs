//! Leases: granted, renewed, asked for, revoked. When to do which is decided in `session`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::etcd::hedge::{Hedge, Next};
use crate::etcd::member::Member;
use crate::etcd::{Etcd, EtcdError, Fault};

const RENEW: &str = "renew the lease";

/// A lease as etcd granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub lease_id: i64,
    /// How long it lives without a renewal: what etcd gives, which may be more than was asked for.
    pub ttl: Duration,
}

/// Renews one lease, over the stream that all leases of the host share.
pub struct KeepAlive {
    etcd: Etcd,
    lease_id: i64,
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
            .repeated("get a lease", self.request_timeout(), |member| {
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
            .repeated("revoke a lease", self.request_timeout(), |member| {
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
            .repeated("ask for a lease", self.request_timeout(), |member| {
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
        Self { etcd, lease_id }
    }

    /// The lease.
    pub fn lease_id(&self) -> i64 {
        self.lease_id
    }

    /// Renews the lease; the answer is its new time to live, counted from the moment of this call, or `None` where there is
    /// no such lease any more.
    ///
    /// A member that has not answered within `hedge_after`, or cannot, does not hold it up: the lease is asked for again
    /// through the next member, and the first answer wins. That member is the one that is used from then on. After each
    /// further half of `hedge_after` one more is asked; the first again, by a new connection, when all others have been, and
    /// so on: an election may go on meanwhile, in which none can answer.
    ///
    /// # Errors
    ///
    /// As [`Fault`] has them; nothing came back within `limit`, which bounds the whole.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a late answer is never taken for that of another call.
    pub async fn renew(&self, hedge_after: Duration, limit: Duration) -> Result<Option<Duration>, EtcdError> {
        let since = Instant::now();
        let mut hedge = Hedge::new(hedge_after, limit, self.etcd.shared.config.endpoints.len());
        let mut latest = self.etcd.member();
        let mut asked = FuturesUnordered::new();
        let mut failure = None;
        loop {
            match hedge.next(since.elapsed()) {
                Next::Ask => {
                    if hedge.has_asked() {
                        latest = self.etcd.beside(&latest).await?;
                    }
                    hedge.asked(since.elapsed());
                    asked.push(self.ask(Arc::clone(&latest), hedge_after));
                }
                Next::Wait(until) => tokio::select! {
                    Some((member, answer)) = asked.next() => match answer {
                        Ok(ttl) => {
                            self.etcd.prefer(&member).await;
                            return Ok(ttl);
                        }
                        Err(fault) => {
                            failure = Some(self.etcd.failed(RENEW, &member, fault).await);
                            hedge.failed(since.elapsed());
                        }
                    },
                    () = tokio::time::sleep(until.saturating_sub(since.elapsed())) => {}
                },
                Next::GiveUp => {
                    return Err(match failure {
                        Some(failure) if asked.is_empty() => failure,
                        failure => {
                            // Left too, so that the next renewal does not begin with one that is silent.
                            let silent = self.etcd.failed(RENEW, &latest, Fault::NoAnswer(limit)).await;
                            failure.unwrap_or(silent)
                        }
                    });
                }
            }
        }
    }

    async fn ask(&self, member: Arc<Member>, stuck_after: Duration) -> (Arc<Member>, Result<Option<Duration>, Fault>) {
        let answer = self.etcd.authorised(&member, |member| {
            let (renewals, lease_id) = (Arc::clone(&member.renewals), self.lease_id);
            async move { renewals.ask(lease_id, stuck_after).await }
        });
        let answer = answer.await;
        (member, answer)
    }
}

fn in_seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

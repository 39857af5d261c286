//! One look at each member of etcd, for people: what it is, and how fast it answers, or why it cannot be used.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::etcd::{Etcd, EtcdConfig, EtcdError, Fault};

const LOOK: &str = "read from the cluster";

/// What one member answered.
#[derive(Debug)]
pub struct Look {
    /// The member, as it is configured.
    pub endpoint: String,
    /// What it is, or why it cannot be used.
    pub seen: Result<Seen, EtcdError>,
}

/// A member that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// etcd's version.
    pub version: String,
    /// Does it lead its cluster?
    pub is_leader: bool,
    /// How long a linearizable read took, over a connection that was there.
    pub latency: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_leader { "leader" } else { "follower" };
        let latency = humantime::format_duration(Duration::from_micros(self.latency.as_micros() as u64));
        write!(formatter, "etcd {}, {role}, answers a read in {latency}", self.version)
    }
}

/// Asks all members at once, each one time, within the limit of a request.
pub async fn look(config: &EtcdConfig) -> Vec<Look> {
    join_all(config.endpoints.iter().map(|endpoint| async {
        // Each by itself: a silent member must not hold up what is asked of another.
        let config = EtcdConfig { endpoints: vec![endpoint.clone()], ..config.clone() };
        Look { endpoint: endpoint.clone(), seen: look_at(&config).await }
    }))
    .await
}

async fn look_at(config: &EtcdConfig) -> Result<Seen, EtcdError> {
    let etcd = Etcd::lazy(config).await?;
    let looking = async {
        // The first read makes the connection and takes the token; the second shows how fast the member is.
        etcd.get(LOOK, etcd.keys().next_server_id(), None).await?;
        let since = Instant::now();
        etcd.get(LOOK, etcd.keys().next_server_id(), None).await?;
        let latency = since.elapsed();
        let status = etcd.repeated(LOOK, config.request_timeout, |member| {
            let mut maintenance = member.maintenance.clone();
            async move { maintenance.status().await }
        });
        let status = status.await?;
        let member_id = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
        let is_leader = status.leader() != 0 && status.leader() == member_id;
        Ok(Seen { version: status.version().to_owned(), is_leader, latency })
    };
    let limit = config.request_timeout;
    let no_answer = || EtcdError { doing: LOOK.into(), endpoint: etcd.endpoint(), fault: Fault::NoAnswer(limit) };
    tokio::time::timeout(limit, looking).await.unwrap_or_else(|_| Err(no_answer()))
}

//! Requests to etcd, and what it answers.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::simulation::agenda::Moment;
use crate::simulation::model::history::{Keys, Write};
use crate::simulation::model::leases::{End, Owner};
use crate::simulation::model::{Compare, Model, Refusal};

#[derive(Clone, Debug)]
pub enum Request {
    /// All keys, linearizably. Whoever asks picks its own.
    List,
    Grant {
        owner: Owner,
        ttl: Duration,
    },
    Renew(i64),
    TimeLeft(i64),
    /// A transaction.
    Transact {
        compares: Vec<Compare>,
        writes: Vec<Write>,
    },
    Revoke(i64),
}

#[derive(Clone, Debug)]
pub enum Reply {
    Listed(At),
    Granted {
        lease: i64,
        ttl: Duration,
    },
    /// `None` where there is no such lease.
    Renewed(Option<Duration>),
    TimeLeft(Option<Duration>),
    /// Whether the comparisons held, and the keys after it.
    Transacted {
        held: bool,
        at: At,
    },
    /// It is not there any more, or was not.
    Revoked,
    Failed(&'static str),
}

/// All keys at a revision of a history.
#[derive(Clone)]
pub struct At {
    pub era: usize,
    pub cluster: u64,
    pub revision: i64,
    pub keys: Rc<Keys>,
}

impl At {
    pub fn now(model: &Model) -> Self {
        let history = model.history();
        let keys = Rc::clone(history.keys());
        Self { era: model.era(), cluster: history.cluster, revision: history.revision(), keys }
    }
}

impl Request {
    /// What etcd does for it.
    pub fn carry_out(&self, model: &mut Model, now: Moment) -> Reply {
        if !model.has_leader() {
            return Reply::Failed("no leader");
        }
        self.answer(model, now).unwrap_or_else(|refusal| match refusal {
            Refusal::NoSuchLease => Reply::Failed("lease not found"),
            Refusal::NoLeader => Reply::Failed("no leader"),
        })
    }

    fn answer(&self, model: &mut Model, now: Moment) -> Result<Reply, Refusal> {
        Ok(match self {
            Self::List => Reply::Listed(At::now(model)),
            Self::Grant { owner, ttl } => Reply::Granted { lease: model.grant(*owner, *ttl, now)?, ttl: *ttl },
            Self::Renew(lease) => Reply::Renewed(model.renew(*lease, now)?),
            Self::TimeLeft(lease) => {
                let lease = model.leases.live.get(lease);
                Reply::TimeLeft(lease.map(|lease| lease.expires.saturating_sub(now)))
            }
            Self::Transact { compares, writes } => {
                let held = model.transact(compares, writes, End::Revoked)?;
                Reply::Transacted { held, at: At::now(model) }
            }
            Self::Revoke(lease) => {
                model.revoke(*lease, End::Revoked)?;
                Reply::Revoked
            }
        })
    }
}

impl fmt::Debug for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} keys at {}", self.keys.len(), self.revision)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => write!(formatter, "list"),
            Self::Grant { .. } => write!(formatter, "grant"),
            Self::Renew(lease) => write!(formatter, "renew {lease}"),
            Self::TimeLeft(lease) => write!(formatter, "ask for {lease}"),
            Self::Revoke(lease) => write!(formatter, "revoke {lease}"),
            Self::Transact { compares, writes } => {
                write!(formatter, "if {compares:?}")?;
                writes.iter().try_for_each(|write| match write {
                    Write::Put { key, lease, .. } => write!(formatter, " put {key} under {lease}"),
                    Write::Delete { key } => write!(formatter, " delete {key}"),
                })
            }
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(at) => write!(formatter, "{at:?}"),
            other => write!(formatter, "{other:?}"),
        }
    }
}

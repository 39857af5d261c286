//! What the files keep, as messages: one for each effect, and those that say whose they are and where they end.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use prost::Message;
use tokio::time::Instant;

use super::MAGIC;
use super::error::Damage;
use crate::identity::Identity;
use crate::machine::{Effect, Machine};
use crate::store::{Entry, Version};

/// One record. Only the fields that it is about are there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(message, optional, tag = "1")]
    cluster: Option<Cluster>,
    /// A start.
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(message, optional, tag = "3")]
    changes: Option<Changes>,
    #[prost(message, optional, tag = "4")]
    grant: Option<Grant>,
    /// A lease that has ended; its deletions are in `changes`.
    #[prost(int64, optional, tag = "5")]
    revoke: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    compaction: Option<i64>,
    /// Versions older than the first revision whose changes are kept.
    #[prost(message, repeated, tag = "7")]
    older: Vec<Kept>,
    /// The chain with which the journal after a base begins.
    #[prost(fixed32, optional, tag = "8")]
    next_chain: Option<u32>,
    /// A base is whole.
    #[prost(bool, tag = "9")]
    end: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(fixed64, tag = "1")]
    cluster_id: u64,
    #[prost(fixed64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Changes {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(message, repeated, tag = "2")]
    versions: Vec<Kept>,
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(message, optional, tag = "1")]
    kv: Option<PbKeyValue>,
    #[prost(bool, tag = "2")]
    deleted: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Grant {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

impl Kept {
    fn of(version: &Version) -> Self {
        Self { kv: Some((*version.kv).clone()), deleted: version.deleted }
    }

    fn version(self) -> Result<Version, Damage> {
        Ok(Version { kv: Arc::new(self.kv.ok_or(Damage::Record)?), deleted: self.deleted })
    }
}

impl Changes {
    fn of(entry: &Entry) -> Self {
        Self { revision: entry.revision, versions: entry.changes.iter().map(Kept::of).collect() }
    }

    fn entry(self) -> Result<Entry, Damage> {
        let changes = self.versions.into_iter().map(Kept::version).collect::<Result<_, _>>()?;
        Ok(Entry { revision: self.revision, changes })
    }
}

impl Record {
    pub(super) fn of(effect: &Effect) -> Self {
        let empty = Self::default();
        match effect {
            Effect::Changes(entry) => Self { changes: Some(Changes::of(entry)), ..empty },
            Effect::Grant { id, ttl } => Self { grant: Some(Grant { id: *id, ttl: *ttl }), ..empty },
            Effect::Revoke { id, entry } => {
                Self { revoke: Some(*id), changes: entry.as_deref().map(Changes::of), ..empty }
            }
            Effect::Compaction(revision) => Self { compaction: Some(*revision), ..empty },
        }
    }

    pub(super) fn start(term: u64) -> Self {
        Self { term: Some(term), ..Self::default() }
    }

    /// A base begins.
    pub(super) fn head(identity: &Identity, next_chain: u32) -> Self {
        let Identity { cluster_id, member_id, raft_term } = *identity;
        let cluster = Some(Cluster { cluster_id, member_id });
        Self { cluster, next_chain: Some(next_chain), ..Self::start(raft_term) }
    }

    /// A version of before the first revision whose changes are kept.
    pub(super) fn older(version: &Version) -> Self {
        Self { older: vec![Kept::of(version)], ..Self::default() }
    }

    /// A base ends.
    pub(super) fn end() -> Self {
        Self { end: true, ..Self::default() }
    }

    pub(super) fn is_end(&self) -> bool {
        self.end
    }

    pub(super) fn leads_to(&self) -> Option<u32> {
        self.next_chain
    }

    /// Adds it to a frame's content.
    pub(super) fn encode_to(&self, bytes: &mut Vec<u8>) {
        self.encode_length_delimited(bytes).expect("a vector grows");
    }

    /// Does again what it says.
    pub(super) fn restore(self, identity: &mut Option<Identity>, machine: &mut Machine) -> Result<(), Damage> {
        // The leases' time begins when they are served: `Machine::begin`.
        let now = Instant::now();
        if let Some(Cluster { cluster_id, member_id }) = self.cluster {
            *identity = Some(Identity { cluster_id, member_id, ..Identity::new(None) });
        }
        if let Some(term) = self.term {
            identity.as_mut().ok_or(Damage::Identity)?.raft_term = term;
        }
        for kept in self.older {
            machine.restore_older(kept.version()?);
        }
        let entry = self.changes.map(Changes::entry).transpose()?.map(Arc::new);
        if let Some(entry) = &entry
            && !machine.store().is_next(entry.revision)
        {
            return Err(Damage::Gap { present: machine.store().revision(), found: entry.revision });
        }
        let effects = [
            self.grant.map(|Grant { id, ttl }| Effect::Grant { id, ttl }),
            match (self.revoke, entry) {
                (Some(id), entry) => Some(Effect::Revoke { id, entry }),
                (None, entry) => entry.map(Effect::Changes),
            },
            self.compaction.map(Effect::Compaction),
        ];
        effects.into_iter().flatten().for_each(|effect| machine.restore(effect, now));
        Ok(())
    }
}

/// The records of a frame; a file's first one says before them what it is.
pub(super) fn decode(content: Vec<u8>, is_first: bool) -> Result<Vec<Record>, Damage> {
    let mut left = content.as_slice();
    if is_first {
        left = left.strip_prefix(MAGIC).ok_or(Damage::Format)?;
    }
    let mut records = Vec::new();
    while !left.is_empty() {
        records.push(Record::decode_length_delimited(&mut left).map_err(|_| Damage::Record)?);
    }
    Ok(records)
}

//! What a journal keeps, as messages: one for each effect, and those that a rewritten one begins with.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use prost::Message;
use tokio::time::Instant;

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

    /// All that leads to what is there now. Leases come first, so that keys find them.
    pub(super) fn all(identity: &Identity, machine: &Machine) -> impl Iterator<Item = Self> {
        let Identity { cluster_id, member_id, raft_term } = *identity;
        let head = Self { cluster: Some(Cluster { cluster_id, member_id }), ..Self::start(raft_term) };
        let (store, lessor) = (machine.store(), machine.lessor());
        let leases = lessor.ids().filter_map(move |id| Some(Effect::Grant { id, ttl: lessor.get(id)?.ttl }));
        let older = store.older().map(|version| Self { older: vec![Kept::of(version)], ..Self::default() });
        let entries = store.entries(0).map(|entry| Effect::Changes(Arc::clone(entry)));
        let compaction = Effect::Compaction(machine.compaction());
        let effects = entries.chain([compaction]).map(|effect| Self::of(&effect));
        std::iter::once(head).chain(leases.map(|effect| Self::of(&effect))).chain(older).chain(effects)
    }

    /// Does again what it says.
    pub(super) fn restore(
        self,
        identity: &mut Option<Identity>,
        machine: &mut Machine,
        now: Instant,
    ) -> Result<(), Damage> {
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

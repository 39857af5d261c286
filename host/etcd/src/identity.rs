//! Who answers: the ids that each header names.

use etcd_client::proto::PbResponseHeader;

/// The ids of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A new one for each new data directory, so that clients notice when another history begins.
    pub cluster_id: u64,
    /// The only member's.
    pub member_id: u64,
    /// Of each start another, as an etcd that elects itself anew.
    pub raft_term: u64,
}

/// An etcd that has just been made is in its second term.
const FIRST_TERM: u64 = 2;

impl Identity {
    /// One that nobody has had, but for the cluster's id where one is given.
    pub fn new(cluster_id: Option<u64>) -> Self {
        let cluster_id = cluster_id.unwrap_or_else(|| fastrand::u64(1..));
        Self { cluster_id, member_id: fastrand::u64(1..), raft_term: FIRST_TERM }
    }

    /// The header of an answer at a revision.
    pub fn header(&self, revision: i64) -> PbResponseHeader {
        let Self { cluster_id, member_id, raft_term } = *self;
        PbResponseHeader { cluster_id, member_id, revision, raft_term }
    }
}

//! What has happened to the peers of one role, for people: the last 256 events of each peer, within a bound for all.
//!
//! A peer that comes and goes the whole day does not push out what happened to another. Those that have gone are
//! remembered, too; of all that is kept beyond the bound, the peer with the most events loses its oldest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{Peer, PeerChange};
use serde::{Serialize, Serializer};

/// How many events of one peer are kept.
const OF_A_PEER: usize = 256;
/// How many of a role in all; some 200 bytes each. With a thousand peers each has its last sixteen at least.
const OF_A_ROLE: usize = 16_384;
/// Of how many peers that have gone. Ids are never used again, so that restarts make ever more of them.
const GONE_PEERS: usize = 1024;

/// Something that happened to a peer, as people are told of it.
#[derive(Clone, Debug, Serialize)]
pub struct PastEvent {
    /// Counts the role's events, so that those of one moment stay in order.
    #[serde(skip)]
    number: u64,
    /// When, in RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// The etcd revision of the table at that time.
    pub revision: i64,
    /// The peer's role.
    pub role: Role,
    /// The peer.
    pub server_id: ServerId,
    /// Its address at that time.
    pub address: String,
    /// `online`, `offline`, `stopping`, `replaced`, `reregistered`, `updated` or `given_up`.
    pub event: &'static str,
    /// Why, where there is something to say.
    pub detail: String,
}

/// The history of one role.
#[derive(Default)]
pub(super) struct History {
    peers: HashMap<ServerId, VecDeque<Arc<PastEvent>>>,
    /// How many events each peer has; the longest history is the last.
    lengths: BTreeSet<(usize, ServerId)>,
    /// How many there are in all.
    kept: usize,
    /// Who went, in order. One that came again since is in here, too.
    gone: VecDeque<ServerId>,
    /// How many there have been.
    numbers: u64,
}

impl History {
    /// Takes down what has changed, where people are told of it.
    pub fn add(&mut self, role: &Role, revision: i64, change: &PeerChange) -> Option<Arc<PastEvent>> {
        let event = Arc::new(PastEvent::of(self.numbers, role, revision, change)?);
        self.numbers += 1;
        self.kept += 1;
        let of_peer = self.peers.entry(event.server_id).or_default();
        of_peer.push_back(Arc::clone(&event));
        let length = of_peer.len();
        self.lengths.remove(&(length - 1, event.server_id));
        self.lengths.insert((length, event.server_id));
        if length > OF_A_PEER {
            self.lose_oldest(event.server_id);
        } else if self.kept > OF_A_ROLE
            && let Some((_, longest)) = self.lengths.last().copied()
        {
            self.lose_oldest(longest);
        }
        Some(event)
    }

    /// A peer has gone. It is forgotten when many others have gone after it, unless it `is_there` again by then.
    pub fn went(&mut self, server_id: ServerId, is_there: impl Fn(ServerId) -> bool) {
        self.gone.push_back(server_id);
        while self.gone.len() > GONE_PEERS {
            let Some(oldest) = self.gone.pop_front() else { break };
            if is_there(oldest) || self.gone.contains(&oldest) {
                continue;
            }
            if let Some(events) = self.peers.remove(&oldest) {
                self.lengths.remove(&(events.len(), oldest));
                self.kept -= events.len();
            }
        }
    }

    /// All that is kept, oldest first.
    pub fn all(&self) -> Vec<Arc<PastEvent>> {
        let mut all: Vec<_> = self.peers.values().flatten().cloned().collect();
        all.sort_unstable_by_key(|event| event.number);
        all
    }

    fn lose_oldest(&mut self, server_id: ServerId) {
        let Some(events) = self.peers.get_mut(&server_id) else { return };
        self.lengths.remove(&(events.len(), server_id));
        if events.pop_front().is_some() {
            self.kept -= 1;
        }
        self.lengths.insert((events.len(), server_id));
    }
}

impl PastEvent {
    fn of(number: u64, role: &Role, revision: i64, change: &PeerChange) -> Option<Self> {
        let (peer, event, detail): (&Peer, _, _) = match change {
            PeerChange::Table(_) => return None,
            PeerChange::Online(peer) if peer.standby => (peer, "online", "in standby".to_owned()),
            PeerChange::Online(peer) => (peer, "online", String::new()),
            PeerChange::Offline { peer, reason, error } => (peer, "offline", format!("{reason}: {error}")),
            PeerChange::Stopping(peer) => (peer, "stopping", String::new()),
            PeerChange::Replaced { old, new } => {
                (old, "replaced", format!("by {}-{} at {}", new.role, new.server_id, new.address))
            }
            PeerChange::Reregistered(peer) => (peer, "reregistered", String::new()),
            PeerChange::Updated(peer) => (peer, "updated", String::new()),
            PeerChange::GivenUp { peer, error } => (peer, "given_up", error.clone()),
        };
        let (role, address) = (role.clone(), peer.address.clone());
        let at = SystemTime::now();
        Some(Self { number, at, revision, role, server_id: peer.server_id, address, event, detail })
    }
}

/// A time as people and programs read it.
pub(super) fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

#[cfg(test)]
mod tests {
    use plugin_api::peers::{PeerLink, PeerSession, Registration};

    use super::*;

    fn online(id: i64) -> PeerChange {
        PeerChange::Online(Peer {
            role: role(),
            server_id: ServerId(id),
            address: "127.0.0.1:1".to_owned(),
            version: String::new(),
            labels: Default::default(),
            standby: false,
            suspect: false,
            session: PeerSession::Live,
            link: PeerLink::Ready,
            registration: Registration { create_revision: 1, lease_id: 1 },
        })
    }

    fn role() -> Role {
        Role::new("querynode").expect("a role")
    }

    /// How many events of a peer are kept, and the number of its oldest.
    fn of(history: &History, id: i64) -> (usize, u64) {
        let all = history.all();
        let mut of_peer = all.iter().filter(|event| event.server_id == ServerId(id)).peekable();
        let oldest = of_peer.peek().map_or(u64::MAX, |event| event.number);
        (of_peer.count(), oldest)
    }

    #[test]
    fn one_who_comes_and_goes_all_day_pushes_out_nobody_else() {
        let mut history = History::default();
        history.add(&role(), 1, &online(1));
        (0..1000).for_each(|_| drop(history.add(&role(), 1, &online(2))));
        assert_eq!((of(&history, 1), of(&history, 2)), ((1, 0), (OF_A_PEER, 1001 - OF_A_PEER as u64)));
    }

    #[test]
    fn beyond_the_bound_the_longest_histories_lose_first() {
        let mut history = History::default();
        history.add(&role(), 1, &online(0));
        for id in 1..=80 {
            (0..OF_A_PEER).for_each(|_| drop(history.add(&role(), 1, &online(id))));
        }
        assert_eq!((history.all().len(), history.kept), (OF_A_ROLE, OF_A_ROLE));
        assert_eq!(of(&history, 0), (1, 0));
        let shortest = (1..=80).map(|id| of(&history, id).0).min().expect("eighty");
        assert!(shortest >= (OF_A_ROLE - 1) / 80, "{shortest}");
    }

    #[test]
    fn who_went_long_ago_is_forgotten_unless_it_is_there_again() {
        let mut history = History::default();
        let last = i64::try_from(GONE_PEERS).expect("few") + 2;
        for id in 1..=last {
            history.add(&role(), 1, &online(id));
            history.went(ServerId(id), |id| id == ServerId(2));
        }
        assert_eq!([1, 2, 3].map(|id| of(&history, id).0), [0, 1, 1]);
        assert_eq!((history.kept, history.lengths.len()), (GONE_PEERS + 1, GONE_PEERS + 1));
    }
}

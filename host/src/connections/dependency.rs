//! One role that is followed: what its driver publishes, and what calls, listeners and people read.
//!
//! The driver alone writes. A reader never waits for another and never holds the driver up.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use plugin_api::channel::Target;
use plugin_api::descriptor::Kind;
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{Peer, PeerChange, PeerLink, PeerSession};
use rpds::RedBlackTreeMapSync;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::events::Events;
use super::frames::Traffic;
use super::history::PastEvent;
use super::link::{Link, Way};
use super::peer::{Departure, LinkState, PeerState, Says};
use super::ranks::{Rank, Ranks};
use crate::cluster::{PeerSessionEntry, PeerTable};
use crate::metrics::OfRole;
use crate::wire::{Addressee, AddresseeMetadata};

/// A followed role.
pub(super) struct Followed {
    /// The role.
    pub role: Role,
    /// What is counted of the links to them.
    pub measured: Arc<OfRole>,
    /// The role's peers as they are now.
    view: watch::Sender<Arc<RoleView>>,
    /// Locked while a view and its events are published, so that a listener that begins sees each change exactly once:
    /// in its first table, or as an event.
    events: Mutex<Events>,
    /// The id of the node that was called last, to take them in turn.
    turn: AtomicI64,
}

/// A role's peers as they are at one moment.
#[derive(Clone)]
pub(super) struct RoleView {
    /// The table that it was made of.
    pub table: Arc<PeerTable>,
    /// All peers that are in the table.
    pub peers: PeerViews,
    /// Who of them is called next.
    pub ranks: Ranks,
    /// Those that have gone lately.
    pub gone: PeersGone,
}

/// Peers by server id. Views share what they have in common.
pub(super) type PeerViews = RedBlackTreeMapSync<ServerId, Arc<PeerView>>;

/// Peers that have gone lately, by server id.
pub(super) type PeersGone = RedBlackTreeMapSync<ServerId, Gone>;

/// One peer as it is at one moment.
#[derive(Clone)]
pub(super) struct PeerView {
    /// Its session.
    pub entry: Arc<PeerSessionEntry>,
    /// How it stands.
    pub state: PeerState,
    /// The link, where calls can be sent.
    pub link: Option<Arc<Link>>,
    /// What outlives each view of it.
    pub shared: Arc<PeerShared>,
}

/// What is one for all views of a peer.
pub(super) struct PeerShared {
    /// Cancelled when its running calls are to end at once.
    pub cut: CancellationToken,
    /// What calls that are cut are told.
    pub cut_status: CutStatus,
    /// Whom calls to it mean, as they say it.
    pub addressee: AddresseeMetadata,
    /// Calls that run on its links.
    pub running: AtomicUsize,
    /// Dials so far.
    pub dials: AtomicU64,
    /// How its links go to it.
    pub way: Way,
    /// What has gone over its links.
    pub traffic: Arc<Traffic>,
    /// The latest refusal that the driver has not looked at yet.
    refused: Mutex<Option<Refused>>,
    /// Tells the driver that there is one.
    refusals: mpsc::UnboundedSender<Arc<PeerShared>>,
}

/// The status of the calls that run when their peer goes: made by the first of them, since many are cut at once.
#[derive(Default)]
pub(super) struct CutStatus {
    by_role: OnceLock<Status>,
    by_id: OnceLock<Status>,
}

/// A call that a peer refused because it does not serve.
pub(super) struct Refused {
    /// Whose.
    pub server_id: ServerId,
    /// What it says of itself.
    pub says: Says,
    /// When the call was sent: what the peer has said since is newer.
    pub sent: Instant,
}

/// A peer that has gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// How.
    pub departure: Departure,
    /// When.
    pub since: Instant,
}

impl Followed {
    /// A role of which nothing is known yet. What people are told of goes to `news`, too.
    pub fn new(role: Role, news: broadcast::Sender<Arc<PastEvent>>, measured: Arc<OfRole>) -> Self {
        let table = Arc::new(PeerTable::unknown(role.clone()));
        let (peers, gone) = (PeerViews::new_sync(), PeersGone::new_sync());
        let view = RoleView { table, peers, ranks: Ranks::default(), gone };
        Self {
            role,
            measured,
            view: watch::Sender::new(Arc::new(view)),
            events: Mutex::new(Events::new(news)),
            turn: AtomicI64::new(i64::MIN),
        }
    }

    /// The peers now.
    pub fn view(&self) -> Arc<RoleView> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the peers.
    pub fn watch(&self) -> watch::Receiver<Arc<RoleView>> {
        self.view.subscribe()
    }

    /// Publishes a view and what changed with it, as one.
    pub fn publish(&self, view: RoleView, changes: Vec<PeerChange>) {
        let mut events = self.events();
        let view = Arc::new(view);
        self.view.send_replace(Arc::clone(&view));
        for change in changes {
            events.publish(&self.role, &view, change);
        }
    }

    /// The events, to be locked for a moment only.
    pub fn events(&self) -> MutexGuard<'_, Events> {
        // A panic while it was locked leaves whole events behind: each is published by one push.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer that [`Followed::choose`] would give, whose turn it stays.
    pub fn next<'a>(&self, view: &'a RoleView, kind: Kind) -> Option<&'a Arc<PeerView>> {
        match kind {
            Kind::Coordinator => view.active(),
            Kind::Node => view.next_after(ServerId(self.turn.load(Ordering::Relaxed))),
        }
    }

    /// The peer of a role's next call: the active coordinator; of nodes, any that can be called, in turn.
    pub fn choose(&self, view: &RoleView, kind: Kind) -> Option<Arc<PeerView>> {
        match kind {
            Kind::Coordinator => view.active().cloned(),
            Kind::Node => loop {
                let before = self.turn.load(Ordering::Relaxed);
                let peer = view.next_after(ServerId(before))?;
                // Another call may have taken this one meanwhile: it is the next one's turn.
                let taken =
                    self.turn.compare_exchange(before, peer.entry.server_id().0, Ordering::Relaxed, Ordering::Relaxed);
                if taken.is_ok() {
                    return Some(Arc::clone(peer));
                }
            },
        }
    }
}

impl RoleView {
    /// How old the table is now; none before the first list.
    pub fn age(&self) -> Option<Duration> {
        self.table.age()
    }

    /// Is the table older than it should be?
    pub fn is_stale(&self) -> bool {
        self.table.is_stale()
    }

    /// The active holder of a coordinator role.
    pub fn active(&self) -> Option<&Arc<PeerView>> {
        let holder = self.ranks.holder().and_then(|server_id| self.peers.get(&server_id));
        holder.or_else(|| self.peers.values().find(|peer| !peer.entry.standby))
    }

    /// The node whose turn it is after this one: of those that can be called; else of those that still can, though they are
    /// stopping; else the one that is nearest to it.
    fn next_after(&self, before: ServerId) -> Option<&Arc<PeerView>> {
        self.peers.get(&self.ranks.next_after(before)?)
    }

    /// All peers, for a component.
    pub fn list(&self) -> Vec<Peer> {
        self.peers.values().map(|peer| peer.describe(&self.table.role)).collect()
    }
}

impl PeerView {
    /// Can it be called now, by anybody who does not mean just this one?
    pub fn is_callable(&self) -> bool {
        self.state.session.kind() == PeerSession::Live
            && matches!(self.state.link, LinkState::Ready { .. })
            && !self.entry.standby
    }

    /// How near it is to being called; none for one in standby, which never is.
    pub fn rank(&self) -> Option<Rank> {
        (!self.entry.standby).then(|| Rank::of(&self.state))
    }

    /// Has it said that it will stop?
    pub fn is_stopping(&self) -> bool {
        self.state.session.kind() == PeerSession::Stopping
    }

    /// The peer, for a component.
    pub fn describe(&self, role: &Role) -> Peer {
        describe(role, &self.entry, self.state.session.kind(), self.state.link.kind())
    }
}

/// A peer, for a component.
pub(super) fn describe(role: &Role, entry: &PeerSessionEntry, session: PeerSession, link: PeerLink) -> Peer {
    Peer {
        role: role.clone(),
        server_id: entry.server_id(),
        address: entry.record.address.clone(),
        version: entry.record.version.clone(),
        labels: entry.record.server_labels.to_map(),
        standby: entry.standby,
        suspect: entry.suspect,
        session,
        link,
        registration: entry.registration,
    }
}

impl CutStatus {
    /// The status of a call that meant this target.
    pub fn get(&self, target: &Target, make: impl FnOnce() -> Status) -> Status {
        let made = match target {
            Target::Role(_) => &self.by_role,
            Target::Server(..) => &self.by_id,
        };
        made.get_or_init(make).clone()
    }
}

impl PeerShared {
    /// Of a new peer. What is cut when the role is let go is cut for the peer, too.
    pub fn new(
        role: &CancellationToken,
        way: Way,
        addressee: &Addressee,
        refusals: mpsc::UnboundedSender<Arc<PeerShared>>,
    ) -> Self {
        Self {
            cut: role.child_token(),
            cut_status: CutStatus::default(),
            addressee: addressee.metadata(),
            running: AtomicUsize::new(0),
            dials: AtomicU64::new(0),
            way,
            traffic: Arc::default(),
            refused: Mutex::default(),
            refusals,
        }
    }

    /// Tells the driver that the peer has refused a call that was sent then. One report of each peer is under way at most,
    /// and it is the latest.
    pub fn refused(self: &Arc<Self>, server_id: ServerId, says: Says, sent: Instant) {
        let mut latest = self.latest_refusal();
        let told = latest.is_some();
        if latest.as_ref().is_none_or(|before| before.sent < sent) {
            *latest = Some(Refused { server_id, says, sent });
        }
        if !told {
            // Nobody looks any more where the role has been let go.
            let _ = self.refusals.send(Arc::clone(self));
        }
    }

    /// The report, for the driver.
    pub fn take_refusal(&self) -> Option<Refused> {
        self.latest_refusal().take()
    }

    fn latest_refusal(&self) -> MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Standing;
    use super::*;

    #[test]
    fn of_many_refusals_of_a_peer_one_report_is_under_way_and_it_is_the_latest() {
        let (refusals, mut reports) = mpsc::unbounded_channel();
        let stopped = CancellationToken::new();
        let peer = Arc::new(PeerShared::new(&stopped, Way::Tcp, &Addressee::default(), refusals));
        let says =
            Standing { code: plugin_api::state::StateCode::Healthy, fenced: true }.proves(false).expect_err("fenced");
        let (first, last) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        for sent in [first, last, first] {
            peer.refused(ServerId(7), says, sent);
        }
        let mut report = || reports.try_recv().ok().map(|peer| peer.take_refusal().map(|refused| refused.sent));
        assert_eq!((report(), report()), (Some(Some(last)), None));
        peer.refused(ServerId(7), says, first);
        assert_eq!(report(), Some(Some(first)), "what comes after it was taken is told again");
    }
}

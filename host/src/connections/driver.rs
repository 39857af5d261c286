//! The driver of one role: it follows the table, dials, and does what each peer's state machine says.
//!
//! One task for each role that is depended on. It only ever waits for the next input: dials and links run in tasks of
//! their own, so that no peer holds up another. It alone writes the role's view.
//!
//! * `follow`: what the table says. `act`: what a machine says is done. `told`: what components are told. `open`: links as
//!   they are counted.

mod act;
mod follow;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{Peer, PeerChange};
use plugin_api::state::StateCode;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ConnectionsConfig;
use super::dependency::{Followed, PeerShared, PeerView, PeerViews, PeersGone, RoleView, describe};
use super::dial::{Dialled, Opened, Unproved};
use super::link::{Ended, Link, Way};
use super::local::LocalHost;
use super::peer::{Input, LinkState, PeerState, Says, Standing};
use super::places::Places;
use super::ranks::Ranks;
use crate::cluster::{PeerSessionEntry, PeerTable};
use crate::metrics::OfRole;
use crate::tls::Security;
use crate::wire::Addressee;

/// What all drivers of a host share.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// The numbers.
    pub config: Arc<ConnectionsConfig>,
    /// The cluster that peers must belong to.
    pub cluster: String,
    /// How they are spoken with.
    pub security: Security,
    /// How many dials may begin at once.
    pub starts: Arc<Semaphore>,
    /// Which of the peers is this very host.
    pub local: Option<LocalHost>,
}

impl Surroundings {
    fn local_to(&self, server_id: ServerId) -> Option<&LocalHost> {
        self.local.as_ref().filter(|local| local.server_id == server_id)
    }

    fn way_to(&self, server_id: ServerId) -> Way {
        if self.local_to(server_id).is_some() { Way::Local } else { Way::Tcp }
    }
}

/// The driver of one role.
pub(super) struct Driver {
    followed: Arc<Followed>,
    table: watch::Receiver<Arc<PeerTable>>,
    stop: CancellationToken,
    current: Arc<PeerTable>,
    peers: BTreeMap<ServerId, Tracked>,
    /// Those whose session went after it said that it was stopping, and whose calls drain.
    leaving: BTreeMap<Incarnation, Tracked>,
    gone: PeersGone,
    places: Places,
    /// What was published, and is changed where peers have changed.
    views: PeerViews,
    ranks: Ranks,
    /// When peers are due; each is in here at most once.
    timers: BTreeSet<(Instant, ServerId)>,
    incarnations: Incarnation,
    /// From calls: who has refused them. The other end is handed to each peer.
    refusals: (mpsc::UnboundedSender<Arc<PeerShared>>, mpsc::UnboundedReceiver<Arc<PeerShared>>),
    hands: Hands,
}

/// Tells the appearances of one identity apart.
type Incarnation = u64;

/// One peer, with what is done for it.
struct Tracked {
    incarnation: Incarnation,
    entry: Arc<PeerSessionEntry>,
    state: PeerState,
    link: Option<Arc<Link>>,
    shared: Arc<PeerShared>,
    /// The number of the present link, of the present dial: reports of others are out of date.
    link_number: u64,
    dial_number: u64,
    dial: Option<AbortHandle>,
    /// Over which a peer that is not to be called yet is asked again.
    unproved: Option<Opened>,
    told_online: bool,
    /// It was in standby when it was last heard of: where it is to be active, it is asked.
    stood_by: bool,
    /// When it was last asked whether it serves.
    asked: Option<Instant>,
    /// Its place among the timers.
    timer: Option<Instant>,
}

/// What a driver does for its peers.
struct Hands {
    surroundings: Surroundings,
    role: Role,
    measured: Arc<OfRole>,
    work: JoinSet<Report>,
    /// To be published with the next view.
    changes: Vec<PeerChange>,
    /// Peers whose view or timer may have changed since the last one.
    dirty: BTreeSet<ServerId>,
    /// Who held an exclusive role last, and holds it no more; until another does.
    departed: Option<Peer>,
    /// To be cancelled after the next view.
    cuts: Vec<CancellationToken>,
}

/// What a task reports when it ends.
struct Report {
    server_id: ServerId,
    incarnation: Incarnation,
    finding: Finding,
}

enum Finding {
    Dialled(u64, Dialled),
    Asked(u64, Result<Option<Standing>, Unproved>),
    LinkEnded(u64, Ended),
    Probed(u64, Result<(), String>),
}

impl Driver {
    pub fn new(
        followed: Arc<Followed>,
        table: watch::Receiver<Arc<PeerTable>>,
        stop: CancellationToken,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            current: Arc::new(PeerTable::unknown(followed.role.clone())),
            hands: Hands {
                surroundings,
                role: followed.role.clone(),
                measured: Arc::clone(&followed.measured),
                work: JoinSet::new(),
                changes: Vec::new(),
                dirty: BTreeSet::new(),
                departed: None,
                cuts: Vec::new(),
            },
            followed,
            table,
            peers: BTreeMap::new(),
            leaving: BTreeMap::new(),
            gone: PeersGone::new_sync(),
            places: Places::default(),
            views: PeerViews::new_sync(),
            ranks: Ranks::default(),
            timers: BTreeSet::new(),
            incarnations: 0,
            refusals: mpsc::unbounded_channel(),
            stop,
        }
    }

    /// Takes the table as it is, and begins to dial: once, before [`Driver::run`], so that no call is told that nothing
    /// is known.
    pub fn begin(&mut self) {
        self.follow_anew();
        self.publish();
    }

    /// Runs until the role is let go. `tables` gives another table to follow, in place of the one before.
    pub async fn run(mut self, mut tables: mpsc::UnboundedReceiver<watch::Receiver<Arc<PeerTable>>>) {
        let mut table_lives = true;
        let mut security = self.hands.surroundings.security.clone();
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                changed = self.table.changed(), if table_lives => match changed {
                    Ok(()) => self.follow(),
                    // Nobody writes it any more: the last table stays, and its links.
                    Err(_) => table_lives = false,
                },
                Some(table) = tables.recv() => {
                    self.table = table;
                    table_lives = true;
                    self.follow_anew();
                }
                Some(report) = self.hands.work.join_next() => self.take(report),
                Some(peer) = self.refusals.1.recv() => self.refused(&peer),
                () = security.renewed() => self.renew(),
                () = sleep_until(due) => self.fire(),
            }
            while let Some(report) = self.hands.work.try_join_next() {
                self.take(report);
            }
            self.publish();
        }
        self.hands.work.abort_all();
    }

    /// A peer has refused a call. What it has said since that call was sent is newer.
    fn refused(&mut self, shared: &Arc<PeerShared>) {
        let Some(refused) = shared.take_refusal() else { return };
        let Some(peer) = self.peers.get_mut(&refused.server_id) else { return };
        let newer = matches!(peer.state.link, LinkState::Ready { since, .. } if since > refused.sent);
        if Arc::ptr_eq(&peer.shared, shared) && !newer {
            self.hands.drive(peer, Input::Refused(refused.says));
        }
    }

    fn due(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(due, _)| *due);
        self.leaving.values().filter_map(|peer| peer.state.due()).chain(first).min()
    }

    fn fire(&mut self) {
        let now = Instant::now();
        let due: Vec<ServerId> = self.timers.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for server_id in due {
            if let Some(peer) = self.peers.get_mut(&server_id) {
                self.hands.drive(peer, Input::Due);
            }
        }
        for peer in self.leaving.values_mut() {
            if peer.state.due().is_some_and(|due| due <= now) {
                self.hands.drive(peer, Input::Due);
            }
        }
        self.leaving.retain(|_, peer| peer.state.link != LinkState::Closed);
    }

    /// Our own certificates are others now.
    fn renew(&mut self) {
        for peer in self.peers.values_mut() {
            self.hands.drive(peer, Input::Renewed);
        }
    }

    fn take(&mut self, report: Result<Report, tokio::task::JoinError>) {
        // A dial that was cancelled reports nothing; a panic in one is a bug, and must not end the role's driver.
        let report = match report {
            Ok(report) => report,
            Err(error) if error.is_cancelled() => return,
            Err(error) => return tracing::error!(%error, role = %self.followed.role, "a link's task has panicked"),
        };
        let current = self.peers.get_mut(&report.server_id).filter(|peer| peer.incarnation == report.incarnation);
        let Some(peer) = current.or_else(|| self.leaving.get_mut(&report.incarnation)) else { return };
        match report.finding {
            Finding::Dialled(number, outcome) if number == peer.dial_number => self.hands.dialled(peer, outcome),
            Finding::Asked(number, answer) if number == peer.dial_number => self.hands.asked(peer, answer),
            Finding::LinkEnded(number, ended) if number == peer.link_number && peer.link_number != 0 => {
                let input = match ended {
                    Ended::GoingAway(_) => Input::GoAway,
                    Ended::Lost(error, _) => Input::Lost(error),
                };
                self.hands.drive(peer, input);
            }
            Finding::Probed(number, answer) if number == peer.link_number => {
                self.hands.drive(peer, answer.map_or_else(Input::Unanswered, |()| Input::Answered));
            }
            Finding::Dialled(..) | Finding::Asked(..) | Finding::LinkEnded(..) | Finding::Probed(..) => {}
        }
        self.settle(report.server_id);
        self.leaving.retain(|_, peer| peer.state.link != LinkState::Closed);
    }

    fn publish(&mut self) {
        for server_id in std::mem::take(&mut self.hands.dirty) {
            let Some(peer) = self.peers.get_mut(&server_id) else {
                self.ranks.take(server_id, self.views.get(&server_id).map(AsRef::as_ref), None);
                self.views.remove_mut(&server_id);
                continue;
            };
            let view = peer.view();
            self.ranks.take(server_id, self.views.get(&server_id).map(AsRef::as_ref), Some(&view));
            self.views.insert_mut(server_id, Arc::new(view));
            let due = peer.state.due();
            if let Some(before) = std::mem::replace(&mut peer.timer, due) {
                self.timers.remove(&(before, server_id));
            }
            self.timers.extend(due.map(|due| (due, server_id)));
        }
        let (peers, ranks, gone) = (self.views.clone(), self.ranks.clone(), self.gone.clone());
        let view = RoleView { table: Arc::clone(&self.current), peers, ranks, gone };
        self.followed.publish(view, std::mem::take(&mut self.hands.changes));
        // Whoever is cut looks at the view next: by now it says that the peer has gone.
        for cut in self.hands.cuts.drain(..) {
            cut.cancel();
        }
    }
}

impl Hands {
    /// Whom calls to this peer mean.
    fn addressee(&self, server_id: ServerId) -> Addressee {
        let (cluster, role) = (Some(self.surroundings.cluster.clone()), Some(self.role.clone()));
        Addressee { cluster, server_id: Some(server_id), role }
    }
}

impl Tracked {
    fn stop_dialling(&mut self) {
        // A report that is on its way is out of date from now on.
        self.dial_number += 1;
        self.unproved = None;
        if let Some(dial) = self.dial.take() {
            dial.abort();
        }
    }

    /// What it says of itself, beside what etcd says of it: may it be called? A foreign server, which cannot say, may.
    fn judge(&mut self, standing: Option<Standing>) -> Result<(), Says> {
        let Some(standing) = standing else { return Ok(()) };
        self.stood_by = standing.code == StateCode::StandBy;
        standing.proves(self.entry.standby)
    }

    fn describe(&self, role: &Role) -> Peer {
        describe(role, &self.entry, self.state.session.kind(), self.state.link.kind())
    }

    fn view(&self) -> PeerView {
        PeerView {
            entry: Arc::clone(&self.entry),
            state: self.state.clone(),
            link: self.link.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

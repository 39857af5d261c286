//! The driver of one role: it follows the table, dials, and does what each peer's state machine says.
//!
//! One task for each role that is depended on. It only ever waits for the next input: dials and links run in tasks of
//! their own, so that no peer holds up another.
//! Longer than most files, because every input of the one task is handled beside its neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{Peer, PeerChange, PeerLink, PeerSession};
use plugin_api::state::StateCode;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ConnectionsConfig;
use super::dependency::{Followed, Gone, PeerShared, PeerView, PeerViews, PeersGone, Refused, RoleView, describe};
use super::dial::{self, Dialled, Expected, Opened, Unproved};
use super::link::{Ended, Link, Way};
use super::local::LocalHost;
use super::peer::{Action, Departure, Input, LinkState, Moment, PeerState, Says, Session, Standing, Told};
use super::places::Places;
use super::ranks::Ranks;
use crate::cluster::{PeerSessionEntry, PeerTable};
use crate::metrics::{Disconnect, OfRole};
use crate::tls::Security;

/// How many peers that have gone are remembered, so that a call to one of them is told so.
const REMEMBERED: usize = 1024;

/// How many refusals of calls may wait to be looked at. One of each peer is enough, and the next is as good.
const REFUSALS: usize = 64;

/// How long a suspect may take to say that it is there.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

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
    refusals: (mpsc::Sender<Refused>, mpsc::Receiver<Refused>),
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

/// A link that is open, as it is counted: it ends once, whoever ends it.
struct Open {
    measured: Arc<OfRole>,
    link: Weak<Link>,
    why: Disconnect,
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
            refusals: mpsc::channel(REFUSALS),
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
                Some(refused) = self.refusals.1.recv() => self.refused(&refused),
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
    fn refused(&mut self, refused: &Refused) {
        let Some(peer) = self.peers.get_mut(&refused.server_id) else { return };
        let newer = matches!(peer.state.link, LinkState::Ready { since, .. } if since > refused.sent);
        if Arc::ptr_eq(&peer.shared, &refused.peer) && !newer {
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

    /// Takes the difference between the table and the one before: of those that it says it has changed.
    fn follow(&mut self) {
        let table = Arc::clone(&self.table.borrow_and_update());
        let Some(touched) = table.touched.since(&self.current.touched) else { return self.follow_all(table) };
        let touched: BTreeSet<ServerId> = touched.collect();
        for server_id in &touched {
            self.places.take(*server_id, &self.current, &table);
        }
        self.compare(&table, &touched);
    }

    /// Takes a table that may have nothing to do with the one before.
    fn follow_anew(&mut self) {
        let table = Arc::clone(&self.table.borrow_and_update());
        self.follow_all(table);
    }

    fn follow_all(&mut self, table: Arc<PeerTable>) {
        self.places = Places::of(&table);
        let all = self.peers.keys().chain(table.sessions.keys()).copied().collect();
        self.compare(&table, &all);
    }

    fn compare(&mut self, table: &Arc<PeerTable>, touched: &BTreeSet<ServerId>) {
        self.current = Arc::clone(table);
        let stays = |id: &ServerId, peer: &Tracked| {
            table.sessions.get(id).is_some_and(|entry| entry.appeared == peer.entry.appeared)
        };
        for server_id in touched {
            if self.peers.get(server_id).is_some_and(|peer| !stays(server_id, peer)) {
                self.remove(*server_id, table);
            }
        }
        let there = || touched.iter().filter_map(|id| table.sessions.get(id).map(|entry| (*id, entry)));
        // Who steps down comes before who takes its place.
        let (standbys, others): (Vec<_>, Vec<_>) = there().partition(|(_, entry)| entry.standby);
        for (server_id, entry) in standbys.into_iter().chain(others) {
            match self.peers.get_mut(&server_id) {
                Some(peer) if peer.entry != *entry => {
                    let replaced = self.hands.update(peer, entry, table);
                    if let Some(gone) = replaced.and_then(|replaced| self.gone.get_mut(&replaced)) {
                        gone.departure = Departure::Replaced;
                    }
                }
                Some(_) => {}
                // Nothing speaks for a suspect to which there is no link.
                None if entry.suspect => {}
                None => self.add(server_id, entry),
            }
            self.settle(server_id);
        }
    }

    /// A suspect that was let go has gone, though the table still has it.
    fn settle(&mut self, server_id: ServerId) {
        let gone = |peer: &Tracked| matches!(peer.state.session, Session::Gone(_));
        if !self.peers.get(&server_id).is_some_and(gone) {
            return;
        }
        if let Some(peer) = self.peers.remove(&server_id) {
            self.bury(server_id, Departure::Deleted);
            self.leave(peer);
        }
    }

    /// Its calls may still drain.
    fn leave(&mut self, peer: Tracked) {
        if let Some(timer) = peer.timer {
            self.timers.remove(&(timer, peer.entry.server_id()));
        }
        self.hands.dirty.insert(peer.entry.server_id());
        if peer.state.link != LinkState::Closed {
            self.leaving.insert(peer.incarnation, peer);
        }
    }

    fn bury(&mut self, server_id: ServerId, departure: Departure) {
        self.gone.insert_mut(server_id, Gone { departure, since: Instant::now() });
        while self.gone.size() > REMEMBERED {
            let Some(oldest) = self.gone.iter().min_by_key(|(_, gone)| gone.since).map(|(id, _)| *id) else { break };
            self.gone.remove_mut(&oldest);
        }
    }

    fn add(&mut self, server_id: ServerId, entry: &Arc<PeerSessionEntry>) {
        self.incarnations += 1;
        let config = &self.hands.surroundings.config;
        let mut peer = Tracked {
            incarnation: self.incarnations,
            entry: Arc::clone(entry),
            state: PeerState::new(entry.record.stopping, Moment::now(), config),
            link: None,
            shared: Arc::new(PeerShared::new(
                &self.stop,
                self.hands.surroundings.way_to(server_id),
                self.refusals.0.clone(),
            )),
            link_number: 0,
            dial_number: 0,
            dial: None,
            unproved: None,
            told_online: false,
            stood_by: false,
            asked: None,
            timer: None,
        };
        self.hands.dirty.insert(server_id);
        if entry.record.exclusive && !entry.standby {
            self.hands.departed = None;
        }
        if self.gone.remove_mut(&server_id) {
            self.hands.changes.push(PeerChange::Reregistered(peer.describe(&self.hands.role)));
        }
        self.hands.act(&mut peer, Action::Dial);
        self.peers.insert(server_id, peer);
    }

    fn remove(&mut self, server_id: ServerId, table: &PeerTable) {
        let Some(mut peer) = self.peers.remove(&server_id) else { return };
        let successor = self.successor(&peer.entry, table);
        let departure = if successor.is_some() { Departure::Replaced } else { Departure::Deleted };
        self.bury(server_id, departure);
        let told = self.hands.changes.len();
        self.hands.drive(&mut peer, Input::Deleted(departure));
        let old = peer.describe(&self.followed.role);
        if peer.entry.record.exclusive && !peer.entry.standby {
            self.hands.departed = Some(old.clone());
        }
        if let Some(successor) = successor {
            // One event says both: that the old one has gone, and who is there instead.
            self.hands.changes.truncate(told);
            let tracked = self.peers.get(&successor.server_id());
            // One that was in standby is told of when its own change is taken.
            if !tracked.is_some_and(|tracked| tracked.entry.standby) {
                let link = tracked.map_or(PeerLink::Connecting, |tracked| tracked.state.link.kind());
                let new = describe(&self.followed.role, successor, PeerSession::Live, link);
                self.hands.departed = None;
                self.hands.changes.push(PeerChange::Replaced { old, new });
            }
        }
        self.leave(peer);
    }

    /// Who has taken the place of a peer that is not in the table any more: the active one of an exclusive role; of nodes,
    /// a younger process at the same address.
    fn successor<'a>(&self, old: &PeerSessionEntry, table: &'a PeerTable) -> Option<&'a Arc<PeerSessionEntry>> {
        if old.standby {
            return None;
        }
        if old.record.exclusive {
            return table.active().filter(|new| new.server_id() != old.server_id());
        }
        table.sessions.get(&self.places.younger(&old.record.address, old.server_id())?)
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
                    Ended::GoingAway => Input::GoAway,
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
        let view = RoleView { table: Arc::clone(&self.current), source: self.table.clone(), peers, ranks, gone };
        self.followed.publish(view, std::mem::take(&mut self.hands.changes));
        // Whoever is cut looks at the view next: by now it says that the peer has gone.
        for cut in self.hands.cuts.drain(..) {
            cut.cancel();
        }
    }
}

impl Hands {
    /// Tells the machine, and does what it says.
    fn drive(&mut self, peer: &mut Tracked, input: Input) {
        for action in self.decide(peer, input) {
            self.act(peer, action);
        }
    }

    fn decide(&mut self, peer: &mut Tracked, input: Input) -> Vec<Action> {
        self.dirty.insert(peer.entry.server_id());
        match peer.state.transition(input, Moment::now(), &self.surroundings.config) {
            Ok(actions) => {
                if let (LinkState::Draining { .. }, Some(link)) = (&peer.state.link, &peer.link) {
                    link.retire();
                }
                actions
            }
            Err(refused) => {
                tracing::debug!(peer = peer.entry.record.server_id, "{refused}");
                Vec::new()
            }
        }
    }

    fn act(&mut self, peer: &mut Tracked, action: Action) {
        match action {
            Action::Dial => self.dial(peer),
            Action::AskAgain(delay) => self.ask_again(peer, delay),
            Action::Ask => self.ask(peer),
            Action::StopDialling => peer.stop_dialling(),
            Action::DropLink => {
                if let Some(link) = peer.link.take() {
                    link.retire();
                }
                self.dirty.insert(peer.entry.server_id());
            }
            Action::Probe => self.probe(peer),
            Action::Cut(_) => self.cuts.push(peer.shared.cut.clone()),
            Action::Tell(told) => self.tell(peer, told),
        }
    }

    fn dial(&mut self, peer: &mut Tracked) {
        peer.stop_dialling();
        peer.shared.dials.fetch_add(1, Ordering::Relaxed);
        let config = Arc::clone(&self.surroundings.config);
        let limit = limit_of_dial(&peer.state.link, &config);
        let place = match self.surroundings.local_to(peer.entry.server_id()) {
            Some(local) => dial::Place::Here(Arc::clone(&local.calls)),
            None => dial::Place::Address(peer.entry.record.address.clone()),
        };
        let attempt = dial::dial(
            place,
            self.expected(peer),
            peer.shared.cut.child_token(),
            limit,
            self.surroundings.clone(),
            Arc::clone(&peer.shared.traffic),
        );
        self.spawn_dial(peer, attempt);
    }

    fn ask_again(&mut self, peer: &mut Tracked, delay: Duration) {
        let Some(opened) = peer.unproved.take() else { return self.dial(peer) };
        let config = Arc::clone(&self.surroundings.config);
        let attempt = dial::ask_again(opened, self.expected(peer), delay, config);
        self.spawn_dial(peer, attempt);
    }

    /// In place of any dial: there is none while there is a link that is proved.
    fn ask(&mut self, peer: &mut Tracked) {
        let Some(link) = peer.link.clone() else { return self.dial(peer) };
        peer.stop_dialling();
        let config = Arc::clone(&self.surroundings.config);
        let now = Instant::now();
        let earliest = peer.asked.map_or(now, |asked| now.max(asked + config.backoff_min));
        peer.asked = Some(earliest);
        let answer = dial::ask_whether_serving(link, self.expected(peer), earliest, config);
        let (server_id, incarnation, number) = (peer.entry.server_id(), peer.incarnation, peer.dial_number);
        peer.dial =
            Some(self.work.spawn(async move {
                Report { server_id, incarnation, finding: Finding::Asked(number, answer.await) }
            }));
    }

    fn spawn_dial(&mut self, peer: &mut Tracked, attempt: impl Future<Output = Dialled> + Send + 'static) {
        peer.dial_number += 1;
        let (server_id, incarnation, number) = (peer.entry.server_id(), peer.incarnation, peer.dial_number);
        peer.dial =
            Some(self.work.spawn(async move {
                Report { server_id, incarnation, finding: Finding::Dialled(number, attempt.await) }
            }));
    }

    fn probe(&mut self, peer: &Tracked) {
        let (server_id, incarnation, number) = (peer.entry.server_id(), peer.incarnation, peer.link_number);
        let Some(link) = peer.link.clone() else { return };
        let answer = dial::ask_whether_there(link, self.expected(peer), PROBE_LIMIT);
        self.work
            .spawn(async move { Report { server_id, incarnation, finding: Finding::Probed(number, answer.await) } });
    }

    fn expected(&self, peer: &Tracked) -> Expected {
        Expected {
            cluster: self.surroundings.cluster.clone(),
            role: self.role.clone(),
            server_id: peer.entry.server_id(),
            identity_required: self.surroundings.config.requires_identity(self.surroundings.security.is_mutual()),
        }
    }

    fn dialled(&mut self, peer: &mut Tracked, outcome: Dialled) {
        peer.dial = None;
        if !matches!(outcome, Dialled::Answered { .. }) {
            self.measured.links.failed();
        }
        let input = match outcome {
            Dialled::Answered { opened, standing } => match peer.judge(standing) {
                Ok(()) => {
                    self.adopt(peer, opened);
                    Input::Proved { verified: standing.is_some() }
                }
                Err(says) => {
                    peer.unproved = Some(opened);
                    Input::NotYet(says)
                }
            },
            Dialled::Mismatch(error) => Input::Mismatch(error),
            Dialled::TlsFailed(error) => Input::TlsFailed(error),
            Dialled::Failed(error) => Input::Failed(error),
        };
        self.drive(peer, input);
    }

    fn asked(&mut self, peer: &mut Tracked, answer: Result<Option<Standing>, Unproved>) {
        peer.dial = None;
        let input = match answer {
            Ok(standing) => match peer.judge(standing) {
                Ok(()) => Input::Proved { verified: standing.is_some() },
                Err(says) => Input::NotYet(says),
            },
            Err(Unproved::Mismatch(error)) => Input::Mismatch(error),
            Err(Unproved::Failed(error)) => Input::Failed(error),
        };
        self.drive(peer, input);
    }

    /// Takes a proved link in place of the one before, whose running calls go on.
    fn adopt(&mut self, peer: &mut Tracked, opened: Opened) {
        let Opened { link, mut end, abandoned } = opened;
        abandoned.disarm();
        let mut open = Open::new(&self.measured, &link);
        let config = Arc::clone(&self.surroundings.config);
        if config.per_peer > 1 {
            let (address, close) = (peer.entry.record.address.clone(), peer.shared.cut.clone());
            let (surroundings, traffic) = (self.surroundings.clone(), Arc::clone(&peer.shared.traffic));
            let further = dial::further(address, self.expected(peer), close, surroundings, traffic);
            end.grow(config.per_peer, further, config);
        }
        peer.link = Some(link);
        peer.link_number += 1;
        let (server_id, incarnation, number) = (peer.entry.server_id(), peer.incarnation, peer.link_number);
        self.work.spawn(async move {
            let ended = end.ended().await;
            open.ended(&ended);
            Report { server_id, incarnation, finding: Finding::LinkEnded(number, ended) }
        });
    }

    /// What the table says of a peer has changed, without a gap. Returns whose place it has taken.
    fn update(&mut self, peer: &mut Tracked, entry: &Arc<PeerSessionEntry>, table: &PeerTable) -> Option<ServerId> {
        let old = std::mem::replace(&mut peer.entry, Arc::clone(entry));
        let moved = old.record.address != entry.record.address;
        match (old.suspect, entry.suspect) {
            (_, false) => self.drive(peer, if moved { Input::Moved } else { Input::Put }),
            (false, true) => self.drive(peer, Input::Doubted),
            (true, true) => {}
        }
        if matches!(peer.state.session, Session::Gone(_)) {
            return None;
        }
        let mut replaced = None;
        if old.standby && !entry.standby {
            replaced = self.take_over(peer);
        } else if !old.standby && entry.standby {
            self.step_down(peer, table);
        } else if old.registration != entry.registration {
            self.changes.push(PeerChange::Reregistered(peer.describe(&self.role)));
        } else if differs(&old, entry) || (entry.suspect && !old.suspect) {
            self.changes.push(PeerChange::Updated(peer.describe(&self.role)));
        }
        if entry.record.stopping && !old.record.stopping {
            self.drive(peer, Input::Stopping);
        }
        replaced
    }

    /// One that was in standby holds the role: calls go to it over the link that is there, as soon as it answers that it
    /// serves.
    fn take_over(&mut self, peer: &mut Tracked) -> Option<ServerId> {
        if peer.stood_by {
            self.drive(peer, Input::Refused(Says::STANDBY));
        }
        let ready = matches!(peer.state.link, LinkState::Ready { .. });
        let new = peer.describe(&self.role);
        match self.departed.take() {
            Some(old) => {
                let replaced = old.server_id;
                peer.told_online = ready;
                self.changes.push(PeerChange::Replaced { old, new });
                return Some(replaced);
            }
            None if ready => self.tell(peer, Told::Online),
            None => self.changes.push(PeerChange::Updated(new)),
        }
        None
    }

    /// It holds the role no more, and waits for it again.
    fn step_down(&mut self, peer: &mut Tracked, table: &PeerTable) {
        (peer.told_online, peer.stood_by) = (false, true);
        let described = peer.describe(&self.role);
        self.departed = Some(described.clone());
        if table.active().is_none() {
            self.changes.push(PeerChange::Updated(described));
        }
    }

    fn tell(&mut self, peer: &mut Tracked, told: Told) {
        let described = peer.describe(&self.role);
        let gone = described.session == PeerSession::Gone;
        let change = match told {
            // A standby is proved for later: people are told of it now, components when it is the active one.
            Told::Online if described.standby => PeerChange::Online(described),
            Told::Online if peer.told_online || described.session != PeerSession::Live => return,
            Told::Online => {
                peer.told_online = true;
                PeerChange::Online(described)
            }
            Told::Offline(..) if !peer.told_online && !gone => return,
            Told::Offline(reason, error) => {
                peer.told_online = false;
                PeerChange::Offline { peer: described, reason, error }
            }
            Told::Stopping => PeerChange::Stopping(described),
            Told::GivenUp(error) => PeerChange::GivenUp { peer: described, error },
        };
        self.changes.push(change);
    }
}

impl Open {
    fn new(measured: &Arc<OfRole>, link: &Arc<Link>) -> Self {
        measured.links.opened();
        Self { measured: Arc::clone(measured), link: Arc::downgrade(link), why: Disconnect::Shutdown }
    }

    fn ended(&mut self, ended: &Ended) {
        self.why = match ended {
            // Nobody here has it any more: it has ended for that reason.
            _ if self.link.strong_count() == 0 => Disconnect::Shutdown,
            Ended::GoingAway => Disconnect::GoAway,
            Ended::Lost(_, why) => *why,
        };
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.measured.links.closed(self.why);
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

/// Do two records of one registration differ in what a component is told?
fn differs(old: &PeerSessionEntry, new: &PeerSessionEntry) -> bool {
    let told = |entry: &PeerSessionEntry| {
        let record = &entry.record;
        (record.address.clone(), record.version.clone(), record.server_labels.clone())
    };
    told(old) != told(new)
}

/// No dial outlives its window, so that three tries of thirty seconds are ninety.
fn limit_of_dial(link: &LinkState, config: &ConnectionsConfig) -> Duration {
    let round = match link {
        LinkState::Connecting { round, .. } | LinkState::Draining { round, .. } | LinkState::Retrying { round, .. } => {
            round
        }
        LinkState::Ready { .. } | LinkState::Refusing { .. } | LinkState::GivenUp { .. } | LinkState::Closed => {
            return config.connect_timeout;
        }
    };
    let left = round.window_ends.saturating_duration_since(Instant::now());
    left.max(config.backoff_min).min(config.connect_timeout)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

//! How one peer stands: its session × its link, as a state machine without I/O.
//!
//! Inputs go in (what etcd's table, a dial, a link or the clock says), actions come out; the driver does what they say.
//! One machine lives exactly as long as an identity is in the table: a peer that comes back after a gap gets a new one.
//! Longer than most files, because its one `transition` is read as a whole.

use std::time::{Duration, Instant};

use plugin_api::peers::{PeerLink, PeerSession};
use plugin_api::refusal::Reason;

use super::ConnectionsConfig;

pub use says::{Says, Standing};

mod says;

/// How often a suspect is asked whether it is there. A session's TTL is 3 s at least by default, so that it is asked more
/// than once.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// A peer's two signals, and since when both are as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerState {
    /// How its session stands in etcd.
    pub session: Session,
    /// How the link to it stands.
    pub link: LinkState,
    /// When either signal last changed its kind.
    pub since: Instant,
}

/// How a peer's session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its key is there. → `Stopping`, `Suspect`, `Gone`
    Live,
    /// etcd's list did not have its key, and is doubted: it counts as live while it answers over its link. → `Live`, `Gone`
    Suspect {
        /// When it is asked next, where it is not being asked already.
        probe_at: Option<Instant>,
    },
    /// Its key says that it is stopping. → `Gone`
    Stopping,
    /// Its key is not there any more. No exit: this machine ends here.
    Gone(Departure),
}

/// How a session went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its key went.
    Deleted,
    /// Its key went, and another process took its place.
    Replaced,
}

impl Departure {
    /// The reason with which calls are cut and refused.
    pub fn reason(self) -> Reason {
        match self {
            Self::Deleted => Reason::SessionGone,
            Self::Replaced => Reason::PeerReplaced,
        }
    }
}

/// How the link to a peer stands.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkState {
    /// No dial of this round has failed yet. → `Ready`, `Retrying`, `GivenUp`, `Closed`
    Connecting {
        /// The round of tries.
        round: Round,
        /// What the peer said of its role, where it has answered that it is not to be called yet.
        peer_says: Option<Says>,
        /// When the dial begins, where it does not run already.
        dial_at: Option<Instant>,
    },
    /// Proved. → `Refusing`, `Draining`, `Connecting`, `Closed`
    Ready {
        /// When it was proved.
        since: Instant,
        /// The peer answered who it is; false for a foreign server.
        verified: bool,
        /// How many links before this one were lost soon after they were proved.
        quick_losses: u32,
    },
    /// Proved, but the peer has said since that it does not serve: it is asked over the connection that is there, until it
    /// does. Running calls go on. → `Ready`, `Connecting`, `GivenUp`, `Draining`, `Closed`
    Refusing {
        /// When it was proved.
        since: Instant,
        /// What it says.
        says: Says,
        /// As in [`LinkState::Ready`].
        quick_losses: u32,
    },
    /// The connection is going away, a new one is being made; running calls go on. → `Ready`, `Retrying`, `GivenUp`,
    /// `Closed`
    Draining {
        /// The round of tries for the new one.
        round: Round,
        /// When the old one's calls are cut, where the session is gone and nothing new is made.
        cut_at: Option<Instant>,
    },
    /// The last dial failed; a window is open. → `Connecting`, `Ready`, `GivenUp`, `Closed`
    Retrying {
        /// The round of tries.
        round: Round,
        /// The last dial's error.
        last_error: String,
        /// When the next dial begins, where it does not run already.
        next_try: Option<Instant>,
    },
    /// No more tries, but a slow probe. → `Connecting`, `Ready`, `Closed`
    GivenUp {
        /// Why.
        cause: GiveUp,
        /// Windows that failed.
        tries: u32,
        /// The last dial's error.
        last_error: String,
        /// When the next probe begins, where there is one to come.
        next_probe: Option<Instant>,
    },
    /// The session is gone. No exit.
    Closed,
}

/// Why no more tries are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// All windows have failed.
    WindowsFailed,
    /// Somebody else answered: only a change of the key can help.
    IdentityMismatch,
    /// There is no TLS connection, and another try would end alike: the key, our certificates or the peer's must change.
    TlsFailed,
}

/// A round of tries: so many windows, in each of which it is dialled with backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Windows that failed.
    pub failed: u32,
    /// When the present window ends.
    pub window_ends: Instant,
    /// Dials that failed in the present window.
    pub dials: u32,
    /// As in [`LinkState::Ready`].
    pub quick_losses: u32,
}

/// What is told to the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Table: a put of its key, under the same address.
    Put,
    /// Table: a put of its key, with another address.
    Moved,
    /// Table: the key says that it is stopping.
    Stopping,
    /// Table: the key went.
    Deleted(Departure),
    /// Table: a list misses the key, and so many others that etcd is doubted.
    Doubted,
    /// Probe: a suspect answered.
    Answered,
    /// Probe: a suspect did not answer, or somebody else did.
    Unanswered(String),
    /// Dial: it is the right one, but its role is not to be called yet. Or, where it was asked over its link: not yet again.
    NotYet(Says),
    /// Dial: it is the right one and to be called (or a foreign server that cannot say). Or, where it was asked: it serves
    /// again.
    Proved {
        /// It said who it is.
        verified: bool,
    },
    /// Dial: it failed.
    Failed(String),
    /// Dial: somebody else answered.
    Mismatch(String),
    /// Link: the peer refused a call because it does not serve.
    Refused(Says),
    /// Dial: there is no TLS connection, and another try would end alike.
    TlsFailed(String),
    /// Certificates: our own have changed.
    Renewed,
    /// Link: it takes no new calls; running ones go on.
    GoAway,
    /// Link: it broke.
    Lost(String),
    /// Clock: what [`PeerState::due`] said has come.
    Due,
}

/// What the driver does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Dial now, in place of any dial that runs.
    Dial,
    /// Ask the peer again over the connection that is there, after this delay.
    AskAgain(Duration),
    /// Ask the peer over the link whether it serves. It holds its answer until it does.
    Ask,
    /// End any dial, or question, that runs.
    StopDialling,
    /// Ask the peer over the link whether it is there.
    Probe,
    /// Let the link go; its running calls go on.
    DropLink,
    /// End all running calls, at once.
    Cut(Reason),
    /// Tell of it.
    Tell(Told),
}

/// What is told of.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It can be called.
    Online,
    /// It has stopped being callable.
    Offline(Reason, String),
    /// It will stop.
    Stopping,
    /// No more tries.
    GivenUp(String),
}

/// An input that means nothing in this state. The state is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{input:?} means nothing to a peer whose session is {session:?} and whose link is {link}")]
pub struct NotAllowed {
    input: Input,
    session: Session,
    link: &'static str,
}

/// Now, and a number from −1 to 1 by chance, for the jitter: the machine has neither clock nor dice.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// From −1 to 1.
    pub chance: f64,
}

impl Moment {
    /// The clock's and the dice's present answer.
    pub fn now() -> Self {
        Self { now: Instant::now(), chance: fastrand::f64() * 2.0 - 1.0 }
    }
}

impl PeerState {
    /// A peer that has just been seen in the table: its first dial is to begin.
    pub fn new(stopping: bool, at: Moment, config: &ConnectionsConfig) -> Self {
        Self {
            session: if stopping { Session::Stopping } else { Session::Live },
            link: LinkState::connecting(Round::new(at, config)),
            since: at.now,
        }
    }

    /// When [`Input::Due`] is to be told next.
    pub fn due(&self) -> Option<Instant> {
        if let Session::Suspect { probe_at } = self.session {
            return probe_at;
        }
        match &self.link {
            LinkState::Connecting { dial_at, .. } => *dial_at,
            LinkState::Draining { cut_at, .. } => *cut_at,
            LinkState::Retrying { next_try, .. } => *next_try,
            LinkState::GivenUp { next_probe, .. } => *next_probe,
            LinkState::Ready { .. } | LinkState::Refusing { .. } | LinkState::Closed => None,
        }
    }

    /// The one place where a peer changes.
    ///
    /// # Errors
    ///
    /// [`NotAllowed`], with nothing changed, where the input means nothing in this state.
    pub fn transition(
        &mut self,
        input: Input,
        at: Moment,
        config: &ConnectionsConfig,
    ) -> Result<Vec<Action>, NotAllowed> {
        let before = (self.session.kind(), self.link.kind());
        let (session, link, actions) = self.next(input, at, config)?;
        self.session = session;
        self.link = link;
        if (self.session.kind(), self.link.kind()) != before {
            self.since = at.now;
        }
        Ok(actions)
    }

    fn next(
        &self,
        input: Input,
        at: Moment,
        config: &ConnectionsConfig,
    ) -> Result<(Session, LinkState, Vec<Action>), NotAllowed> {
        use Input as I;
        use LinkState as L;
        let session = self.session;
        let fresh = || L::connecting(Round::new(at, config));
        if let Some((link, actions)) = self.says(&input, at) {
            return Ok((session, link, actions));
        }
        let (link, actions) = match (session, &self.link, input) {
            // The key went.
            (Session::Gone(_), L::Draining { .. }, I::Due | I::Lost(_)) => {
                (L::Closed, vec![Action::Cut(self.departure_reason())])
            }
            (Session::Live | Session::Suspect { .. } | Session::Stopping, L::Closed, input) => {
                return Err(self.not_allowed(input));
            }

            // A list misses the key, and is doubted.
            (Session::Stopping, _, I::Doubted) => return self.next(I::Deleted(Departure::Deleted), at, config),
            (Session::Live, L::Ready { .. } | L::Refusing { .. }, I::Doubted) => {
                return Ok((Session::Suspect { probe_at: None }, self.link.clone(), vec![Action::Probe]));
            }
            (Session::Live, _, I::Doubted) => return Ok(let_go("no link proves that it is there".to_owned())),
            (Session::Suspect { .. }, link, I::Put) => return Ok((Session::Live, link.clone(), vec![])),
            (Session::Suspect { .. }, L::Ready { .. }, I::Moved) => {
                let link = L::Draining { round: Round::new(at, config), cut_at: None };
                return Ok((Session::Live, link, vec![Action::Dial]));
            }
            (Session::Suspect { .. }, L::Refusing { .. }, I::Moved) => {
                return Ok((Session::Live, fresh(), vec![Action::DropLink, Action::Dial]));
            }
            (Session::Suspect { probe_at: None }, link, I::Answered) => {
                let probe_at = Some(at.now + PROBE_INTERVAL);
                return Ok((Session::Suspect { probe_at }, link.clone(), vec![]));
            }
            (Session::Suspect { probe_at: Some(_) }, link, I::Due) => {
                return Ok((Session::Suspect { probe_at: None }, link.clone(), vec![Action::Probe]));
            }
            (Session::Suspect { .. }, _, I::Unanswered(error) | I::Lost(error)) => return Ok(let_go(error)),
            (Session::Suspect { .. }, L::Refusing { .. }, I::Failed(error) | I::Mismatch(error)) => {
                return Ok(let_go(error));
            }
            (Session::Suspect { .. }, _, I::GoAway) => return Ok(let_go("it has closed its link".to_owned())),
            (Session::Suspect { .. }, _, I::Deleted(departure)) => return Ok(gone(departure)),
            (Session::Suspect { .. }, _, input) => return Err(self.not_allowed(input)),

            // Calls may still run on a link that went away before: nothing is cut before the limit.
            (Session::Stopping, _, I::Deleted(departure)) => {
                let told = Told::Offline(departure.reason(), departure.text().to_owned());
                let draining = L::Draining { round: Round::new(at, config), cut_at: Some(at.now + config.drain_limit) };
                return Ok((
                    Session::Gone(departure),
                    draining,
                    vec![Action::StopDialling, Action::DropLink, Action::Tell(told)],
                ));
            }
            (Session::Live, _, I::Deleted(departure)) => return Ok(gone(departure)),
            (Session::Gone(_), _, input) => return Err(self.not_allowed(input)),

            // The key was put.
            (Session::Live, link, I::Stopping) => {
                return Ok((Session::Stopping, link.clone(), vec![Action::Tell(Told::Stopping)]));
            }
            (_, L::Connecting { dial_at: Some(_), .. } | L::Retrying { .. } | L::GivenUp { .. }, I::Put) => {
                (fresh(), vec![Action::Dial])
            }
            (_, link, I::Put) => (link.clone(), vec![]),
            (_, L::Ready { .. } | L::Draining { .. }, I::Moved) => {
                (L::Draining { round: Round::new(at, config), cut_at: None }, vec![Action::Dial])
            }
            (_, L::Refusing { .. }, I::Moved) => (fresh(), vec![Action::DropLink, Action::Dial]),
            (_, _, I::Moved) => (fresh(), vec![Action::Dial]),

            // A dial came to an end.
            (_, L::Draining { .. }, I::NotYet(_)) => (self.link.clone(), vec![Action::AskAgain(config.backoff_min)]),
            (_, L::Connecting { .. } | L::Retrying { .. } | L::GivenUp { .. }, I::NotYet(says)) => {
                // A peer that is starting spends no try: its windows begin when it stops answering. It holds its answer
                // until it has started, so the first time it is asked at once; one that does not hold it is not pestered.
                let asked_before = matches!(&self.link, L::Connecting { peer_says: Some(_), .. });
                let pause = if asked_before { config.backoff_min } else { Duration::ZERO };
                let link = L::Connecting { round: Round::new(at, config), peer_says: Some(says), dial_at: None };
                (link, vec![Action::AskAgain(pause)])
            }
            (_, L::Draining { .. }, I::Proved { verified }) => (self.link.proved(verified, at), vec![]),
            (_, L::Connecting { .. } | L::Retrying { .. } | L::GivenUp { .. }, I::Proved { verified }) => {
                (self.link.proved(verified, at), vec![Action::Tell(Told::Online)])
            }
            (_, L::Connecting { round, .. } | L::Retrying { round, .. }, I::Failed(error)) => {
                round.after_failure(error, at, config)
            }
            (_, L::Draining { round, .. }, I::Failed(error)) => {
                let told = Action::Tell(Told::Offline(Reason::LinkLost, error.clone()));
                let (link, mut actions) = round.after_failure(error, at, config);
                actions.splice(0..0, [Action::DropLink, told]);
                (link, actions)
            }
            (_, L::GivenUp { cause, tries, .. }, I::Failed(error)) => {
                let next_probe = next_probe(at, config);
                (L::GivenUp { cause: *cause, tries: *tries, last_error: error, next_probe }, vec![])
            }
            (_, L::Draining { .. }, I::Mismatch(error)) => {
                let offline = Action::Tell(Told::Offline(Reason::IdentityMismatch, error.clone()));
                (L::mismatch(error.clone()), vec![Action::DropLink, offline, Action::Tell(Told::GivenUp(error))])
            }
            // It was asked over its link, which is of no use any more.
            (_, L::Refusing { .. }, I::Failed(_) | I::GoAway) => (fresh(), vec![Action::DropLink, Action::Dial]),
            (_, L::Refusing { .. }, I::Mismatch(error)) => {
                (L::mismatch(error.clone()), vec![Action::DropLink, Action::Tell(Told::GivenUp(error))])
            }
            (_, L::Connecting { .. } | L::Retrying { .. } | L::GivenUp { .. }, I::Mismatch(error)) => {
                (L::mismatch(error.clone()), vec![Action::Tell(Told::GivenUp(error))])
            }

            (_, L::Draining { .. }, I::TlsFailed(error)) => {
                let offline = Action::Tell(Told::Offline(Reason::TlsFailed, error.clone()));
                let link = L::tls_failed(error.clone(), at, config);
                (link, vec![Action::DropLink, offline, Action::Tell(Told::GivenUp(error))])
            }
            (_, L::GivenUp { cause: GiveUp::TlsFailed, .. }, I::TlsFailed(error)) => {
                (L::tls_failed(error, at, config), vec![])
            }
            (_, L::Connecting { .. } | L::Retrying { .. } | L::GivenUp { .. }, I::TlsFailed(error)) => {
                (L::tls_failed(error.clone(), at, config), vec![Action::Tell(Told::GivenUp(error))])
            }
            // What was refused for our certificates may be over; the peer's own are seen by the slow probe.
            (_, L::GivenUp { cause: GiveUp::TlsFailed, .. }, I::Renewed) => (fresh(), vec![Action::Dial]),
            (_, link, I::Renewed) => (link.clone(), vec![]),

            // The link came to an end.
            (_, L::Ready { .. }, I::GoAway) => {
                (L::Draining { round: Round::new(at, config), cut_at: None }, vec![Action::Dial])
            }
            (_, L::Ready { since, quick_losses, .. }, I::Lost(error)) => {
                let told = Action::Tell(Told::Offline(Reason::LinkLost, error));
                let (link, dial) = after_loss(*since, *quick_losses, at, config);
                (link, [Action::DropLink, told].into_iter().chain(dial).collect())
            }
            (_, L::Refusing { since, quick_losses, .. }, I::Lost(_)) => {
                let (link, dial) = after_loss(*since, *quick_losses, at, config);
                (link, [Action::StopDialling, Action::DropLink].into_iter().chain(dial).collect())
            }
            (_, L::Draining { .. }, I::Lost(_)) => (self.link.clone(), vec![Action::DropLink]),

            // The clock.
            (_, L::Connecting { round, peer_says, dial_at: Some(_) }, I::Due) => {
                (L::Connecting { round: *round, peer_says: *peer_says, dial_at: None }, vec![Action::Dial])
            }
            (_, L::Retrying { round, last_error, next_try: Some(_) }, I::Due) => {
                let link = L::Retrying { round: *round, last_error: last_error.clone(), next_try: None };
                (link, vec![Action::Dial])
            }
            (_, L::GivenUp { cause, tries, last_error, next_probe: Some(_) }, I::Due) => {
                let last_error = last_error.clone();
                (L::GivenUp { cause: *cause, tries: *tries, last_error, next_probe: None }, vec![Action::Dial])
            }

            (_, _, input) => return Err(self.not_allowed(input)),
        };
        Ok((session, link, actions))
    }

    /// What the peer says of whether it serves, however its session stands; of one that has gone nobody wants to know.
    fn says(&self, input: &Input, at: Moment) -> Option<(LinkState, Vec<Action>)> {
        use LinkState as L;
        if matches!(self.session, Session::Gone(_)) {
            return None;
        }
        match (&self.link, input) {
            (L::Ready { since, quick_losses, .. }, Input::Refused(says)) => {
                let link = L::Refusing { since: *since, says: *says, quick_losses: *quick_losses };
                let told = Told::Offline(says.reason, format!("it answers that it is {says}"));
                Some((link, vec![Action::Ask, Action::Tell(told)]))
            }
            (L::Refusing { since, quick_losses, .. }, Input::Refused(says) | Input::NotYet(says)) => {
                let link = L::Refusing { since: *since, says: *says, quick_losses: *quick_losses };
                // After a refusal the question is still under way.
                let asked = matches!(input, Input::NotYet(_)).then_some(Action::Ask);
                Some((link, asked.into_iter().collect()))
            }
            (L::Refusing { .. }, Input::Proved { verified }) => {
                Some((self.link.proved(*verified, at), vec![Action::Tell(Told::Online)]))
            }
            _ => None,
        }
    }

    fn departure_reason(&self) -> Reason {
        match self.session {
            Session::Gone(departure) => departure.reason(),
            Session::Live | Session::Suspect { .. } | Session::Stopping => Reason::SessionGone,
        }
    }

    fn not_allowed(&self, input: Input) -> NotAllowed {
        NotAllowed { input, session: self.session, link: self.link.kind().as_str() }
    }
}

impl Departure {
    fn text(self) -> &'static str {
        match self {
            Self::Deleted => "its session has gone from etcd",
            Self::Replaced => "another process has taken its place",
        }
    }
}

impl Session {
    /// The word for it: what was last known of a suspect is that it is live.
    pub fn kind(self) -> PeerSession {
        match self {
            Self::Live | Self::Suspect { .. } => PeerSession::Live,
            Self::Stopping => PeerSession::Stopping,
            Self::Gone(_) => PeerSession::Gone,
        }
    }
}

impl LinkState {
    /// The word for it. A closed link has none of its own: as after giving up, only its key can bring it back.
    pub fn kind(&self) -> PeerLink {
        match self {
            Self::Connecting { .. } | Self::Refusing { .. } => PeerLink::Connecting,
            Self::Ready { .. } => PeerLink::Ready,
            Self::Draining { .. } => PeerLink::Draining,
            Self::Retrying { .. } => PeerLink::Retrying,
            Self::GivenUp { .. } | Self::Closed => PeerLink::GivenUp,
        }
    }

    /// Windows that have failed so far.
    pub fn tries(&self) -> u32 {
        match self {
            Self::Connecting { round, .. } | Self::Draining { round, .. } | Self::Retrying { round, .. } => {
                round.failed
            }
            Self::GivenUp { tries, .. } => *tries,
            Self::Ready { .. } | Self::Refusing { .. } | Self::Closed => 0,
        }
    }

    /// The last dial's error.
    pub fn last_error(&self) -> Option<&str> {
        match self {
            Self::Retrying { last_error, .. } | Self::GivenUp { last_error, .. } => Some(last_error),
            Self::Connecting { .. }
            | Self::Ready { .. }
            | Self::Refusing { .. }
            | Self::Draining { .. }
            | Self::Closed => None,
        }
    }

    /// What the peer says of itself, where that keeps the link from being ready.
    pub fn says(&self) -> Option<Says> {
        match self {
            Self::Connecting { peer_says, .. } => *peer_says,
            Self::Refusing { says, .. } => Some(*says),
            _ => None,
        }
    }

    fn connecting(round: Round) -> Self {
        Self::Connecting { round, peer_says: None, dial_at: None }
    }

    fn mismatch(last_error: String) -> Self {
        Self::GivenUp { cause: GiveUp::IdentityMismatch, tries: 0, last_error, next_probe: None }
    }

    fn tls_failed(last_error: String, at: Moment, config: &ConnectionsConfig) -> Self {
        let next_probe = next_probe(at, config);
        Self::GivenUp { cause: GiveUp::TlsFailed, tries: 0, last_error, next_probe }
    }

    fn proved(&self, verified: bool, at: Moment) -> Self {
        let quick_losses = match self {
            Self::Connecting { round, .. } | Self::Draining { round, .. } | Self::Retrying { round, .. } => {
                round.quick_losses
            }
            Self::Refusing { quick_losses, .. } => *quick_losses,
            Self::Ready { .. } | Self::GivenUp { .. } | Self::Closed => 0,
        };
        Self::Ready { since: at.now, verified, quick_losses }
    }
}

impl Round {
    fn new(at: Moment, config: &ConnectionsConfig) -> Self {
        Self { failed: 0, window_ends: at.now + config.window, dials: 0, quick_losses: 0 }
    }

    fn after_failure(self, error: String, at: Moment, config: &ConnectionsConfig) -> (LinkState, Vec<Action>) {
        let next = at.now + config.backoff(self.dials, at.chance);
        if next < self.window_ends {
            let round = Self { dials: self.dials + 1, ..self };
            return (LinkState::Retrying { round, last_error: error, next_try: Some(next) }, vec![]);
        }
        let failed = self.failed + 1;
        if failed < config.windows {
            let round = Self { failed, dials: 0, window_ends: next + config.window, ..self };
            return (LinkState::Retrying { round, last_error: error, next_try: Some(next) }, vec![]);
        }
        let told = Action::Tell(Told::GivenUp(error.clone()));
        let next_probe = next_probe(at, config);
        let cause = GiveUp::WindowsFailed;
        (LinkState::GivenUp { cause, tries: failed, last_error: error, next_probe }, vec![told])
    }
}

/// The key went: everything ends at once.
fn gone(departure: Departure) -> (Session, LinkState, Vec<Action>) {
    end(departure, departure.text().to_owned())
}

/// etcd does not have the key, and nothing else speaks for the peer: as if the key had gone.
fn let_go(why: String) -> (Session, LinkState, Vec<Action>) {
    end(Departure::Deleted, format!("etcd's list does not have it: {why}"))
}

fn end(departure: Departure, why: String) -> (Session, LinkState, Vec<Action>) {
    let reason = departure.reason();
    let told = Action::Tell(Told::Offline(reason, why));
    let actions = vec![Action::StopDialling, Action::DropLink, Action::Cut(reason), told];
    (Session::Gone(departure), LinkState::Closed, actions)
}

/// A link that broke is dialled again at once. Only one that breaks again and again as soon as it is proved is dialled
/// with backoff, or the two would do nothing else.
fn after_loss(
    since: Instant,
    quick_losses: u32,
    at: Moment,
    config: &ConnectionsConfig,
) -> (LinkState, Option<Action>) {
    let quick = at.now.duration_since(since) < config.backoff_max;
    let round = Round { quick_losses: if quick { quick_losses + 1 } else { 0 }, ..Round::new(at, config) };
    if quick && quick_losses > 0 {
        let dial_at = Some(at.now + config.backoff(quick_losses - 1, at.chance));
        return (LinkState::Connecting { round, peer_says: None, dial_at }, None);
    }
    (LinkState::connecting(round), Some(Action::Dial))
}

fn next_probe(at: Moment, config: &ConnectionsConfig) -> Option<Instant> {
    let interval = config.probe_interval;
    (!interval.is_zero()).then(|| at.now + interval.mul_f64((1.0 + config.jitter * at.chance).max(0.0)))
}

#[cfg(test)]
mod tests;

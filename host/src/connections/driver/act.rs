//! What a peer's machine says is done: dials, questions, links that are taken and let go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Finding, Hands, Report, Tracked};
use crate::connections::ConnectionsConfig;
use crate::connections::dial::{self, Dialled, Expected, Opened, Unproved};
use crate::connections::peer::{Action, Input, LinkState, Moment, Standing};

/// How long a suspect may take to say that it is there.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

impl Hands {
    /// Tells the machine, and does what it says.
    pub(super) fn drive(&mut self, peer: &mut Tracked, input: Input) {
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

    pub(super) fn act(&mut self, peer: &mut Tracked, action: Action) {
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

    pub(super) fn dialled(&mut self, peer: &mut Tracked, outcome: Dialled) {
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

    pub(super) fn asked(&mut self, peer: &mut Tracked, answer: Result<Option<Standing>, Unproved>) {
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
        end.count(&self.measured);
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
            Report { server_id, incarnation, finding: Finding::LinkEnded(number, end.ended().await) }
        });
    }
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

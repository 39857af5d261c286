//! The truth table: may a call go through now, and if not, why; and the refusals that say so.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::{HeaderName, Response};
use plugin_api::channel::Target;
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::PeerSession;
use plugin_api::refusal::{Executed, Reason, Refusal, key};
use tonic::Status;

use super::dependency::{PeerView, RoleView};
use super::peer::{GiveUp, LinkState, PeerState, Session};

/// How many characters of a foreign text (an address, an error, a name) a refusal repeats. A status travels in headers,
/// and many clients take 8 KiB of them.
const FOREIGN: usize = 400;

/// What the truth table says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes through.
    Call,
    /// A new link is being made: every call waits a moment for it.
    Moment,
    /// It waits if it asks to; else it is refused with this reason.
    Wait(Reason),
    /// It is refused with this reason, whether it would wait or not.
    Refuse(Reason),
}

/// The truth table for a call that is addressed to a peer in this state.
///
/// A peer that is stopping is called until it refuses by itself, but nobody waits for it.
pub(super) fn verdict(state: &PeerState) -> Verdict {
    let waits = state.session == Session::Live;
    let no_link = |reason| if waits { Verdict::Wait(reason) } else { Verdict::Refuse(reason) };
    match (state.session, &state.link) {
        (Session::Gone(departure), _) => Verdict::Refuse(departure.reason()),
        (_, LinkState::Closed) => Verdict::Refuse(Reason::SessionGone),
        (_, LinkState::Ready { .. }) => Verdict::Call,
        (_, LinkState::Draining { .. }) => Verdict::Moment,
        // A peer that starts is as good as one whose first dial is under way.
        (_, LinkState::Connecting { peer_says: Some(says), .. }) if says.reason != Reason::NotHealthy => {
            no_link(says.reason)
        }
        (_, LinkState::Connecting { .. }) => no_link(Reason::Connecting),
        (_, LinkState::Refusing { says, .. }) => no_link(says.reason),
        (_, LinkState::Retrying { .. }) => no_link(Reason::ConnectFailed),
        (_, LinkState::GivenUp { cause: GiveUp::WindowsFailed, .. }) => no_link(Reason::GaveUp),
        (_, LinkState::GivenUp { cause: GiveUp::IdentityMismatch, .. }) => Verdict::Refuse(Reason::IdentityMismatch),
        (_, LinkState::GivenUp { cause: GiveUp::TlsFailed, .. }) => Verdict::Refuse(Reason::TlsFailed),
    }
}

/// What every refusal of one call tells: who refuses, and whom the call meant.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// The host that refuses.
    pub refused_by: &'a str,
    /// Whom the call meant.
    pub target: &'a Target,
}

impl About<'_> {
    /// A refusal that knows nothing of peers.
    pub fn refuse(&self, reason: Reason, message: impl Into<String>) -> Refusal {
        let refusal = Refusal::new(reason, message)
            .with(key::REFUSED_BY, self.refused_by)
            .with(key::TARGET, self.target)
            .with(key::ROLE, self.target.role());
        match self.target {
            Target::Server(_, server_id) => refusal.with(key::SERVER_ID, server_id),
            Target::Role(_) => refusal,
        }
    }

    /// A refusal with what the table and the peer's state say.
    pub fn refuse_for(&self, reason: Reason, view: &RoleView, peer: &PeerView) -> Refusal {
        let now = Instant::now();
        let state = &peer.state;
        let (session, link) = (state.session.kind(), state.link.kind());
        let name = format!("{}-{}", view.table.role, peer.entry.server_id());
        let address = bounded(&peer.entry.record.address);
        let mut message = format!("{name} at {address}: {}", explain(reason, state));
        if peer.entry.suspect {
            message.push_str(" (a suspect: etcd's last list did not have it)");
        }
        let mut refusal = with_table(self.refuse(reason, message), view)
            .with(key::SERVER_ID, peer.entry.server_id())
            .with(key::SESSION, session.as_str())
            .with(key::WAY, peer.shared.way.as_str())
            .with(key::SINCE_MS, milliseconds(now.duration_since(state.since)));
        if session != PeerSession::Gone {
            refusal = refusal.with(key::LINK, link.as_str()).with(key::TRIES, state.link.tries());
        }
        if let Some(error) = state.link.last_error() {
            refusal = refusal.with(key::LAST_ERROR, bounded(error));
        }
        if let Some(says) = state.link.says() {
            refusal = refusal.with(key::STATE_CODE, says.code);
        }
        if let (true, Some(due)) = (session != PeerSession::Gone, state.due()) {
            refusal = refusal.with(key::NEXT_TRY_MS, milliseconds(due.saturating_duration_since(now)));
        }
        refusal
    }

    /// A refusal where there is nobody to speak of: never seen, or gone.
    pub fn refuse_absent(&self, view: &RoleView) -> Refusal {
        let gone = match self.target {
            Target::Server(_, server_id) => view.gone.get(server_id),
            Target::Role(_) => None,
        };
        if let Some(gone) = gone {
            let since = gone.since.elapsed();
            let reason = gone.departure.reason();
            let message = format!("{} has been gone from etcd for {}", self.target, people(since));
            return with_table(self.refuse(reason, message), view)
                .with(key::SESSION, PeerSession::Gone.as_str())
                .with(key::SINCE_MS, milliseconds(since));
        }
        let message = if view.table.confirmed_at().is_none() {
            format!("{} is not known yet: etcd has not answered so far", self.target)
        } else {
            format!("nobody is registered as {}", self.target)
        };
        with_table(self.refuse(Reason::NoSuchPeer, message), view)
    }

    /// A wait that ran out; it carries the last cause.
    pub fn refuse_waited(&self, waited: Duration, last: Refusal) -> Refusal {
        let message = format!("waited {} for {}; {}: {}", people(waited), self.target, last.reason, last.message);
        Refusal { reason: Reason::WaitExpired, message, ..last }
    }
}

/// The refusal in an answer of headers only, where the called peer itself has made it and says that no handler has seen the
/// call. A component that passes a refusal on keeps its details, so that `target` tells whose it is.
pub(super) fn own_refusal<B>(response: &Response<B>, role: &Role, server_id: ServerId) -> Option<Refusal> {
    // What the ordinary call pays: a look for one header.
    let code = response.headers().get(GRPC_STATUS)?;
    if code == "0" {
        return None;
    }
    let refusal = Refusal::from_status(&Status::from_header_map(response.headers())?)?;
    let detail = |key| refusal.details.get(key).map(String::as_str);
    let peer = format!("{role}-{server_id}");
    let believed = detail(key::TARGET) == Some(&peer) && detail(key::REFUSED_BY) == Some(&peer);
    (believed && refusal.executed == Executed::No).then_some(refusal)
}

/// Where it is among the headers, the answer has no messages.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn with_table(refusal: Refusal, view: &RoleView) -> Refusal {
    let refusal = refusal.with(key::TABLE_REVISION, view.table.revision);
    let Some(age) = view.age() else { return refusal };
    let mut refusal = refusal.with(key::TABLE_AGE_MS, milliseconds(age));
    if view.is_stale() {
        refusal.message.push_str(&format!(" (etcd was last heard {} ago)", people(age)));
    }
    refusal
}

fn explain(reason: Reason, state: &PeerState) -> String {
    let error = state.link.last_error().map_or(Cow::Borrowed("no error so far"), bounded);
    let tries = state.link.tries();
    match (reason, state.link.says()) {
        (
            Reason::Connecting | Reason::Fenced | Reason::NotHealthy | Reason::Quarantined | Reason::Standby,
            Some(says),
        ) => {
            format!("it answers that it is {says}")
        }
        (Reason::Connecting, _) => "its first dial is under way".to_owned(),
        (Reason::ConnectFailed, _) => format!("the last dial failed ({error}); it is tried again"),
        (Reason::GaveUp, _) => format!("given up after {tries} windows of tries ({error})"),
        (Reason::IdentityMismatch, _) => format!("somebody else answers there: {error}"),
        (Reason::TlsFailed, _) => format!("it is not called before certificates change: {error}"),
        (Reason::SessionGone, _) => "its session has gone from etcd".to_owned(),
        (Reason::PeerReplaced, _) => "another process has taken its place".to_owned(),
        (Reason::LinkLost, _) => "the link to it broke".to_owned(),
        (reason, _) => reason.to_string(),
    }
}

/// What others have said, in words that fit into a status: the whole of it need not.
pub(super) fn bounded(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(FOREIGN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis()
}

fn people(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::ConnectionsConfig;
    use super::super::peer::{Departure, Input, Moment};
    use super::*;

    /// A peer to which all of this has happened.
    fn after(inputs: &[Input]) -> PeerState {
        let config = ConnectionsConfig { windows: 1, ..ConnectionsConfig::default() };
        let now = Instant::now();
        let mut state = PeerState::new(false, Moment { now, chance: 0.0 }, &config);
        for input in inputs {
            // A dial that fails when the window is over is the last one.
            let late = if *input == Input::Failed("late".to_owned()) { config.window } else { Duration::ZERO };
            let at = Moment { now: now + late, chance: 0.0 };
            state.transition(input.clone(), at, &config).expect("it may happen");
        }
        state
    }

    #[test]
    fn the_truth_table() {
        let proved = Input::Proved { verified: true };
        let failed = |when: &str| Input::Failed(when.to_owned());
        let links: [(&[Input], Verdict, Verdict); 7] = [
            (&[], Verdict::Wait(Reason::Connecting), Verdict::Refuse(Reason::Connecting)),
            (std::slice::from_ref(&proved), Verdict::Call, Verdict::Call),
            (&[proved.clone(), Input::GoAway], Verdict::Moment, Verdict::Moment),
            (&[failed("now")], Verdict::Wait(Reason::ConnectFailed), Verdict::Refuse(Reason::ConnectFailed)),
            (&[failed("late")], Verdict::Wait(Reason::GaveUp), Verdict::Refuse(Reason::GaveUp)),
            (
                &[Input::Mismatch("another".to_owned())],
                Verdict::Refuse(Reason::IdentityMismatch),
                Verdict::Refuse(Reason::IdentityMismatch),
            ),
            (
                &[Input::TlsFailed("expired".to_owned())],
                Verdict::Refuse(Reason::TlsFailed),
                Verdict::Refuse(Reason::TlsFailed),
            ),
        ];
        for (inputs, live, stopping) in links {
            assert_eq!(verdict(&after(inputs)), live, "live, {inputs:?}");
            let with = |input| [inputs, &[input]].concat();
            assert_eq!(verdict(&after(&with(Input::Stopping))), stopping, "stopping, {inputs:?}");
            for (departure, reason) in
                [(Departure::Deleted, Reason::SessionGone), (Departure::Replaced, Reason::PeerReplaced)]
            {
                let gone = after(&with(Input::Deleted(departure)));
                assert_eq!(verdict(&gone), Verdict::Refuse(reason), "gone, {inputs:?}");
            }
        }
    }
}

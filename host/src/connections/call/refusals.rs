//! Who has refused a call: it is not sent there again, so long as nothing is known that would change the answer.

use std::sync::Arc;
use std::time::Instant;

use http::Response;
use plugin_api::refusal::{Reason, Refusal};
use tonic::Status;
use tonic::body::Body;

use crate::connections::dependency::{PeerShared, PeerView, RoleView};
use crate::connections::peer::LinkState;
use crate::connections::refusal::{Verdict, verdict};

/// A refusal by the called peer itself, of a call that no handler has seen.
pub(super) struct Refused {
    /// What it says.
    pub refusal: Refusal,
    /// As it came.
    pub response: Response<Body>,
    /// Whose.
    pub peer: Arc<PeerShared>,
    /// When the call was sent to it.
    pub at: Instant,
}

/// All refusals of one call.
#[derive(Default)]
pub(super) struct Refusals(Vec<Refused>);

impl Refused {
    /// Another peer, or another time, may do.
    pub fn may_be_repeated(&self) -> bool {
        !matches!(self.refusal.reason, Reason::IdentityMismatch | Reason::TlsFailed | Reason::NotDeclared)
    }

    /// Does it still speak for the peer? One that is on its way out does not come back; any other may have said since that it
    /// serves.
    fn holds(&self, peer: &PeerView) -> bool {
        let newer = matches!(peer.state.link, LinkState::Ready { since, .. } if since > self.at);
        Arc::ptr_eq(&self.peer, &peer.shared) && (self.refusal.reason == Reason::SessionStopping || !newer)
    }
}

impl Refusals {
    /// None so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more; of each peer the last counts.
    pub fn push(&mut self, refused: Refused) {
        self.0.retain(|before| !Arc::ptr_eq(&before.peer, &refused.peer));
        self.0.push(refused);
    }

    /// The refusal that keeps the call from this peer.
    pub fn of(&self, peer: &PeerView) -> Option<&Refused> {
        self.0.iter().find(|refused| refused.holds(peer))
    }

    /// A peer that can be called and has not refused: rather one that is not on its way out.
    pub fn another(&self, view: &RoleView) -> Option<Arc<PeerView>> {
        let can = |peer: &&Arc<PeerView>| {
            !peer.entry.standby
                && peer.link.is_some()
                && verdict(&peer.state) == Verdict::Call
                && self.of(peer).is_none()
        };
        let (stopping, live): (Vec<_>, Vec<_>) = view.peers.values().filter(can).partition(|peer| peer.is_stopping());
        let best = if live.is_empty() { stopping } else { live };
        // Those that it would have been sent to must not all come to the same one.
        fastrand::choice(best).cloned()
    }

    /// What the caller of a call gets that is not sent again: the last peer's own words, or else this.
    pub fn answer(mut self, otherwise: Refusal) -> Result<Response<Body>, Status> {
        self.0.pop().map_or_else(|| Err(otherwise.into_status()), |last| Ok(last.response))
    }
}

//! What a notice says of nodes.

use plugin_api::{Peer, PeerChange, PeerLink, PeerSession};

use crate::core::{Input, Seen};
use crate::serving::Standing;

/// What has happened, by this notice.
pub(super) fn inputs(change: PeerChange) -> Vec<Input> {
    match change {
        PeerChange::Table(peers) => {
            let there = peers.into_iter().filter(|peer| peer.session != PeerSession::Gone);
            vec![Input::Table(there.map(seen).collect())]
        }
        PeerChange::Offline { peer, .. } if peer.session == PeerSession::Gone => vec![Input::Gone(peer.server_id.0)],
        PeerChange::Online(peer)
        | PeerChange::Offline { peer, .. }
        | PeerChange::Reregistered(peer)
        | PeerChange::Updated(peer)
        | PeerChange::GivenUp { peer, .. } => vec![Input::Node(seen(peer))],
        PeerChange::Stopping(peer) => vec![Input::Node(Seen { standing: Standing::Stopping, ..seen(peer) })],
        PeerChange::Replaced { old, new } => Input::replaced(old.server_id.0, seen(new)).into(),
    }
}

/// A live session whose link is broken is no death; one that has been given up is counted as one until it comes back.
fn seen(peer: Peer) -> Seen {
    let standing = match (peer.session, peer.link) {
        (PeerSession::Stopping, _) => Standing::Stopping,
        (_, PeerLink::GivenUp) => Standing::GivenUp,
        _ if peer.is_callable() => Standing::Callable,
        _ => Standing::Unreachable,
    };
    Seen { id: peer.server_id.0, address: peer.address, standing }
}

#[cfg(test)]
mod tests {
    use plugin_api::peers::Registration;
    use plugin_api::{Reason, Role, ServerId};

    use super::*;

    fn peer(session: PeerSession, link: PeerLink) -> Peer {
        Peer {
            role: Role::new("querynode").unwrap(),
            server_id: ServerId(7),
            address: String::new(),
            version: String::new(),
            labels: std::collections::BTreeMap::new(),
            standby: false,
            suspect: false,
            session,
            link,
            registration: Registration { create_revision: 1, lease_id: 1 },
        }
    }

    #[test]
    fn only_a_session_that_is_gone_is_a_death() {
        let offline = |session, link| {
            let change =
                PeerChange::Offline { peer: peer(session, link), reason: Reason::LinkLost, error: String::new() };
            inputs(change).remove(0)
        };
        assert!(matches!(offline(PeerSession::Gone, PeerLink::Ready), Input::Gone(7)));
        let stands = |input| match input {
            Input::Node(seen) => Some(seen.standing),
            _ => None,
        };
        assert_eq!(stands(offline(PeerSession::Live, PeerLink::Retrying)), Some(Standing::Unreachable));
        assert_eq!(stands(offline(PeerSession::Live, PeerLink::GivenUp)), Some(Standing::GivenUp));
        assert_eq!(stands(offline(PeerSession::Stopping, PeerLink::Retrying)), Some(Standing::Stopping));
        let online = PeerChange::Online(peer(PeerSession::Live, PeerLink::Ready));
        assert_eq!(stands(inputs(online).remove(0)), Some(Standing::Callable));
    }

    #[test]
    fn a_process_that_takes_anothers_place_holds_nothing_of_it() {
        let new = peer(PeerSession::Live, PeerLink::Connecting);
        let old = peer(PeerSession::Gone, PeerLink::Ready);
        let told = inputs(PeerChange::Replaced { old, new });
        assert!(matches!(told[..], [Input::Gone(7), Input::Node(Seen { standing: Standing::Unreachable, .. })]));
    }
}

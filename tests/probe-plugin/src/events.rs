//! What the probe was told of its peers, by `on_peer` and by `watch_clients`.

use std::sync::{Mutex, PoisonError};

use plugin_api::peers::{Peer, PeerChange, PeerEvent};

use crate::journal::{monotonic_us, now_us};
use crate::v1;

/// Events in order.
#[derive(Default)]
pub struct Events {
    seen: Mutex<Vec<v1::Event>>,
}

impl Events {
    /// Notes an event.
    pub fn note(&self, event: &PeerEvent) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(describe(event));
    }

    /// All events so far.
    pub fn seen(&self) -> Vec<v1::Event> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A peer as a message.
pub fn peer(peer: &Peer) -> v1::Peer {
    v1::Peer {
        role: peer.role.to_string(),
        server_id: peer.server_id.0,
        address: peer.address.clone(),
        session: peer.session.as_str().to_owned(),
        link: peer.link.as_str().to_owned(),
        standby: peer.standby,
    }
}

fn describe(event: &PeerEvent) -> v1::Event {
    let (change, peers, reason, error) = match &event.change {
        PeerChange::Table(peers) => ("table", peers.iter().map(peer).collect(), None, None),
        PeerChange::Online(one) => ("online", vec![peer(one)], None, None),
        PeerChange::Offline { peer: one, reason, error } => ("offline", vec![peer(one)], Some(reason), Some(error)),
        PeerChange::Stopping(one) => ("stopping", vec![peer(one)], None, None),
        PeerChange::Replaced { old, new } => ("replaced", vec![peer(old), peer(new)], None, None),
        PeerChange::Reregistered(one) => ("reregistered", vec![peer(one)], None, None),
        PeerChange::Updated(one) => ("updated", vec![peer(one)], None, None),
        PeerChange::GivenUp { peer: one, error } => ("given_up", vec![peer(one)], None, Some(error)),
    };
    v1::Event {
        change: change.to_owned(),
        role: event.role.to_string(),
        revision: event.revision,
        peers,
        reason: reason.map(ToString::to_string).unwrap_or_default(),
        error: error.cloned().unwrap_or_default(),
        at_us: now_us(),
        at_monotonic_us: monotonic_us(),
    }
}

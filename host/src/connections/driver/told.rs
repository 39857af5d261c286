//! What components are told of a peer: when its entry changes, and what its machine tells.

use std::sync::Arc;

use plugin_api::identity::ServerId;
use plugin_api::peers::{PeerChange, PeerSession};

use super::{Hands, Tracked};
use crate::cluster::{PeerSessionEntry, PeerTable};
use crate::connections::peer::{Input, LinkState, Says, Session, Told};

impl Hands {
    /// What the table says of a peer has changed, without a gap. Returns whose place it has taken.
    pub(super) fn update(
        &mut self,
        peer: &mut Tracked,
        entry: &Arc<PeerSessionEntry>,
        table: &PeerTable,
    ) -> Option<ServerId> {
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

    pub(super) fn tell(&mut self, peer: &mut Tracked, told: Told) {
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

/// Do two records of one registration differ in what a component is told?
fn differs(old: &PeerSessionEntry, new: &PeerSessionEntry) -> bool {
    let told = |entry: &PeerSessionEntry| {
        let record = &entry.record;
        (record.address.clone(), record.version.clone(), record.server_labels.clone())
    };
    told(old) != told(new)
}

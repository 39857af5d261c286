//! What etcd's table says of a role's peers: who has come, changed or gone, and in whose place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use plugin_api::identity::ServerId;
use plugin_api::peers::{PeerChange, PeerLink, PeerSession};

use super::{Driver, Tracked};
use crate::cluster::{PeerSessionEntry, PeerTable};
use crate::connections::dependency::{Gone, PeerShared, describe};
use crate::connections::peer::{Action, Departure, Input, LinkState, Moment, PeerState, Session};
use crate::connections::places::Places;

/// How many peers that have gone are remembered, so that a call to one of them is told so.
const REMEMBERED: usize = 1024;

impl Driver {
    /// Takes the difference between the table and the one before: of those that it says it has changed.
    pub(super) fn follow(&mut self) {
        let table = Arc::clone(&self.table.borrow_and_update());
        let Some(touched) = table.touched.since(&self.current.touched) else { return self.follow_all(table) };
        let touched: BTreeSet<ServerId> = touched.collect();
        for server_id in &touched {
            self.places.take(*server_id, &self.current, &table);
        }
        self.compare(&table, &touched);
    }

    /// Takes a table that may have nothing to do with the one before.
    pub(super) fn follow_anew(&mut self) {
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
    pub(super) fn settle(&mut self, server_id: ServerId) {
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
        if table.farewells.has(server_id) && !peer.entry.record.stopping {
            // It said so, and nobody here saw it before it went: its calls may end all the same.
            self.hands.drive(&mut peer, Input::Stopping);
        }
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
}

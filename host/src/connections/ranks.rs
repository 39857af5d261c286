//! Which peer of a role the next call goes to, kept in order as peers change: a choice costs much the same among ten peers
//! and among ten thousand.
//!
//! What a call then does with the peer is the truth table's business, in `refusal`.

use std::ops::Bound;

use plugin_api::identity::ServerId;
use plugin_api::peers::PeerSession;
use rpds::RedBlackTreeSetSync;

use super::dependency::PeerView;
use super::peer::{LinkState, PeerState};

/// How near a peer is to being called: the smaller, the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It can be called.
    Ready,
    /// It can be called, and has said that it will stop.
    Stopping,
    /// A new link to it is being made in time.
    Draining,
    /// It is dialled for the first time, or says that it does not serve yet.
    Connecting,
    /// A dial has failed.
    Retrying,
    /// Only etcd, or a slow probe, brings it back.
    Away,
}

impl Rank {
    /// Of a peer that stands so.
    pub fn of(state: &PeerState) -> Self {
        match (state.session.kind(), &state.link) {
            (PeerSession::Live, LinkState::Ready { .. }) => Self::Ready,
            (PeerSession::Stopping, LinkState::Ready { .. }) => Self::Stopping,
            (PeerSession::Live, LinkState::Draining { .. }) => Self::Draining,
            (_, LinkState::Connecting { .. } | LinkState::Refusing { .. }) => Self::Connecting,
            (_, LinkState::Retrying { .. }) => Self::Retrying,
            _ => Self::Away,
        }
    }
}

/// A role's peers by their rank. Clones share what they have in common.
#[derive(Clone, Default)]
pub(super) struct Ranks {
    /// All but those in standby.
    serving: RedBlackTreeSetSync<(Rank, ServerId)>,
    /// Those that hold an exclusive role. Two of them are seen where one has just taken over.
    holders: RedBlackTreeSetSync<ServerId>,
}

impl Ranks {
    /// One peer has changed from one view to the next.
    pub fn take(&mut self, server_id: ServerId, before: Option<&PeerView>, now: Option<&PeerView>) {
        let rank = |view: Option<&PeerView>| view.and_then(PeerView::rank);
        if rank(before) != rank(now) {
            rank(before).map(|rank| self.serving.remove_mut(&(rank, server_id)));
            rank(now).into_iter().for_each(|rank| self.serving.insert_mut((rank, server_id)));
        }
        let holds =
            |view: Option<&PeerView>| view.is_some_and(|view| view.entry.record.exclusive && !view.entry.standby);
        match (holds(before), holds(now)) {
            (false, true) => self.holders.insert_mut(server_id),
            (true, false) => drop(self.holders.remove_mut(&server_id)),
            (true, true) | (false, false) => {}
        }
    }

    /// Who holds the role, where it is exclusive.
    pub fn holder(&self) -> Option<ServerId> {
        self.holders.first().copied()
    }

    /// Of the peers of the best rank that is there, the first after this one; after the last comes the first again.
    pub fn next_after(&self, before: ServerId) -> Option<ServerId> {
        let (best, first) = *self.serving.first()?;
        let later = (Bound::Excluded((best, before)), Bound::Unbounded);
        let next = self.serving.range(later).next().filter(|(rank, _)| *rank == best);
        Some(next.map_or(first, |(_, server_id)| *server_id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use plugin_api::peers::Registration;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::{PeerSessionEntry, Record};
    use crate::connections::dependency::PeerShared;
    use crate::connections::link::Way;
    use crate::connections::peer::{Departure, GiveUp, Round, Session};
    use crate::wire::Addressee;

    fn view(session: Session, link: LinkState, standby: bool, exclusive: bool) -> PeerView {
        let record = Record { exclusive, ..Record::default() };
        let registration = Registration { create_revision: 1, lease_id: 1 };
        let entry = Arc::new(PeerSessionEntry { record, registration, standby, suspect: false, appeared: 1 });
        let state = PeerState { session, link, since: Instant::now() };
        PeerView {
            entry,
            state,
            link: None,
            shared: Arc::new(PeerShared::new(
                &CancellationToken::new(),
                Way::Tcp,
                &Addressee::default(),
                mpsc::unbounded_channel().0,
            )),
        }
    }

    fn node(session: Session, link: LinkState) -> PeerView {
        view(session, link, false, false)
    }

    fn ready() -> LinkState {
        LinkState::Ready { since: Instant::now(), verified: true, quick_losses: 0 }
    }

    fn round() -> Round {
        Round { failed: 0, window_ends: Instant::now() + Duration::from_secs(1), dials: 0, quick_losses: 0 }
    }

    fn connecting() -> LinkState {
        LinkState::Connecting { round: round(), peer_says: None, dial_at: None }
    }

    fn retrying() -> LinkState {
        LinkState::Retrying { round: round(), last_error: String::new(), next_try: None }
    }

    fn given_up() -> LinkState {
        LinkState::GivenUp { cause: GiveUp::WindowsFailed, tries: 3, last_error: String::new(), next_probe: None }
    }

    fn draining() -> LinkState {
        LinkState::Draining { round: round(), cut_at: None }
    }

    #[test]
    fn every_pair_of_session_and_link_has_its_rank() {
        use Rank::{Away, Connecting, Draining, Ready, Retrying, Stopping};
        let links = [ready(), draining(), connecting(), retrying(), given_up(), LinkState::Closed];
        for (session, expected) in [
            (Session::Live, [Ready, Draining, Connecting, Retrying, Away, Away]),
            (Session::Suspect { probe_at: None }, [Ready, Draining, Connecting, Retrying, Away, Away]),
            (Session::Stopping, [Stopping, Away, Connecting, Retrying, Away, Away]),
            (Session::Gone(Departure::Deleted), [Away, Away, Connecting, Retrying, Away, Away]),
        ] {
            let ranks = links.clone().map(|link| node(session, link).rank());
            assert_eq!(ranks, expected.map(Some), "{session:?}");
            assert!(links.iter().all(|link| view(session, link.clone(), true, true).rank().is_none()), "in standby");
        }
    }

    #[test]
    fn peers_of_the_best_rank_take_turns() {
        let mut ranks = Ranks::default();
        assert_eq!(ranks.next_after(ServerId(0)), None);
        let live = |link| node(Session::Live, link);
        let mut views = BTreeMap::new();
        let mut set = |ranks: &mut Ranks, id: i64, view: Option<PeerView>| {
            ranks.take(ServerId(id), views.get(&id), view.as_ref());
            match view {
                Some(view) => views.insert(id, view),
                None => views.remove(&id),
            };
        };
        let turns = |ranks: &Ranks| {
            let mut at = ServerId(i64::MIN);
            [(); 4].map(|()| {
                at = ranks.next_after(at).expect("somebody");
                at.0
            })
        };
        set(&mut ranks, 1, Some(live(retrying())));
        set(&mut ranks, 2, Some(live(connecting())));
        assert_eq!(turns(&ranks), [2, 2, 2, 2], "the nearest to being called");
        set(&mut ranks, 5, Some(node(Session::Stopping, ready())));
        assert_eq!(turns(&ranks), [5, 5, 5, 5], "one that stops can still be called");
        for id in [3, 7, 1] {
            set(&mut ranks, id, Some(live(ready())));
        }
        assert_eq!(turns(&ranks), [1, 3, 7, 1], "in turn");
        assert_eq!(ranks.next_after(ServerId(4)), Some(ServerId(7)), "after one that is not there any more");
        set(&mut ranks, 3, None);
        set(&mut ranks, 1, Some(live(given_up())));
        assert_eq!(turns(&ranks), [7, 7, 7, 7]);
        set(&mut ranks, 7, Some(view(Session::Live, ready(), true, true)));
        assert_eq!(turns(&ranks), [5, 5, 5, 5], "one in standby is never called");
        for id in [1, 2, 5, 7] {
            set(&mut ranks, id, None);
        }
        assert_eq!(ranks.next_after(ServerId(0)), None, "nothing is left behind");
    }

    #[test]
    fn a_holder_is_who_has_the_exclusive_role_now() {
        let (held, standing_by) = (view(Session::Live, ready(), false, true), view(Session::Live, ready(), true, true));
        let mut ranks = Ranks::default();
        ranks.take(ServerId(4), None, Some(&standing_by));
        assert_eq!(ranks.holder(), None);
        ranks.take(ServerId(3), None, Some(&held));
        ranks.take(ServerId(4), Some(&standing_by), Some(&held));
        assert_eq!(ranks.holder(), Some(ServerId(3)));
        ranks.take(ServerId(3), Some(&held), None);
        assert_eq!(ranks.holder(), Some(ServerId(4)));
        ranks.take(ServerId(4), Some(&held), Some(&node(Session::Live, ready())));
        assert_eq!(ranks.holder(), None);
    }
}

//! What is told of a role's peers: to components as a stream, to people as a bounded history.
//!
//! Nobody who listens can hold anybody up: who is slow gets a table in place of what was missed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::Stream;
use plugin_api::identity::{Role, ServerId};
use plugin_api::peers::{Peer, PeerChange, PeerEvent};
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::dependency::Followed;

/// How many events a listener may be behind before it gets a table instead, and how many are kept for people.
const KEPT: usize = 256;

/// The events of one role.
pub(super) struct Events {
    sender: broadcast::Sender<PeerEvent>,
    history: VecDeque<PastEvent>,
}

/// Something that happened to a peer, as people are told of it.
#[derive(Clone, Debug, Serialize)]
pub struct PastEvent {
    /// When, in RFC 3339.
    pub at: String,
    /// The etcd revision of the table at that time.
    pub revision: i64,
    /// The peer.
    pub server_id: ServerId,
    /// Its address at that time.
    pub address: String,
    /// `online`, `offline`, `stopping`, `replaced`, `reregistered`, `updated` or `given_up`.
    pub event: &'static str,
    /// Why, where there is something to say.
    pub detail: String,
}

impl Events {
    /// None yet.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(KEPT), history: VecDeque::with_capacity(KEPT) }
    }

    /// Tells everybody.
    pub fn publish(&mut self, role: &Role, revision: i64, change: PeerChange) {
        if let Some(past) = PastEvent::of(revision, &change) {
            let PastEvent { server_id, event, detail, .. } = &past;
            tracing::info!(peer = %format_args!("{role}-{server_id}"), revision, detail, "peer {event}");
            if self.history.len() == KEPT {
                self.history.pop_front();
            }
            self.history.push_back(past);
        }
        if matches!(&change, PeerChange::Online(peer) if peer.standby) {
            // It cannot be called: of no use to a component.
            return;
        }
        // An error only says that nobody listens.
        let _ = self.sender.send(PeerEvent { role: role.clone(), revision, change });
    }

    /// The last events, oldest first.
    pub fn history(&self) -> Vec<PastEvent> {
        self.history.iter().cloned().collect()
    }
}

impl PastEvent {
    fn of(revision: i64, change: &PeerChange) -> Option<Self> {
        let (peer, event, detail): (&Peer, _, _) = match change {
            PeerChange::Table(_) => return None,
            PeerChange::Online(peer) if peer.standby => (peer, "online", "in standby".to_owned()),
            PeerChange::Online(peer) => (peer, "online", String::new()),
            PeerChange::Offline { peer, reason, error } => (peer, "offline", format!("{reason}: {error}")),
            PeerChange::Stopping(peer) => (peer, "stopping", String::new()),
            PeerChange::Replaced { old, new } => {
                (old, "replaced", format!("by {}-{} at {}", new.role, new.server_id, new.address))
            }
            PeerChange::Reregistered(peer) => (peer, "reregistered", String::new()),
            PeerChange::Updated(peer) => (peer, "updated", String::new()),
            PeerChange::GivenUp { peer, error } => (peer, "given_up", error.clone()),
        };
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Some(Self { at, revision, server_id: peer.server_id, address: peer.address.clone(), event, detail })
    }
}

/// The changes of a role's peers: the table first, then each change in order.
///
/// It ends when the dependency is removed or the host stops.
pub struct PeerEvents {
    stream: Pin<Box<dyn Stream<Item = PeerEvent> + Send>>,
}

impl PeerEvents {
    pub(super) fn new(followed: Arc<Followed>, end: CancellationToken) -> Self {
        let (receiver, first) = begin(&followed);
        let state = Listening { followed, end, receiver, table: Some(first) };
        Self { stream: Box::pin(futures_util::stream::unfold(state, Listening::next)) }
    }
}

impl Stream for PeerEvents {
    type Item = PeerEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        self.stream.as_mut().poll_next(context)
    }
}

struct Listening {
    followed: Arc<Followed>,
    end: CancellationToken,
    receiver: broadcast::Receiver<PeerEvent>,
    table: Option<PeerEvent>,
}

impl Listening {
    async fn next(mut self) -> Option<(PeerEvent, Self)> {
        if let Some(table) = self.table.take() {
            return Some((table, self));
        }
        let received = tokio::select! {
            biased;
            () = self.end.cancelled() => return None,
            received = self.receiver.recv() => received,
        };
        match received {
            Ok(event) => Some((event, self)),
            Err(RecvError::Lagged(_)) => {
                let (receiver, table) = begin(&self.followed);
                self.receiver = receiver;
                Some((table, self))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

fn begin(followed: &Followed) -> (broadcast::Receiver<PeerEvent>, PeerEvent) {
    let events = followed.events();
    let receiver = events.sender.subscribe();
    let view = followed.view();
    let change = PeerChange::Table(view.list());
    (receiver, PeerEvent { role: followed.role.clone(), revision: view.table.revision, change })
}

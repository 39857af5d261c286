//! What is told of a role's peers: to components as a stream, to people as a bounded history and as it happens.
//!
//! Nobody who listens can hold anybody up: who is slow gets a table in place of what was missed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use plugin_api::identity::Role;
use plugin_api::peers::{PeerChange, PeerEvent, PeerSession};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::dependency::{Followed, RoleView};
use super::history::{History, PastEvent};

/// How many events a listener may be behind before it gets a table instead.
const KEPT: usize = 256;

/// The events of one role.
pub(super) struct Events {
    sender: broadcast::Sender<PeerEvent>,
    history: History,
    /// Those of all roles of this host, for people.
    news: broadcast::Sender<Arc<PastEvent>>,
}

impl Events {
    /// None yet. What people are told of goes to `news` as well.
    pub fn new(news: broadcast::Sender<Arc<PastEvent>>) -> Self {
        Self { sender: broadcast::Sender::new(KEPT), history: History::default(), news }
    }

    /// Tells everybody of a change that came with this view.
    pub fn publish(&mut self, role: &Role, view: &RoleView, change: PeerChange) {
        let revision = view.table.revision;
        if let Some(past) = self.history.add(role, revision, &change) {
            let PastEvent { server_id, event, detail, .. } = &*past;
            tracing::info!(peer = %format_args!("{role}-{server_id}"), revision, detail, "peer {event}");
            if has_gone(&change) {
                self.history.went(*server_id, |id| view.peers.contains_key(&id));
            }
            // As below.
            let _ = self.news.send(past);
        }
        if matches!(&change, PeerChange::Online(peer) if peer.standby) {
            // It cannot be called: of no use to a component.
            return;
        }
        // An error only says that nobody listens.
        let _ = self.sender.send(PeerEvent { role: role.clone(), revision, change });
    }

    /// The last events, oldest first.
    pub fn history(&self) -> Vec<Arc<PastEvent>> {
        self.history.all()
    }
}

/// Has its peer gone from the table?
fn has_gone(change: &PeerChange) -> bool {
    match change {
        PeerChange::Offline { peer, .. } => peer.session == PeerSession::Gone,
        PeerChange::Replaced { .. } => true,
        _ => false,
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

//! What a component may ask of its host.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use crate::border::v1;
use crate::channel::{Channel, Target};
use crate::error::Error;
use crate::fence::Fence;
use crate::identity::{Identity, Role, ServerId};
use crate::metadata::Metadata;
use crate::peers::{Peer, PeerEvent};
use crate::task::Task;

/// A component's way to its host. Cheap to clone, and usable from every thread.
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) host: v1::Host,
    pub(crate) stopping: CancellationToken,
    pub(crate) runtime: tokio::runtime::Handle,
}

/// One peer and the channel to it.
#[derive(Clone)]
pub struct Client {
    /// The peer as it stands.
    pub peer: Peer,
    /// The channel to it, for a tonic-generated client.
    pub channel: Channel,
}

impl Context {
    /// Who this component is.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// A channel to the active coordinator of a role; it follows the active one.
    ///
    /// It can be had at any time, also while nobody is there: a call then is refused at once, or waits where it asks to.
    /// A role that the descriptor does not name is refused at each call with `NOT_DECLARED`. For a node role it takes any
    /// peer that is ready, in turn.
    pub fn client(&self, role: &Role) -> Channel {
        self.channel(Target::Role(role.clone()))
    }

    /// A channel to one peer, by its identity.
    pub fn client_of(&self, role: &Role, server_id: ServerId) -> Channel {
        self.channel(Target::Server(role.clone(), server_id))
    }

    /// The peers of a role that can be called now, by server id.
    ///
    /// # Errors
    ///
    /// `FAILED_PRECONDITION` with `NOT_DECLARED` where the descriptor does not name the role.
    pub fn clients(&self, role: &Role) -> Result<Vec<Client>, Error> {
        let peers = self.shared.host.peers(role)?;
        let callable = peers.into_iter().filter(Peer::is_callable);
        Ok(callable.map(|peer| Client { channel: self.client_of(role, peer.server_id), peer }).collect())
    }

    /// The peers of a role: first the table as it is now, standbys too, then each change in order. A slow receiver gets a
    /// new table in place of what it missed. It ends when it is dropped or the component stops.
    ///
    /// # Errors
    ///
    /// As [`clients`](Self::clients).
    pub fn watch_clients(&self, role: &Role) -> Result<PeerStream, Error> {
        Ok(PeerStream { events: self.shared.host.watch_peers(role)? })
    }

    /// The component's metadata in etcd.
    pub fn metadata(&self) -> Metadata {
        Metadata { host: self.shared.host.clone() }
    }

    /// Whether the component may act as the holder of its session now.
    pub fn fence(&self) -> Fence {
        Fence::new(self.shared.host.clone())
    }

    /// Cancelled when the component is stopped, before its `stop` is called.
    pub fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// Runs a task on the host's workers, inside the component's own runtime context, and accounts for it under this name.
    ///
    /// It ends by itself, by [`Task::abort`], or when the component is stopped: the host drops what is left then. A panic
    /// in it is a panic in the component's life. Where a call is being served it is part of that one, with its deadline and
    /// its trace ([`crate::Call`]): what goes on when the call has been answered is to be wrapped in
    /// [`crate::Call::detached`]. For what blocks a thread there is `tokio::task::spawn_blocking`.
    pub fn spawn<F>(&self, name: &str, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Task::spawn(&self.shared, name, future)
    }

    fn channel(&self, target: Target) -> Channel {
        Channel::new(self.shared.host.channel(&target), self.shared.runtime.clone())
    }
}

/// The stream that [`Context::watch_clients`] returns.
pub struct PeerStream {
    events: v1::Follow<PeerEvent>,
}

impl Stream for PeerStream {
    type Item = PeerEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}

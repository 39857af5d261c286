//! Tells a component of its peers, one event at a time, from its activation on: first the table of each dependency, then each
//! change.
//!
//! Nobody waits for the component, and what waits for it is bounded: events of a role that came while it took long are merged
//! into that role's table as it is by then. The events themselves are made in `connections`.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use plugin_api::border::v1::component::LifeError;
use plugin_api::identity::Role;
use plugin_api::peers::PeerEvent;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{Failures, Member};
use crate::connections::{ConnectionManager, PeerEvents};
use crate::plugin::Generation;
use crate::startup::Parts;

/// An `on_peer` that took longer is slow. Whoever is quicker is told of each change by itself, within this time.
const SLOW: Duration = Duration::from_millis(250);

/// How often people are told of one that does not return.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// It ends with what is returned.
pub fn tell(member: &Member, parts: &Parts, generation: &Generation, failures: &Failures) -> AbortOnDropHandle<()> {
    let roles = generation.descriptor().dependencies.iter().map(|dependency| dependency.role.clone());
    let notices = Notices::begin(parts.connections.clone(), member.role.clone(), roles);
    let listener = Listener {
        generation: generation.clone(),
        role: member.role.clone(),
        limit: member.config.on_peer_timeout,
        control: parts.control.clone(),
    };
    let failures = failures.sender();
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = listener.listen(notices).await {
            tracing::warn!(role = %listener.role, %error, "on_peer failed");
            // Nobody listens any more where the component is on its way out.
            let _ = failures.send(error);
        }
    }))
}

/// A component that is told.
struct Listener {
    generation: Generation,
    role: Role,
    limit: Duration,
    /// Where nobody can keep the thread that says how long it takes.
    control: Handle,
}

impl Listener {
    /// Until all dependencies are removed.
    async fn listen(&self, mut notices: Notices) -> Result<(), LifeError> {
        while let Some(event) = notices.next().await {
            let begin = Instant::now();
            let Some(done) = self.tell(&event).await else {
                // Whatever it was about: what it has missed is in the table.
                notices.begin_anew(&event.role);
                notices.merge();
                continue;
            };
            done?;
            if begin.elapsed() > SLOW {
                notices.merge();
            }
        }
        Ok(())
    }

    /// `None` where it was dropped at its limit.
    async fn tell(&self, event: &PeerEvent) -> Option<Result<(), LifeError>> {
        let (role, of) = (self.role.clone(), event.role.clone());
        let _says_so = AbortOnDropHandle::new(self.control.spawn(async move {
            for times in 1.. {
                tokio::time::sleep(SAID_EVERY).await;
                let waited = humantime::format_duration(SAID_EVERY * times);
                tracing::warn!(%role, peers = %of, %waited, "on_peer has not returned: the component is told nothing more");
            }
        }));
        let done = tokio::time::timeout(self.limit, self.generation.component().on_peer(event)).await;
        if done.is_err() {
            let limit = humantime::format_duration(self.limit);
            tracing::error!(role = %self.role, peers = %event.role, %limit,
                "on_peer took too long ([component] on_peer_timeout) and was dropped: the component is told the table anew");
        }
        done.ok()
    }
}

/// What a component is to be told.
struct Notices {
    connections: ConnectionManager,
    caller: Role,
    roles: Vec<OfRole>,
    /// Who is asked first the next time: no role keeps another from being told.
    turn: usize,
}

/// What it is to be told of one role.
struct OfRole {
    role: Role,
    events: PeerEvents,
    /// The next event, where it has been taken already.
    next: Option<PeerEvent>,
}

impl Notices {
    fn begin(connections: ConnectionManager, caller: Role, roles: impl Iterator<Item = Role>) -> Self {
        // Each was declared in step 2 or 3; only a host that stops has removed it.
        let of_role = |role| OfRole::begin(&connections, &caller, role);
        let roles = roles.filter_map(of_role).collect();
        Self { connections, caller, roles, turn: 0 }
    }

    async fn next(&mut self) -> Option<PeerEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        let mut asked = 0;
        while asked < self.roles.len() {
            let at = self.turn % self.roles.len();
            match self.roles[at].poll_next(context) {
                Poll::Ready(Some(event)) => {
                    self.turn = at + 1;
                    return Poll::Ready(Some(event));
                }
                // The dependency has been removed.
                Poll::Ready(None) => drop(self.roles.remove(at)),
                Poll::Pending => {
                    self.turn = at + 1;
                    asked += 1;
                }
            }
        }
        if self.roles.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// A table in place of the events of each role that has more than one waiting.
    fn merge(&mut self) {
        let several: Vec<_> = self.roles.iter_mut().filter_map(OfRole::has_several).collect();
        several.iter().for_each(|role| self.begin_anew(role));
    }

    /// The role's table in place of all its events that wait.
    fn begin_anew(&mut self, role: &Role) {
        if let Some(there) = self.roles.iter_mut().find(|there| there.role == *role)
            && let Some(anew) = OfRole::begin(&self.connections, &self.caller, role.clone())
        {
            *there = anew;
        }
    }
}

impl OfRole {
    fn begin(connections: &ConnectionManager, caller: &Role, role: Role) -> Option<Self> {
        let events = connections.watch_clients(caller, &role).ok()?;
        Some(Self { role, events, next: None })
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        match self.next.take() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.events.poll_next_unpin(context),
        }
    }

    /// The role, where more than one event of it waits.
    fn has_several(&mut self) -> Option<Role> {
        let mut waiting = || self.events.next().now_or_never().flatten();
        if self.next.is_none() {
            self.next = waiting();
        }
        (self.next.is_some() && waiting().is_some()).then(|| self.role.clone())
    }
}

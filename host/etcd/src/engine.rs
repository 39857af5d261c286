//! Store and leases as all services share them, and what of them clients may see.
//!
//! A request that writes is decided under the lock, in memory, and answered once all that was decided up to it is durable:
//! reads and watches see nothing that a crash could take back, and many requests become durable together. Without a data
//! directory everything is durable at once.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use etcd_client::proto::PbResponseHeader;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::identity::Identity;
use crate::machine::{Effect, Machine};
use crate::refusal::Refusal;
use crate::store::{FIRST_REVISION, NEVER_COMPACTED};

/// What is durable, and so may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    /// The present revision of reads and watches.
    pub revision: i64,
    /// Earlier revisions are gone.
    pub compacted: i64,
}

/// Shared by all services of a server.
pub struct Engine {
    identity: Identity,
    state: RwLock<State>,
    /// The revision that is visible: watches wait for it.
    revision: watch::Sender<i64>,
    /// A lease was granted that may end before all others.
    granted: Notify,
}

/// What is under the lock.
pub struct State {
    /// Decides requests; may be ahead of what is visible.
    pub machine: Machine,
    /// What is durable.
    pub visible: Visible,
}

impl Engine {
    /// With nothing in it, and nothing kept.
    pub fn new(identity: Identity) -> Arc<Self> {
        let visible = Visible { revision: FIRST_REVISION, compacted: NEVER_COMPACTED };
        Arc::new(Self {
            identity,
            state: RwLock::new(State { machine: Machine::default(), visible }),
            revision: watch::Sender::new(visible.revision),
            granted: Notify::new(),
        })
    }

    /// Who answers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Fills in who answers, and the present revision where none is named.
    pub fn fill(&self, header: Option<PbResponseHeader>) -> Option<PbResponseHeader> {
        let named = header.map_or(0, |header| header.revision);
        Some(self.identity.header(if named == 0 { self.visible().revision } else { named }))
    }

    /// What may be seen now.
    pub fn visible(&self) -> Visible {
        self.read().visible
    }

    /// Follows the visible revision.
    pub fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// How many bytes the data directory has; none without one.
    pub fn kept_bytes(&self) -> u64 {
        0
    }

    /// To read what is visible. Never kept across an `await`.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides a request that may write, and waits until what it has changed, and what it has seen, is durable.
    ///
    /// # Errors
    ///
    /// What the request says; or that nothing can be made durable any more.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped was decided all the same.
    pub async fn write<T>(
        &self,
        request: impl FnOnce(&mut Machine) -> Result<(T, Option<Effect>), Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.lock();
        let (answer, effect) = request(&mut state.machine)?;
        if let Some(effect) = effect {
            self.show(&mut state, &effect);
        }
        Ok(answer)
    }

    /// Renews a lease: that is not kept, and nobody waits.
    pub fn renew(&self, lease: i64) -> Option<i64> {
        self.lock().machine.renew(lease, Instant::now())
    }

    /// What is durable becomes visible.
    fn show(&self, state: &mut State, effect: &Effect) {
        if let Effect::Compaction(revision) = effect {
            state.visible.compacted = *revision;
            state.machine.compacted(*revision);
        }
        if let Some(revision) = effect.revision() {
            state.visible.revision = revision;
            // Under the lock, so that the order is that of the revisions.
            self.revision.send_replace(revision);
        }
    }

    /// Says that a lease may end before those that were known.
    pub fn granted(&self) {
        self.granted.notify_one();
    }

    /// Revokes leases at their ends, one revision each, for as long as it is polled.
    pub async fn expire(&self) {
        loop {
            let (expired, next) = {
                let state = self.read();
                (state.machine.lessor().expired(Instant::now()), state.machine.lessor().next_deadline())
            };
            if let Some(id) = expired {
                // It may have been revoked by a client meanwhile, which is as good.
                let revoked = self.write(|machine| machine.revoke(id).map(|effect| ((), Some(effect)))).await;
                tracing::debug!(lease = format!("{id:x}"), done = revoked.is_ok(), "a lease has ended");
                continue;
            }
            let granted = self.granted.notified();
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = granted => {}
                },
                None => granted.await,
            }
        }
    }
}

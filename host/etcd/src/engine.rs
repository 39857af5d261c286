//! Store and leases as all services share them, and what of them clients may see.
//!
//! A request that writes is decided under the lock, in memory, and answered once all that was decided up to it is durable:
//! reads and watches see nothing that a crash could take back, and many requests become durable together (`keeper`). Without
//! a data directory everything is durable at once.

mod keeper;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use etcd_client::proto::{PbCompactionRequest, PbResponseHeader};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use self::keeper::{Keeper, Pending};
use crate::identity::Identity;
use crate::journal::{Image, Journal};
use crate::machine::{Effect, Machine};
use crate::refusal::Refusal;

/// How often old revisions are thrown away: etcd's own interval.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// As soon as the revisions that are kept take more than this, some are thrown away as well: half as much is left.
const HISTORY_BYTES: u64 = 64 << 20;

/// A request waits so long for its disk: about as long as etcd lets one wait.
const WRITE_LIMIT: Duration = Duration::from_secs(7);

/// While so many bytes wait to be written, nothing is decided.
const WAITING_BYTES: usize = 64 << 20;

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
    /// The revisions that are kept take much.
    large: Notify,
    /// The thread that writes, where there is a data directory.
    keeper: Mutex<Option<Keeper>>,
}

/// What is under the lock.
pub struct State {
    /// Decides requests; may be ahead of what is visible.
    pub machine: Machine,
    /// What is durable.
    pub visible: Visible,
    /// What is not.
    pending: Pending,
    /// Nothing is decided any more.
    ended: Option<Refusal>,
}

impl Engine {
    /// With nothing kept.
    pub fn in_memory(identity: Identity, machine: Machine) -> Arc<Self> {
        Arc::new(Self::new(identity, machine, Pending::none()))
    }

    /// With what a data directory has kept, and kept there.
    pub fn kept(journal: Journal, identity: Identity, machine: Machine) -> Arc<Self> {
        let engine = Arc::new(Self::new(identity, machine, Pending::new(journal.size())));
        let keeper = Keeper::spawn(journal, Arc::clone(&engine));
        *engine.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        engine
    }

    fn new(identity: Identity, machine: Machine, pending: Pending) -> Self {
        let visible = Visible { revision: machine.store().revision(), compacted: machine.store().compacted() };
        let revision = watch::Sender::new(visible.revision);
        let state = RwLock::new(State { machine, visible, pending, ended: None });
        let (granted, large, keeper) = (Notify::new(), Notify::new(), Mutex::new(None));
        Self { identity, state, revision, granted, large, keeper }
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
        self.read().pending.size()
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
    /// What the request says; that nothing can be made durable any more, or was not within seven seconds.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped was decided all the same.
    pub async fn write<T>(
        &self,
        request: impl FnOnce(&mut Machine) -> Result<(T, Option<Effect>), Refusal>,
    ) -> Result<T, Refusal> {
        let (answer, durable) = self.decide(request)?;
        if let Some(durable) = durable {
            // The keeper answers all, or has ended with the whole process' data.
            let told = tokio::time::timeout(WRITE_LIMIT, durable).await.map_err(|_| Refusal::TimedOut)?;
            told.unwrap_or(Err(Refusal::Stopped))?;
        }
        answer
    }

    /// Decides a request, whose answer may be given once what is returned beside it says so.
    #[expect(clippy::type_complexity, reason = "a refusal, too, has seen what may not be durable yet")]
    fn decide<T>(
        &self,
        request: impl FnOnce(&mut Machine) -> Result<(T, Option<Effect>), Refusal>,
    ) -> Result<(Result<T, Refusal>, Option<oneshot::Receiver<Result<(), Refusal>>>), Refusal> {
        let mut state = self.lock();
        if let Some(refusal) = state.ended {
            return Err(refusal);
        }
        if state.pending.bytes() > WAITING_BYTES {
            return Err(Refusal::TooManyRequests);
        }
        let (answer, effect) = match request(&mut state.machine) {
            Ok((answer, effect)) => (Ok(answer), effect),
            Err(refusal) => (Err(refusal), None),
        };
        if let Some(Effect::Grant { .. }) = effect {
            self.granted.notify_one();
        }
        if state.machine.store().logged() > HISTORY_BYTES {
            self.large.notify_one();
        }
        if !state.pending.keeps() {
            if let Some(effect) = effect {
                self.show(&mut state, effect.revision(), effect.compaction());
            }
            return Ok((answer, None));
        }
        if let Some(effect) = &effect {
            state.pending.add(effect);
        }
        let durable = state.pending.wait();
        drop(state);
        if durable.is_some() {
            self.wake_keeper();
        }
        Ok((answer, durable))
    }

    /// Renews a lease: that is not kept, and nobody waits; none where there is no such lease, durably.
    ///
    /// # Errors
    ///
    /// As [`Engine::write`].
    pub async fn renew(&self, lease: i64) -> Result<Option<i64>, Refusal> {
        // When it came counts, not when its turn was.
        let now = Instant::now();
        let renewed = self.lock().machine.renew(lease, now);
        if renewed.is_none() {
            // What has ended it may not be told before it is durable.
            self.write(|_| Ok(((), None))).await?;
        }
        Ok(renewed)
    }

    /// What is durable becomes visible. Under the lock, so that the order is that of the revisions.
    fn show(&self, state: &mut State, revision: Option<i64>, compaction: Option<i64>) {
        if let Some(revision) = revision {
            state.visible.revision = revision;
            self.revision.send_replace(revision);
        }
        if let Some(compaction) = compaction {
            state.visible.compacted = compaction;
            state.machine.compacted(compaction);
        }
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = &*self.keeper.lock().unwrap_or_else(PoisonError::into_inner) {
            keeper.wake();
        }
    }

    /// Decides nothing any more, and waits until what was decided is durable; no longer than this. It blocks.
    pub fn end(&self, limit: Duration) {
        self.lock().ended.get_or_insert(Refusal::Stopped);
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            keeper.end(limit);
        }
    }

    /// Everything at this moment, to be written.
    fn image(&self, state: &State) -> Image {
        Image::of(&self.identity, &state.machine)
    }

    /// Compacts for as long as it is polled: every five minutes, so that so many revisions can still be read; and whenever they
    /// take too much.
    pub async fn compact_all_but(&self, retention: i64) {
        loop {
            let oldest = tokio::select! {
                () = tokio::time::sleep(COMPACT_EVERY) => self.visible().revision - retention,
                () = self.large.notified() => {
                    let (first, Visible { revision, .. }) = {
                        let state = self.read();
                        (state.machine.store().first_within(HISTORY_BYTES / 2), state.visible)
                    };
                    first.min(revision)
                }
            };
            let request = PbCompactionRequest { revision: oldest, physical: false };
            if request.revision > self.visible().compacted.max(0) {
                let compacted = self.write(|machine| machine.compact(&request).map(|effect| ((), Some(effect)))).await;
                tracing::debug!(request.revision, done = compacted.is_ok(), "compacted");
            }
        }
    }

    /// Revokes leases at their ends, one revision each, for as long as it is polled.
    pub async fn expire(&self) {
        loop {
            let granted = self.granted.notified();
            let now = Instant::now();
            let (expired, next) = {
                let state = self.read();
                (state.machine.lessor().expired(now), state.machine.lessor().next_deadline())
            };
            if !expired.is_empty() {
                if self.revoke(&expired, now).await.is_err() {
                    // Nothing is written any more: asking again would be an endless loop that waits for nothing.
                    return std::future::pending().await;
                }
                continue;
            }
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = granted => {}
                },
                None => granted.await,
            }
        }
    }

    /// All are decided before the first is waited for: they become durable together.
    async fn revoke(&self, expired: &[i64], now: Instant) -> Result<(), Refusal> {
        let mut waiting = Vec::new();
        for id in expired {
            // It may have been renewed or revoked meanwhile, which is as good.
            let (revoked, durable) = self.decide(|machine| Ok(((), machine.expire(*id, now))))?;
            revoked?;
            waiting.extend(durable);
        }
        for durable in waiting {
            durable.await.unwrap_or(Err(Refusal::Stopped))?;
        }
        tracing::debug!(leases = expired.len(), "leases have ended");
        Ok(())
    }
}

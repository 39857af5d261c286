//! What is left of collections that were dropped: segments in the catalogue, and what QueryNodes hold in memory.
//!
//! That a collection was dropped is kept in the metadata until nothing is left of it, so a restart or a takeover loses none.
//! Who drops one waits a while for its release; the rest is done by [`Releases::run`], when something was dropped, when
//! QueryCoord comes, and, where QueryCoord or etcd failed, after a pause. Whether a collection is loaded only QueryCoord
//! knows: it is told of each.
//!
//! In a swap a call may still drop a collection on the old generation when the new one has looked already. So it sees to what
//! is left by itself, and the new one looks again from time to time. Two that do it at once do no harm: all of it is deleting.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plugin_api::error::chain;
use plugin_api::{Call, Channel, Context, Role, async_trait};
use proto::querycoord::v1::ReleaseCollectionRequest;
use proto::querycoord::v1::query_coord_client::QueryCoordClient;
use proto::store::Store;
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::catalogue::{Catalogue, CatalogueError};

/// The pause after a first failure; each after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// QueryCoord, as RootCoord needs it.
#[async_trait]
pub(crate) trait QueryCoord: Send + Sync + 'static {
    /// Can it be called now?
    fn is_there(&self) -> bool;

    /// Lets it release a collection; `NOT_FOUND` where that is not loaded.
    async fn release(&self, collection_id: i64) -> Result<(), Status>;
}

/// The real one, over the host's link.
pub(crate) struct Link {
    context: Context,
    role: Role,
    channel: Channel,
}

impl Link {
    pub(crate) fn new(context: Context, role: Role) -> Self {
        Self { channel: context.client(&role), context, role }
    }
}

#[async_trait]
impl QueryCoord for Link {
    fn is_there(&self) -> bool {
        self.context.clients(&self.role).is_ok_and(|clients| !clients.is_empty())
    }

    async fn release(&self, collection_id: i64) -> Result<(), Status> {
        let request = ReleaseCollectionRequest { collection_id, ..ReleaseCollectionRequest::default() };
        QueryCoordClient::new(self.channel.clone()).release_collection(request).await.map(|_| ())
    }
}

/// Ends what is left of dropped collections.
pub(crate) struct Releases<S, Q> {
    catalogue: Arc<Catalogue<S>>,
    query_coord: Q,
    /// How long QueryCoord may take for one.
    limit: Duration,
    wake: Notify,
    /// How many [`Self::run`] there are: one that was ended a moment ago may be counted still.
    running: AtomicUsize,
    /// Those that are loaded no more and not forgotten yet.
    released: Mutex<BTreeSet<i64>>,
}

/// How a round over all dropped collections went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Nothing is left to be done, or only by a QueryCoord that is not there.
    Done,
    /// Something failed and is tried again.
    Failed,
}

impl<S: Store, Q: QueryCoord> Releases<S, Q> {
    pub(crate) fn new(catalogue: Arc<Catalogue<S>>, query_coord: Q, limit: Duration) -> Self {
        Self {
            catalogue,
            query_coord,
            limit,
            wake: Notify::new(),
            running: AtomicUsize::new(0),
            released: Mutex::default(),
        }
    }

    /// Something was dropped, or QueryCoord has come: [`Self::run`] looks again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Something was or may have been dropped: what is left of it ends in the background. Where [`Self::run`] runs no more,
    /// since the component was deactivated meanwhile, it is tried once by this.
    pub(crate) fn end_what_is_left(self: &Arc<Self>) {
        if self.running.load(Ordering::SeqCst) > 0 {
            return self.wake();
        }
        let releases = Arc::clone(self);
        // What fails is done by whoever is active: it looks again.
        tokio::spawn(async move { releases.round().await });
    }

    /// Is a collection that was just dropped loaded no more? Waits for QueryCoord at most so long as is configured, and no
    /// longer than half of what the present call has left: its caller is to hear that it was dropped.
    pub(crate) async fn released(&self, collection_id: i64) -> bool {
        let left = Call::current().and_then(|call| call.deadline);
        let half = left.map(|deadline| deadline.saturating_duration_since(Instant::now()) / 2);
        let limit = half.map_or(self.limit, |half| half.min(self.limit));
        match self.release(collection_id, limit).await {
            Ok(()) => true,
            Err(status) => {
                tracing::info!(
                    collection = collection_id,
                    reason = status.message(),
                    "a dropped collection is released later"
                );
                false
            }
        }
    }

    /// Ends what is left, again and again; never returns.
    pub(crate) async fn run(&self) {
        let _running = Running::begin(&self.running);
        let mut pause = FIRST_PAUSE;
        loop {
            let (before_next, after_that) = match self.round().await {
                Round::Done => (LONGEST_PAUSE, FIRST_PAUSE),
                Round::Failed => (pause, (pause * 2).min(LONGEST_PAUSE)),
            };
            // Whoever wakes it may have what was missing.
            let _ = tokio::time::timeout(before_next, self.wake.notified()).await;
            pause = after_that;
        }
    }

    async fn round(&self) -> Round {
        let dropped = match self.catalogue.dropped().await {
            Ok(dropped) => dropped,
            Err(error) => {
                tracing::warn!(error = chain(&error), "dropped collections cannot be read");
                return Round::Failed;
            }
        };
        let mut round = Round::Done;
        for id in dropped {
            round = round.max(self.end(id).await);
        }
        round
    }

    async fn end(&self, id: i64) -> Round {
        let mut round = Round::Done;
        if !self.is_released(id)
            && self.query_coord.is_there()
            && let Err(status) = self.release(id, self.limit).await
        {
            let (code, error) = (status.code(), status.message());
            tracing::warn!(collection = id, ?code, error, "a dropped collection was not released, and will be later");
            round = Round::Failed;
        }
        if let Err(error) = self.clear(id).await {
            tracing::warn!(collection = id, error = chain(&error), "a dropped collection was not cleared away");
            round = Round::Failed;
        }
        round
    }

    /// Removes what the catalogue still has of it; last of all, where it is loaded no more, that it was dropped.
    async fn clear(&self, id: i64) -> Result<(), CatalogueError> {
        self.catalogue.sweep(id).await?;
        if self.is_released(id) {
            self.catalogue.forget(id).await?;
            self.lock().remove(&id);
            tracing::info!(collection = id, "nothing is left of a dropped collection");
        }
        Ok(())
    }

    async fn release(&self, id: i64, limit: Duration) -> Result<(), Status> {
        let answer = tokio::time::timeout(limit, self.query_coord.release(id)).await;
        let late = |_| Err(Status::deadline_exceeded(format!("QueryCoord has not released it within {limit:?}")));
        match answer.unwrap_or_else(late) {
            Err(status) if status.code() != Code::NotFound => Err(status),
            // It is released, or was not loaded.
            _ => {
                self.lock().insert(id);
                Ok(())
            }
        }
    }

    fn is_released(&self, id: i64) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i64>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one for as long as it lives.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;

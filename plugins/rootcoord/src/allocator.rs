//! Gives out timestamps and ids, and saves ahead of them by compare-and-swap.
//!
//! Keys: `timestamp/saved`, the millisecond below which all may have been given out, and `id/next`, the first id that
//! nobody has reserved; both decimal. Each only ever grows. Another process that has written one meanwhile (it held the
//! session) is noticed by the compare, and this one goes on above it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use plugin_api::{Error, Reason, Refusal, Transaction};
use proto::store::Store;
use tonic::{Code, Status};

use crate::ids::{self, IdsError, Reserved};
use crate::in_hand::InHand;
use crate::timestamp::{Clock, ClockError, Next};

const TIMESTAMP_SAVED: &str = "timestamp/saved";
const ID_NEXT: &str = "id/next";

/// Compares fail only where two processes write at the same time, which the host's fence keeps from lasting.
const MAX_TRIES: usize = 10;

/// Gives out timestamps and ids.
pub(crate) struct Allocator<S> {
    store: Arc<S>,
    in_hand: Arc<InHand>,
    now: fn() -> u64,
}

/// Why nothing was given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllocatorError {
    /// No timestamp.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// No ids.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// The metadata cannot be read or written.
    #[error("saving {key}")]
    Store { key: &'static str, source: Error },
    /// What is saved is no number.
    #[error("{key} in the metadata is '{value}', which is no number")]
    NoNumber { key: &'static str, value: String },
    /// Another process goes on writing the same key.
    #[error("{key} in the metadata was changed by another process {MAX_TRIES} times in a row")]
    Contended { key: &'static str },
    /// Another generation or process gives out, or may.
    #[error("this RootCoord is not active, or not any more: nothing is given out")]
    Paused,
}

impl From<AllocatorError> for Status {
    fn from(error: AllocatorError) -> Self {
        let code = match &error {
            AllocatorError::Clock(ClockError::Count(_)) | AllocatorError::Ids(IdsError::NoCount) => {
                Code::InvalidArgument
            }
            AllocatorError::Clock(ClockError::Exhausted) | AllocatorError::Ids(IdsError::Exhausted(_)) => {
                Code::ResourceExhausted
            }
            AllocatorError::Store { source, .. } => source.code(),
            AllocatorError::NoNumber { .. } => Code::DataLoss,
            AllocatorError::Contended { .. } => Code::Aborted,
            // Nothing was done: it may be asked again.
            AllocatorError::Paused => return Refusal::new(Reason::Fenced, error.to_string()).into_status(),
        };
        Self::new(code, plugin_api::error::chain(&error))
    }
}

impl<S: Store> Allocator<S> {
    /// Gives out what is in hand. `now` is the time in milliseconds since 1970.
    pub(crate) fn new(store: Arc<S>, in_hand: Arc<InHand>, now: fn() -> u64) -> Self {
        Self { store, in_hand, now }
    }

    /// The first of `count` timestamps.
    pub(crate) async fn timestamps(&self, count: u32) -> Result<u64, AllocatorError> {
        let mut clock = self.in_hand.clock.lock().await;
        for _ in 0..MAX_TRIES {
            if self.in_hand.is_paused() {
                return Err(AllocatorError::Paused);
            }
            let Some(in_hand) = &mut *clock else {
                let saved = self.read::<u64>(TIMESTAMP_SAVED).await?;
                *clock = Some(Clock::after(saved.unwrap_or(0)));
                continue;
            };
            match in_hand.next((self.now)(), count)? {
                Next::Given(first) => return Ok(first),
                Next::Save(until) => {
                    let before = Some(in_hand.saved_until()).filter(|saved| *saved != 0);
                    if self.advance(TIMESTAMP_SAVED, before, until).await? {
                        in_hand.saved(until);
                    } else {
                        *clock = None;
                    }
                }
            }
        }
        Err(AllocatorError::Contended { key: TIMESTAMP_SAVED })
    }

    /// The first of `count` ids.
    pub(crate) async fn ids(&self, count: u64) -> Result<i64, AllocatorError> {
        if count == 0 {
            return Err(IdsError::NoCount.into());
        }
        let mut reserved = self.in_hand.ids.lock().await;
        for _ in 0..MAX_TRIES {
            if self.in_hand.is_paused() {
                return Err(AllocatorError::Paused);
            }
            if let Some(first) = reserved.take(count) {
                return Ok(first);
            }
            let saved = self.read::<i64>(ID_NEXT).await?;
            let free = saved.unwrap_or(ids::FIRST);
            let end = Reserved::end_of_next(free, count)?;
            if self.advance(ID_NEXT, saved, end).await? {
                reserved.add(free, end);
            }
        }
        Err(AllocatorError::Contended { key: ID_NEXT })
    }

    async fn read<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, AllocatorError> {
        let entry = self.store.get(key).await.map_err(|source| AllocatorError::Store { key, source })?;
        let Some(entry) = entry else { return Ok(None) };
        let value = String::from_utf8_lossy(&entry.value).into_owned();
        value.parse().map(Some).map_err(|_| AllocatorError::NoNumber { key, value })
    }

    /// Writes the key if it still has the value `from`, or is still absent for none.
    async fn advance(
        &self,
        key: &'static str,
        from: Option<impl ToString>,
        to: impl ToString,
    ) -> Result<bool, AllocatorError> {
        let transaction = match from {
            Some(from) => Transaction::new().if_value(key, from.to_string()),
            None => Transaction::new().if_absent(key),
        };
        let outcome = self.store.transact(transaction.put(key, to.to_string())).await;
        outcome.map_err(|source| AllocatorError::Store { key, source })
    }
}

/// The time, in milliseconds since 1970; 0 before.
pub(crate) fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod swaps;

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use plugin_api::{KeyValue, async_trait};
    use proto::store::{Fault, MemoryStore};

    use super::*;

    fn allocator(store: &Arc<MemoryStore>) -> Allocator<MemoryStore> {
        Allocator::new(Arc::clone(store), Arc::default(), milliseconds)
    }

    #[tokio::test]
    async fn restarts_lost_answers_and_rivals_give_nothing_twice() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let store = Arc::new(MemoryStore::default());
        // Two at the same time is more than a fence ever allows.
        let mut pair = [allocator(&store), allocator(&store)];
        let mut ranges = Vec::new();
        for _ in 0..3_000 {
            let which = random.usize(0..2);
            match random.u8(0..30) {
                0 => pair[which] = allocator(&store),
                1 => pair[which].in_hand.reset().await,
                2 => store.fail_next([Fault::Lost]),
                3 => store.fail_next([Fault::Unanswered]),
                _ => {}
            }
            let count = random.u64(1..30_000);
            if let Ok(first) = pair[which].ids(count).await {
                ranges.push((first, first + count as i64));
            }
        }
        assert!(ranges.len() > 2_000);
        ranges.sort_unstable();
        assert!(ranges[0].0 >= ids::FIRST);
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }

    #[tokio::test]
    async fn timestamps_never_go_back_over_restarts_and_lost_answers() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let store = Arc::new(MemoryStore::default());
        let mut one = allocator(&store);
        let mut free = 0;
        for _ in 0..3_000 {
            match random.u8(0..10) {
                0 => one = allocator(&store),
                1 => one.in_hand.reset().await,
                2 => store.fail_next([Fault::Lost]),
                3 => store.fail_next([Fault::Unanswered]),
                // Set back to 1970.
                4 => one = Allocator::new(Arc::clone(&store), Arc::default(), || 0),
                _ => {}
            }
            let count = random.u32(1..=262_144);
            if let Ok(first) = one.timestamps(count).await {
                assert!(first >= free);
                free = first + u64::from(count);
            }
        }
    }

    #[tokio::test]
    async fn a_new_one_begins_above_the_one_before() {
        let store = Arc::new(MemoryStore::default());
        let old = allocator(&store);
        let last = old.timestamps(1).await.unwrap();
        let taken_over = allocator(&store);
        assert!(taken_over.timestamps(1).await.unwrap() > last);
        // The old one had written last; it finds that the other has, too, when it has to save again.
        let far = Allocator::new(Arc::clone(&store), Arc::default(), || 1 << 45);
        let ahead = far.timestamps(1).await.unwrap();
        old.in_hand.reset().await;
        assert!(old.timestamps(1).await.unwrap() > ahead);
    }

    #[tokio::test]
    async fn one_that_has_been_overtaken_goes_on_above_its_rival() {
        let store = Arc::new(MemoryStore::default());
        let old = Allocator::new(Arc::clone(&store), Arc::default(), || 1000);
        old.timestamps(1).await.unwrap();
        let rival = Allocator::new(Arc::clone(&store), Arc::default(), || 1 << 40).timestamps(1).await.unwrap();
        // A whole millisecond each time: until it has used up what it had saved.
        for _ in 0..4_000 {
            old.timestamps(262_144).await.unwrap();
        }
        assert!(old.timestamps(1).await.unwrap() > rival);
    }

    /// Whenever the ids are read, a rival reserves the next thousand before the answer is used; three times.
    struct Raced(MemoryStore, AtomicI64);

    #[async_trait]
    impl Store for Raced {
        async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
            let read = self.0.get(key).await?;
            let round = self.1.fetch_add(1, Ordering::Relaxed);
            if round < 3 {
                let end = 1_000 * (round + 1) + ids::FIRST;
                self.0.transact(Transaction::new().put(key, end.to_string())).await?;
            }
            Ok(read)
        }

        async fn range(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
            self.0.range(prefix).await
        }

        async fn transact(&self, transaction: Transaction) -> Result<bool, Error> {
            self.0.transact(transaction).await
        }
    }

    #[tokio::test]
    async fn ids_that_a_rival_has_just_reserved_are_not_given_out() {
        let store = Arc::new(Raced(MemoryStore::default(), AtomicI64::new(0)));
        let first = Allocator::new(store, Arc::default(), milliseconds).ids(1).await.unwrap();
        assert_eq!(first, 3_000 + ids::FIRST);
    }

    #[tokio::test]
    async fn what_cannot_be_given_out_is_refused() {
        let store = Arc::new(MemoryStore::default());
        let one = allocator(&store);
        assert_eq!(Status::from(one.ids(0).await.unwrap_err()).code(), Code::InvalidArgument);
        assert_eq!(Status::from(one.timestamps(0).await.unwrap_err()).code(), Code::InvalidArgument);
        assert_eq!(Status::from(one.ids(u64::MAX).await.unwrap_err()).code(), Code::ResourceExhausted);
        store.transact(Transaction::new().put(ID_NEXT, "seven")).await.unwrap();
        let error = Status::from(one.ids(1).await.unwrap_err());
        assert_eq!(
            (error.code(), error.message()),
            (Code::DataLoss, "id/next in the metadata is 'seven', which is no number")
        );
    }
}

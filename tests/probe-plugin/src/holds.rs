//! Calls that are held until they are released, and the count of those that were dropped before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::v1;

/// The held calls of one probe.
#[derive(Default)]
pub struct Holds {
    keys: Mutex<HashMap<String, Arc<Notify>>>,
    started: AtomicU64,
    ended: AtomicU64,
    dropped: AtomicU64,
}

impl Holds {
    /// Waits until `key` is released; false at the limit.
    pub async fn hold(&self, key: &str, limit: Option<Duration>) -> bool {
        let release = self.key(key);
        let mut released = std::pin::pin!(release.notified());
        // From here a release counts, also one that comes before the first poll.
        released.as_mut().enable();
        let mut running = Running::begin(self);
        let was_released = match limit {
            Some(limit) => tokio::time::timeout(limit, released).await.is_ok(),
            None => {
                released.await;
                true
            }
        };
        running.answered = true;
        was_released
    }

    /// Lets all calls with this key answer.
    pub fn release(&self, key: &str) {
        self.key(key).notify_waiters();
    }

    /// How many there were and are.
    pub fn count(&self) -> v1::HeldResponse {
        let started = self.started.load(Ordering::SeqCst);
        let dropped = self.dropped.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst);
        v1::HeldResponse { started, running: started - dropped - ended, dropped }
    }

    fn key(&self, key: &str) -> Arc<Notify> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default().clone()
    }
}

/// A call that is held; its drop tells an answer from a cancellation.
struct Running<'a> {
    holds: &'a Holds,
    answered: bool,
}

impl<'a> Running<'a> {
    fn begin(holds: &'a Holds) -> Self {
        holds.started.fetch_add(1, Ordering::SeqCst);
        Self { holds, answered: false }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let count = if self.answered { &self.holds.ended } else { &self.holds.dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

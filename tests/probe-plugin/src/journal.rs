//! The journal: which methods of its life were called, and when.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::v1;

/// Calls in order.
#[derive(Default)]
pub struct Journal {
    calls: Mutex<Vec<v1::LifeCall>>,
}

impl Journal {
    /// Notes a call, here and in the log: what is called last can be read there only.
    pub fn note(&self, method: &str, detail: impl std::fmt::Debug) {
        let detail = format!("{detail:?}");
        tracing::info!(method, detail, "life");
        let call = v1::LifeCall { method: method.to_owned(), detail, at_us: now_us() };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<v1::LifeCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `CLOCK_REALTIME` in microseconds.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `CLOCK_MONOTONIC` in microseconds, to be compared with what other processes of this machine have stamped.
pub fn monotonic_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

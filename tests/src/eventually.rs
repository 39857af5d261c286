//! Waiting with a limit: for a condition, in place of sleeping, and for what may never come.

use std::fmt::Debug;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::process::UNDER;

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `condition` answers `Ok`, and gives what it answered.
///
/// # Panics
///
/// At the limit, with the place of the call and the last `Err`.
#[track_caller]
pub fn eventually<T, E: Debug>(
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let (place, limit) = (Location::caller(), patient(limit));
    async move {
        let begin = Instant::now();
        let mut last = None;
        loop {
            // The condition itself may hang (a stopped process): the limit covers it too.
            let left = limit.saturating_sub(begin.elapsed());
            match tokio::time::timeout(left, condition()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(error)) => last = Some(format!("{error:?}")),
                Err(_) => {}
            }
            assert!(
                begin.elapsed() < limit,
                "{place}: not within {limit:?}; last seen: {}",
                last.as_deref().unwrap_or("no answer")
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What a future gives, if it gives it within the limit.
///
/// # Panics
///
/// At the limit, with the place of the call.
#[track_caller]
pub fn within<T>(limit: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let (place, limit) = (Location::caller(), patient(limit));
    async move {
        let ended = tokio::time::timeout(limit, future).await;
        ended.unwrap_or_else(|_| panic!("{place}: not within {limit:?}"))
    }
}

/// The limit; much more where hosts run under another program, which may interpret each of their instructions.
pub fn patient(limit: Duration) -> Duration {
    if std::env::var_os(UNDER).is_some() { limit * 30 } else { limit }
}

/// `Ok` if it holds; else what was seen, for [`eventually`].
pub fn holds<S: Debug>(condition: bool, seen: S) -> Result<(), S> {
    if condition { Ok(()) } else { Err(seen) }
}

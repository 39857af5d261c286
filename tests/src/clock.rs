//! The clock that all processes of a machine have in common, so that their stamps can be compared.

use std::time::Duration;

/// `CLOCK_MONOTONIC` now.
///
/// # Panics
///
/// Never: the clock does not stand before its own beginning.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).expect("the clock is not before its beginning")
}

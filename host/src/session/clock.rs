//! Time as a lease needs it: `CLOCK_BOOTTIME` goes on while the machine is suspended, as etcd's clock does.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The longest sleep until a moment: timers stand still while the machine is suspended, this clock does not.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A moment, counted from the machine's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootTime(Duration);

impl BootTime {
    /// The present moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Self(Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        ))
    }

    /// The moment so long after the machine's start.
    pub const fn after_boot(time: Duration) -> Self {
        Self(time)
    }

    /// How long after the earlier moment this one is; zero where it is before it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

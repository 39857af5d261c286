//! Hybrid timestamps: 46 bits of milliseconds since 1970, then 18 bits that count within one.
//!
//! A state machine without I/O: the clock is told the time, and says what has to be saved before it can go on. Below what
//! is saved it gives out by itself; a restart begins at what is saved, so nothing is given out twice, nor before what was
//! given out, whatever the system's clock says.

use serde::{Deserialize, Serialize};

/// So many bits count within a millisecond; Milvus' layout.
const LOGICAL_BITS: u32 = 18;

/// All timestamps of one millisecond.
pub(crate) const MAX_COUNT: u32 = 1 << LOGICAL_BITS;

/// The last millisecond that 46 bits hold: in the year 4199.
const MAX_PHYSICAL: u64 = (1 << (64 - LOGICAL_BITS)) - 1;

/// So many milliseconds are saved ahead: one write for each three seconds of use, and at most so far ahead of the time does
/// a restarted clock begin. Milvus' interval.
const AHEAD: u64 = 3_000;

/// The clock. It never goes back. Its fields are part of the state that a swap hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    /// The millisecond of the last timestamp.
    physical: u64,
    /// The first of that millisecond that is free; [`MAX_COUNT`] where none is.
    logical: u32,
    /// All milliseconds below have been saved as given out.
    saved: u64,
}

/// What a clock answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The first of a run of timestamps.
    Given(u64),
    /// This millisecond has to be saved before it can go on: see [`Clock::saved`].
    Save(u64),
}

/// Why no timestamp is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClockError {
    /// None, or more than a millisecond has.
    #[error("count is {0}, it has to be 1 to {MAX_COUNT}")]
    Count(u32),
    /// The end of time.
    #[error("there are no timestamps after millisecond {MAX_PHYSICAL}")]
    Exhausted,
}

impl Clock {
    /// A clock that goes on where one ended that had saved this millisecond; 0 where none has been before.
    pub(crate) fn after(saved: u64) -> Self {
        Self { physical: saved, logical: 0, saved }
    }

    /// Can a clock stand like this? What comes from elsewhere is looked at before it is used.
    pub(crate) fn is_possible(&self) -> bool {
        let Self { physical, logical, saved } = *self;
        let has_begun = physical < saved && logical <= MAX_COUNT;
        (has_begun || (physical == saved && logical == 0)) && saved <= MAX_PHYSICAL + AHEAD
    }

    /// The first of `count` timestamps that follow each other, when the time is `now` milliseconds since 1970.
    pub(crate) fn next(&mut self, now: u64, count: u32) -> Result<Next, ClockError> {
        if count == 0 || count > MAX_COUNT {
            return Err(ClockError::Count(count));
        }
        let (physical, logical) = if now > self.physical {
            (now, 0)
        } else if count <= MAX_COUNT - self.logical {
            (self.physical, self.logical)
        } else {
            (self.physical + 1, 0)
        };
        if physical > MAX_PHYSICAL {
            return Err(ClockError::Exhausted);
        }
        if physical >= self.saved {
            return Ok(Next::Save(physical + AHEAD));
        }
        (self.physical, self.logical) = (physical, logical + count);
        Ok(Next::Given(physical << LOGICAL_BITS | u64::from(logical)))
    }

    /// The millisecond that was saved last; 0 where none was.
    pub(crate) fn saved_until(&self) -> u64 {
        self.saved
    }

    /// What [`Next::Save`] named has been saved.
    pub(crate) fn saved(&mut self, until: u64) {
        self.saved = until;
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the seed of a run that failed")]
mod tests {
    use super::*;

    /// Gives out, and saves where it is asked to.
    fn give(clock: &mut Clock, store: &mut u64, now: u64, count: u32) -> u64 {
        loop {
            match clock.next(now, count).unwrap() {
                Next::Given(first) => return first,
                Next::Save(until) => {
                    *store = until;
                    clock.saved(until);
                }
            }
        }
    }

    #[test]
    fn a_timestamp_is_the_time_and_a_count() {
        let (mut clock, mut store) = (Clock::after(0), 0);
        assert_eq!(give(&mut clock, &mut store, 1000, 2), 1000 << 18);
        assert_eq!(give(&mut clock, &mut store, 1000, 1), 1000 << 18 | 2);
        assert_eq!(give(&mut clock, &mut store, 1001, 1), 1001 << 18);
    }

    #[test]
    fn nothing_is_given_out_before_it_is_saved() {
        let mut clock = Clock::after(500);
        assert_eq!(clock.next(400, 1), Ok(Next::Save(500 + AHEAD)));
        assert_eq!(clock.next(1000, 1), Ok(Next::Save(1000 + AHEAD)));
        clock.saved(1000 + AHEAD);
        assert_eq!(clock.next(1000 + AHEAD - 1, 1), Ok(Next::Given((1000 + AHEAD - 1) << 18)));
        assert_eq!(clock.next(1000 + AHEAD, 1), Ok(Next::Save(1000 + 2 * AHEAD)));
    }

    #[test]
    fn a_full_millisecond_goes_on_in_the_next() {
        let (mut clock, mut store) = (Clock::after(0), 0);
        assert_eq!(give(&mut clock, &mut store, 1000, MAX_COUNT - 1), 1000 << 18);
        assert_eq!(give(&mut clock, &mut store, 1000, 2), 1001 << 18);
        assert_eq!(give(&mut clock, &mut store, 1000, MAX_COUNT), 1002 << 18);
        assert_eq!(give(&mut clock, &mut store, 1000, 1), 1003 << 18);
    }

    #[test]
    fn what_cannot_be_given_out_is_refused() {
        assert_eq!(Clock::after(0).next(1, 0), Err(ClockError::Count(0)));
        assert_eq!(Clock::after(0).next(1, MAX_COUNT + 1), Err(ClockError::Count(MAX_COUNT + 1)));
        assert_eq!(Clock::after(0).next(MAX_PHYSICAL + 1, 1), Err(ClockError::Exhausted));
    }

    #[test]
    fn restarts_and_a_clock_that_jumps_never_go_back() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut store, mut now, mut free) = (0, 1_000_000_u64, 0);
        let mut clock = Clock::after(store);
        for _ in 0..100_000 {
            match random.u8(0..10) {
                0 => clock = Clock::after(store),
                1 => now = now.saturating_sub(random.u64(0..20_000)),
                2..5 => now += random.u64(0..4_000),
                _ => {}
            }
            let count = random.u32(1..=MAX_COUNT);
            let first = give(&mut clock, &mut store, now, count);
            assert!(first >= free, "{first} after {free}");
            free = first + u64::from(count);
        }
    }
}

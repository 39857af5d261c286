//! Ids that have been reserved and are not given out yet.
//!
//! A state machine without I/O: [`crate::allocator`] reserves by compare-and-swap, and puts here what it got.

use serde::{Deserialize, Serialize};

/// So many ids are reserved at least: one write for so many, and a gap of at most so many at a restart.
const BLOCK: u64 = 100_000;

/// The first id of all; 0 means "not said" in messages.
pub(crate) const FIRST: i64 = 1;

/// A range of ids that belongs to this process alone. Its fields are part of the state that a swap hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    next: i64,
    /// The first that is not ours.
    end: i64,
}

/// Why no ids are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdsError {
    /// None.
    #[error("count is 0, it has to be at least 1")]
    NoCount,
    /// 63 bits are used up.
    #[error("there are no {0} ids left")]
    Exhausted(u64),
}

impl Reserved {
    /// Can this be reserved? What comes from elsewhere is looked at before it is used.
    pub(crate) fn is_possible(&self) -> bool {
        *self == Self::default() || (FIRST..=self.end).contains(&self.next)
    }

    /// The first of `count` ids that follow each other, where so many are left.
    pub(crate) fn take(&mut self, count: u64) -> Option<i64> {
        let first = self.next;
        let next = i64::try_from(count).ok().and_then(|count| first.checked_add(count))?;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(first)
    }

    /// The end of the range that has to be reserved for `count` ids where the first free one is `free`.
    pub(crate) fn end_of_next(free: i64, count: u64) -> Result<i64, IdsError> {
        let block = i64::try_from(count.max(BLOCK)).ok();
        block.and_then(|block| free.checked_add(block)).ok_or(IdsError::Exhausted(count))
    }

    /// The ids from `start` up to `end` are ours now. What was left is joined if they follow it, else given up: a gap.
    pub(crate) fn add(&mut self, start: i64, end: i64) {
        if start != self.end || self.next == self.end {
            self.next = start;
        }
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_given_out_once() {
        let mut reserved = Reserved::default();
        assert_eq!(reserved.take(1), None);
        reserved.add(10, 15);
        assert_eq!((reserved.take(2), reserved.take(3), reserved.take(1)), (Some(10), Some(12), None));
    }

    #[test]
    fn a_range_that_follows_is_joined_and_another_replaces_it() {
        let mut reserved = Reserved::default();
        reserved.add(10, 15);
        reserved.add(15, 20);
        assert_eq!(reserved.take(8), Some(10));
        reserved.add(30, 35);
        assert_eq!((reserved.take(3), reserved.take(3)), (Some(30), None));
    }

    #[test]
    fn more_than_there_are_is_refused() {
        assert_eq!(Reserved::end_of_next(1, 5), Ok(1 + BLOCK as i64));
        assert_eq!(Reserved::end_of_next(1, BLOCK + 1), Ok(2 + BLOCK as i64));
        assert_eq!(Reserved::end_of_next(i64::MAX - 5, 1), Err(IdsError::Exhausted(1)));
        assert_eq!(Reserved::end_of_next(1, u64::MAX), Err(IdsError::Exhausted(u64::MAX)));
        assert_eq!(Reserved::default().take(u64::MAX), None);
    }
}

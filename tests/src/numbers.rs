//! Numbers that are given out: none twice, and none behind one whose answer had come before it was asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All that were given out. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    given: Arc<Mutex<Given>>,
}

#[derive(Debug, Default)]
struct Given {
    /// The end of each range by its beginning.
    ranges: BTreeMap<u64, u64>,
    /// The end of the highest.
    end: u64,
}

impl Numbers {
    /// To be asked before each request: what comes may not be below this.
    pub fn floor(&self) -> u64 {
        self.lock().end
    }

    /// Takes a number that was given out.
    ///
    /// # Errors
    ///
    /// It was given out before, or goes back.
    pub fn take(&self, floor: u64, number: u64) -> Result<(), String> {
        self.take_range(floor, number..number + 1)
    }

    /// The same for consecutive numbers.
    ///
    /// # Errors
    ///
    /// As [`Numbers::take`].
    pub fn take_range(&self, floor: u64, range: Range<u64>) -> Result<(), String> {
        if range.start < floor {
            return Err(format!("{range:?} goes back: {floor} was reached before it was asked for"));
        }
        let mut given = self.lock();
        let before = given.ranges.range(..range.end).next_back();
        if let Some((start, end)) = before.filter(|(_, end)| **end > range.start) {
            return Err(format!("{range:?} was given out before, with {start}..{end}"));
        }
        given.end = given.end.max(range.end);
        given.ranges.insert(range.start, range.end);
        Ok(())
    }

    /// How many answers there were.
    pub fn count(&self) -> usize {
        self.lock().ranges.len()
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

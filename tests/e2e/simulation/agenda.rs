//! Simulated time: what is due when. Nothing sleeps.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// A moment, counted from the beginning of the simulation.
pub type Moment = Duration;

/// What is still to happen, earliest first; of the same moment, in the order in which it was noted.
pub struct Agenda<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    noted: u64,
}

struct Entry<T> {
    at: Moment,
    order: u64,
    due: T,
}

impl<T> Agenda<T> {
    pub fn new() -> Self {
        Self { entries: BinaryHeap::new(), noted: 0 }
    }

    pub fn note(&mut self, at: Moment, due: T) {
        self.noted += 1;
        self.entries.push(Reverse(Entry { at, order: self.noted, due }));
    }

    pub fn next(&mut self) -> Option<(Moment, T)> {
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.due))
    }

    pub fn next_at(&self) -> Option<Moment> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

//! The keys that a request means.

use std::ops::Bound;

/// As a map takes them.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It has one key alone.
    Single,
    /// Before this key.
    Before(Vec<u8>),
    /// With the last key that there is.
    Open,
}

/// One key, or those from one key to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first key.
    pub start: Vec<u8>,
    /// The end.
    pub end: End,
}

impl Interval {
    /// As etcd writes it: no `range_end` is the key alone, and `"\0"` all that follow.
    pub fn new(key: Vec<u8>, range_end: Vec<u8>) -> Self {
        let end = match range_end.as_slice() {
            [] => End::Single,
            [0] => End::Open,
            _ => End::Before(range_end),
        };
        Self { start: key, end }
    }

    /// One key.
    pub fn single(key: Vec<u8>) -> Self {
        Self { start: key, end: End::Single }
    }

    /// Does it have this key?
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            End::Open => key >= self.start.as_slice(),
        }
    }

    /// It ends before it begins.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// The bounds of more than one key; there are none where the interval is empty, which a map would not take.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        let end = match &self.end {
            End::Single => return None,
            End::Before(_) if self.is_empty() => return None,
            End::Before(end) => Bound::Excluded(end.as_slice()),
            End::Open => Bound::Unbounded,
        };
        Some((Bound::Included(self.start.as_slice()), end))
    }
}

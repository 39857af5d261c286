//! When a file has a new version that has stopped changing. No clock and no waiting of its own.
//!
//! Told by what `stat` says, again and again: that works on every file system, also over a network, and when a directory on
//! the way is exchanged, where notices of the kernel fall silent.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// A file that was the same for so long is written: whoever builds writes it in one go, and a longer rest in between is
/// found out by the file being cut short.
const SETTLED: Duration = Duration::from_millis(200);

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also where somebody sets the time of the modification back, as `cp --preserve` does.
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// One file, as it was seen so far.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The version that is there, and since when it was seen.
    there: Option<(Stamp, Instant)>,
    /// The last version that was told.
    told: Option<Stamp>,
}

impl Settling {
    /// The file as it is now; `None` where there is none, which is no change: it was unlinked to be written anew. Says once
    /// of each version, the first among them, that it is there and stays.
    pub fn settles(&mut self, now: Instant, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return false };
        let since = match self.there {
            Some((there, since)) if there == stamp => since,
            _ => {
                self.there = Some((stamp, now));
                now
            }
        };
        let settles = self.told != Some(stamp) && now.duration_since(since) >= SETTLED;
        if settles {
            self.told = Some(stamp);
        }
        settles
    }

    /// The version that was told is to be told once more.
    pub fn forget(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, size: u64) -> Option<Stamp> {
        Some(Stamp { device: 1, inode, size, modified: (0, 0), changed: (0, 0) })
    }

    /// When, in steps of 100 ms, a file that is seen like this settles.
    fn told(seen: &[Option<Stamp>]) -> Vec<usize> {
        let (mut settling, begin) = (Settling::default(), Instant::now());
        let at = |step: usize| begin + Duration::from_millis(100) * u32::try_from(step).expect("few steps");
        (0..seen.len()).filter(|step| settling.settles(at(*step), seen[*step])).collect()
    }

    #[test]
    fn a_version_is_told_once_when_it_has_stayed() {
        let (one, other) = (stamp(1, 5), stamp(2, 5));
        assert_eq!(told(&[one; 9]), [2]);
        assert_eq!(told(&[one, one, one, other, other, other, other]), [2, 5]);
    }

    #[test]
    fn what_grows_is_not_told_until_it_stays() {
        let grows = [stamp(1, 1), stamp(1, 2), stamp(1, 3), stamp(1, 4), stamp(1, 4), stamp(1, 4)];
        assert_eq!(told(&grows), [5]);
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_has_not_changed() {
        let one = stamp(1, 5);
        assert_eq!(told(&[one, one, one, None, None, one, one, one, one]), [2], "the same comes back");
        assert_eq!(told(&[one, one, one, None, None, None, None]), [2]);
        assert_eq!(told(&[one, one, one, None, stamp(2, 5), stamp(2, 5), stamp(2, 5)]), [2, 6]);
    }

    #[test]
    fn what_was_forgotten_is_told_again() {
        let (mut settling, begin) = (Settling::default(), Instant::now());
        assert!(!settling.settles(begin, stamp(1, 5)) && settling.settles(begin + SETTLED, stamp(1, 5)));
        settling.forget();
        assert!(settling.settles(begin + SETTLED, stamp(1, 5)));
    }
}

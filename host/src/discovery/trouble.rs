//! What is said of a watch that breaks, without I/O: the first time at once, then seldom, and that it follows again.
//!
//! With etcd away each watch of each host breaks about once a second, for as long as that lasts.

use std::time::{Duration, Instant};

/// How often it is said that a watch is still broken.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// The trouble that a watch is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    began: Option<Instant>,
    /// This trouble was told, so that its end is to be told, too.
    told: bool,
    /// When the last one was told.
    said: Option<Instant>,
    /// How often the watch broke since the end of one was told.
    failures: u32,
}

/// The end of a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// How long it lasted.
    pub lasted: Duration,
    /// How often the watch broke.
    pub failures: u32,
}

impl Trouble {
    /// The watch broke. Says how often it has by now, where that is to be told.
    pub fn broke(&mut self, now: Instant) -> Option<u32> {
        self.began.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        if self.said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        self.told = true;
        Some(self.failures)
    }

    /// etcd has told something. Says what is over, where its begin was told.
    pub fn follows(&mut self, now: Instant) -> Option<Over> {
        let began = self.began.take()?;
        let told = std::mem::take(&mut self.told);
        told.then(|| Over { lasted: now.duration_since(began), failures: std::mem::take(&mut self.failures) })
    }

    /// Is it broken now?
    pub fn is_there(&self) -> bool {
        self.began.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_break_is_told_at_once_then_seldom_and_the_end() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        let told: Vec<_> = (0..12).map(|second| trouble.broke(begin + Duration::from_secs(second))).collect();
        let (first, sixth, eleventh) = (told[0], told[5], told[10]);
        assert_eq!([first, sixth, eleventh], [Some(1), Some(6), Some(11)]);
        assert_eq!(told.iter().flatten().count(), 3);
        let end = begin + Duration::from_secs(12);
        assert_eq!(trouble.follows(end), Some(Over { lasted: Duration::from_secs(12), failures: 12 }));
        assert_eq!(trouble.follows(end), None);
        assert_eq!(trouble.broke(end), None, "one that breaks again and again is no news");
        assert_eq!(trouble.follows(end), None);
        assert_eq!(trouble.broke(end + SAID_EVERY), Some(2));
    }
}

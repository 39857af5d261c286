//! What is said of something that fails again and again, without I/O: the first time at once, then seldom, and that it works
//! again.
//!
//! Leaf module. With etcd away each watch and each session of each host fails about once a second, for as long as that lasts.

use std::time::{Duration, Instant};

/// How often it is said that it still fails.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// The trouble that something is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    began: Option<Instant>,
    /// This trouble was told, so that its end is to be told, too.
    told: bool,
    /// When the last one was told.
    said: Option<Instant>,
    /// How often it failed since the end of one was told.
    failures: u32,
}

/// The end of a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// How long it lasted.
    pub lasted: Duration,
    /// How often it failed.
    pub failures: u32,
}

impl Trouble {
    /// It failed. Says how often it has by now, where that is to be told.
    pub fn failed(&mut self, now: Instant) -> Option<u32> {
        self.began.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        if self.said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        self.told = true;
        Some(self.failures)
    }

    /// It works. Says what is over, where its begin was told.
    pub fn works(&mut self, now: Instant) -> Option<Over> {
        let began = self.began.take()?;
        let told = std::mem::take(&mut self.told);
        told.then(|| Over { lasted: now.duration_since(began), failures: std::mem::take(&mut self.failures) })
    }

    /// Does it fail now?
    pub fn is_there(&self) -> bool {
        self.began.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_at_once_then_seldom_and_the_end() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        let told: Vec<_> = (0..12).map(|second| trouble.failed(begin + Duration::from_secs(second))).collect();
        let (first, sixth, eleventh) = (told[0], told[5], told[10]);
        assert_eq!([first, sixth, eleventh], [Some(1), Some(6), Some(11)]);
        assert_eq!(told.iter().flatten().count(), 3);
        let end = begin + Duration::from_secs(12);
        assert_eq!(trouble.works(end), Some(Over { lasted: Duration::from_secs(12), failures: 12 }));
        assert_eq!(trouble.works(end), None);
        assert_eq!(trouble.failed(end), None, "what fails again and again is no news");
        assert_eq!(trouble.works(end), None);
        assert_eq!(trouble.failed(end + SAID_EVERY), Some(2));
    }
}

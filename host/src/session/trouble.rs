//! What is worth a line of the log while etcd is away: the first failure, then one line every few seconds with the count, and
//! one when it works again.

use std::time::Duration;

use crate::session::clock::BootTime;

/// How often failures are told of, after the first.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Failures since it last worked.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    began: Option<BootTime>,
    told_at: BootTime,
    failures: u64,
}

impl Trouble {
    /// A failure. Where it is worth a line: how many there were since it last worked, this one among them.
    pub(super) fn failed(&mut self, now: BootTime) -> Option<u64> {
        self.failures += 1;
        let first = self.began.is_none();
        self.began.get_or_insert(now);
        if !first && now.since(self.told_at) < TELL_EVERY {
            return None;
        }
        self.told_at = now;
        Some(self.failures)
    }

    /// It works. Where it did not before: how long, and with how many failures.
    pub(super) fn works(&mut self, now: BootTime) -> Option<(Duration, u64)> {
        let began = self.began.take()?;
        Some((now.since(began), std::mem::take(&mut self.failures)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::after_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_failure_is_told_then_one_every_few_seconds() {
        let mut trouble = Trouble::default();
        let told: Vec<_> = (100..112).map(|second| trouble.failed(at(second))).collect();
        let expected = [Some(1), None, None, None, None, Some(6), None, None, None, None, Some(11), None];
        assert_eq!(told, expected);
    }

    #[test]
    fn its_end_is_told_once_and_the_next_failure_at_once() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.works(at(99)), None);
        trouble.failed(at(100));
        trouble.failed(at(101));
        assert_eq!(trouble.works(at(103)), Some((Duration::from_secs(3), 2)));
        assert_eq!(trouble.works(at(103)), None);
        assert_eq!(trouble.failed(at(104)), Some(1));
    }
}

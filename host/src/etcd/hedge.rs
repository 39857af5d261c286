//! When a request that one member does not answer is asked of another one too. Pure: times are counted from the first one.

use std::time::Duration;

/// One request that is asked of one member after another until the first answers.
#[derive(Debug)]
pub(super) struct Hedge {
    after: Duration,
    limit: Duration,
    most: usize,
    asked: usize,
    failed: usize,
    /// When the next one is asked unless an answer has come.
    due: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next member is asked, in addition.
    Ask,
    /// Answers are awaited, until this time at most.
    Wait(Duration),
    /// No answer will come, or none in time.
    GiveUp,
}

impl Hedge {
    /// A further member is asked `after` each, `most` in all; `limit` bounds the whole.
    pub(super) fn new(after: Duration, limit: Duration, most: usize) -> Self {
        Self { after, limit, most, asked: 0, failed: 0, due: Duration::ZERO }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked > 0
    }

    pub(super) fn next(&self, now: Duration) -> Next {
        let all_asked = self.asked >= self.most;
        if now >= self.limit || all_asked && self.failed >= self.asked {
            Next::GiveUp
        } else if all_asked {
            Next::Wait(self.limit)
        } else if now >= self.due {
            Next::Ask
        } else {
            Next::Wait(self.due.min(self.limit))
        }
    }

    /// One more was asked.
    pub(super) fn asked(&mut self, now: Duration) {
        self.asked += 1;
        self.due = now.saturating_add(self.after);
    }

    /// One of those that were asked cannot answer: there is nothing to wait for.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failed += 1;
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What is asked by `until` where nobody answers, each with its time.
    fn asked(hedge: &mut Hedge, until: u64) -> Vec<u64> {
        let mut asked = Vec::new();
        for now in 0..=until {
            while hedge.next(ms(now)) == Next::Ask {
                hedge.asked(ms(now));
                asked.push(now);
            }
        }
        asked
    }

    #[test]
    fn one_more_member_is_asked_each_time() {
        let mut hedge = Hedge::new(ms(10), ms(100), 3);
        assert_eq!(asked(&mut hedge, 99), [0, 10, 20]);
        assert_eq!(hedge.next(ms(99)), Next::Wait(ms(100)));
        assert_eq!(hedge.next(ms(100)), Next::GiveUp);
    }

    #[test]
    fn a_member_that_fails_is_not_waited_for() {
        let mut hedge = Hedge::new(ms(10), ms(100), 2);
        hedge.asked(ms(0));
        assert_eq!(hedge.next(ms(1)), Next::Wait(ms(10)));
        hedge.failed(ms(1));
        assert_eq!(hedge.next(ms(1)), Next::Ask);
        hedge.asked(ms(1));
        assert_eq!(hedge.next(ms(1)), Next::Wait(ms(100)));
        hedge.failed(ms(2));
        assert_eq!(hedge.next(ms(2)), Next::GiveUp);
    }

    #[test]
    fn the_one_that_is_left_is_waited_for_when_others_fail() {
        let mut hedge = Hedge::new(ms(10), ms(100), 2);
        assert_eq!(asked(&mut hedge, 10), [0, 10]);
        hedge.failed(ms(11));
        assert_eq!(hedge.next(ms(11)), Next::Wait(ms(100)));
    }

    #[test]
    fn the_limit_bounds_the_whole() {
        let hedge = Hedge::new(ms(200), ms(100), 2);
        assert_eq!(hedge.next(ms(100)), Next::GiveUp);
        let mut hedge = Hedge::new(ms(200), ms(100), 2);
        hedge.asked(ms(0));
        assert_eq!(hedge.next(ms(1)), Next::Wait(ms(100)));
    }
}

//! When a request that one member does not answer is asked of another one too. Pure: times are counted from the first one.

use std::time::Duration;

/// One request that is asked of one member after another, round and round, until the first answers.
#[derive(Debug)]
pub(super) struct Hedge {
    after: Duration,
    limit: Duration,
    members: usize,
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
    /// The second of so many members is asked `after` the first, each further one after half of that; `limit` bounds the
    /// whole.
    pub(super) fn new(after: Duration, limit: Duration, members: usize) -> Self {
        Self { after, limit, members: members.max(1), asked: 0, failed: 0, due: Duration::ZERO }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked > 0
    }

    pub(super) fn next(&self, now: Duration) -> Next {
        if now >= self.limit || self.is_round_over() && self.failed >= self.asked {
            Next::GiveUp
        } else if now >= self.due {
            Next::Ask
        } else {
            Next::Wait(self.due.min(self.limit))
        }
    }

    /// One more was asked.
    pub(super) fn asked(&mut self, now: Duration) {
        self.asked += 1;
        self.due = now.saturating_add(if self.asked == 1 { self.after } else { self.after / 2 });
    }

    /// One of those that were asked cannot answer: there is nothing to wait for, as long as another may do better. Members
    /// without a leader all fail at once: they are asked again when they had time to elect one.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failed += 1;
        if !self.is_round_over() {
            self.due = now;
        }
    }

    /// All were asked, the first by a second connection too: a connection may be dead without its member.
    fn is_round_over(&self) -> bool {
        self.asked > self.members
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
    fn one_more_member_is_asked_each_time_until_the_limit() {
        let mut hedge = Hedge::new(ms(20), ms(70), 3);
        assert_eq!(asked(&mut hedge, 69), [0, 20, 30, 40, 50, 60]);
        assert_eq!(hedge.next(ms(69)), Next::Wait(ms(70)));
        assert_eq!(hedge.next(ms(70)), Next::GiveUp);
    }

    #[test]
    fn a_member_that_fails_is_not_waited_for() {
        let mut hedge = Hedge::new(ms(10), ms(100), 1);
        hedge.asked(ms(0));
        assert_eq!(hedge.next(ms(1)), Next::Wait(ms(10)));
        hedge.failed(ms(1));
        assert_eq!(hedge.next(ms(1)), Next::Ask, "by a new connection");
        hedge.asked(ms(1));
        hedge.failed(ms(2));
        assert_eq!(hedge.next(ms(2)), Next::GiveUp, "nobody is left");
    }

    #[test]
    fn members_that_all_fail_at_once_are_asked_again_while_one_is_silent() {
        let mut hedge = Hedge::new(ms(20), ms(100), 3);
        // The first is silent; the others have no leader yet.
        assert_eq!(asked(&mut hedge, 20), [0, 20]);
        for now in [21, 22] {
            hedge.failed(ms(now));
            assert_eq!(hedge.next(ms(now)), Next::Ask);
            hedge.asked(ms(now));
        }
        assert_eq!(hedge.next(ms(22)), Next::Wait(ms(32)), "all were asked");
        assert_eq!(asked(&mut hedge, 32), [32]);
        hedge.failed(ms(33));
        assert_eq!(hedge.next(ms(33)), Next::Wait(ms(42)), "at its pace from then on");
        assert_eq!(hedge.next(ms(42)), Next::Ask);
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

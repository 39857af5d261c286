//! What was asked over one stream and has not been answered yet. Pure: moments come from outside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Who asked for which lease, and when, in the order in which it was sent.
#[derive(Debug)]
pub(super) struct Unanswered<A>(VecDeque<Ask<A>>);

#[derive(Debug)]
struct Ask<A> {
    lease_id: i64,
    sent: Instant,
    asker: A,
}

impl<A> Unanswered<A> {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn asked(&mut self, lease_id: i64, asker: A, now: Instant) {
        self.0.push_back(Ask { lease_id, sent: now, asker });
    }

    /// An answer for that lease has come: who gets it. etcd answers the requests of one lease in their order.
    pub(super) fn answered(&mut self, lease_id: i64) -> Option<A> {
        let index = self.0.iter().position(|ask| ask.lease_id == lease_id)?;
        self.0.remove(index).map(|ask| ask.asker)
    }

    /// Has one waited for so long? Then whatever is asked after it waits behind it, whoever asks and whoever has given up
    /// waiting since.
    pub(super) fn is_stuck(&self, longest: Duration, now: Instant) -> bool {
        self.0.front().is_some_and(|oldest| now.saturating_duration_since(oldest.sent) >= longest)
    }

    /// All that wait; nobody does any more.
    pub(super) fn take(&mut self) -> impl Iterator<Item = A> + use<A> {
        std::mem::take(&mut self.0).into_iter().map(|ask| ask.asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(10);

    #[test]
    fn an_answer_is_for_the_first_who_asked_for_that_lease() {
        let (mut unanswered, now) = (Unanswered::new(), Instant::now());
        for (lease_id, asker) in [(5, "a"), (6, "b"), (5, "c")] {
            unanswered.asked(lease_id, asker, now);
        }
        assert_eq!([5, 5, 5, 7].map(|lease_id| unanswered.answered(lease_id)), [Some("a"), Some("c"), None, None]);
        assert_eq!(unanswered.take().collect::<Vec<_>>(), ["b"]);
        assert_eq!(unanswered.take().count(), 0);
    }

    #[test]
    fn the_oldest_tells_whether_the_stream_is_stuck() {
        let (mut unanswered, begin) = (Unanswered::new(), Instant::now());
        assert!(!unanswered.is_stuck(Duration::ZERO, begin), "nobody waits");
        unanswered.asked(5, "a", begin);
        unanswered.asked(6, "b", begin + LONGEST / 2);
        assert!(!unanswered.is_stuck(LONGEST, begin + LONGEST / 2));
        assert!(unanswered.is_stuck(LONGEST, begin + LONGEST));
        unanswered.answered(5);
        assert!(!unanswered.is_stuck(LONGEST, begin + LONGEST), "the next one waits for half of it only");
    }
}

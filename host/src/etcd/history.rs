//! Whether etcd is still the one that we knew: a cluster that comes back without its data has another id, or a revision that
//! went backwards.
//!
//! Pure: it is told of answers, and counts losses. What then has to be done (ids raised, sessions registered again) is done by
//! whoever follows [`History`].

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

/// What is known of the cluster's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The cluster's id as its last answer had it; 0 before the first.
    pub cluster_id: u64,
    /// How often etcd came back without the data that it had.
    pub losses: u64,
    /// What showed it the last time.
    pub last_loss: Option<String>,
}

/// What was known when a request was sent. Only this can be compared with its answer: what others learn while it is on its
/// way may be younger than what it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    losses: u64,
    revision: i64,
}

/// The cluster's history, as linearizable answers tell it.
pub(super) struct Chronicle {
    latest: Mutex<Latest>,
    history: watch::Sender<History>,
}

#[derive(Default)]
struct Latest {
    cluster_id: u64,
    losses: u64,
    /// The highest revision of any answer since the last loss.
    revision: i64,
}

impl Chronicle {
    pub(super) fn new() -> Self {
        Self { latest: Mutex::default(), history: watch::Sender::default() }
    }

    pub(super) fn history(&self) -> watch::Receiver<History> {
        self.history.subscribe()
    }

    /// What is known now, before a request is sent.
    pub(super) fn known(&self) -> Known {
        let latest = self.lock();
        Known { losses: latest.losses, revision: latest.revision }
    }

    /// Takes the header of the answer to a linearizable request that was sent when so much was `known`.
    pub(super) fn answered(&self, known: Known, cluster_id: u64, revision: i64) {
        let mut latest = self.lock();
        if known.losses != latest.losses {
            // Sent before a loss that others have found: it may be an answer of the lost cluster, or tell of the same loss.
            return;
        }
        if let Some(loss) = latest.loss(known, cluster_id, revision) {
            let losses = latest.losses + 1;
            tracing::error!(loss, losses, "etcd has lost its data: it is not the cluster that it was");
            *latest = Latest { cluster_id, losses, revision };
            self.history.send_replace(History { cluster_id, losses, last_loss: Some(loss) });
            return;
        }
        latest.revision = latest.revision.max(revision);
        if latest.cluster_id == 0 {
            latest.cluster_id = cluster_id;
            self.history.send_modify(|history| history.cluster_id = cluster_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().expect("nothing panics while it holds the lock")
    }
}

impl Latest {
    /// What shows that the answer is of another history.
    fn loss(&self, known: Known, cluster_id: u64, revision: i64) -> Option<String> {
        if self.cluster_id != 0 && self.cluster_id != cluster_id {
            return Some(format!("its cluster id was {:x}, and is {cluster_id:x} now", self.cluster_id));
        }
        (revision < known.revision)
            .then(|| format!("its revision went backwards, from {} to {revision}", known.revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chronicle of cluster 1 at this revision.
    fn at(revision: i64) -> Chronicle {
        let chronicle = Chronicle::new();
        chronicle.answered(chronicle.known(), 1, revision);
        chronicle
    }

    fn losses(chronicle: &Chronicle) -> u64 {
        chronicle.history().borrow().losses
    }

    #[test]
    fn a_history_that_goes_on_is_no_loss() {
        let chronicle = at(7);
        for revision in [7, 8, 8, 20] {
            chronicle.answered(chronicle.known(), 1, revision);
        }
        assert_eq!(*chronicle.history().borrow(), History { cluster_id: 1, losses: 0, last_loss: None });
    }

    #[test]
    fn another_cluster_is_a_loss_and_is_told_once() {
        let chronicle = at(7);
        let mut history = chronicle.history();
        history.mark_unchanged();
        chronicle.answered(chronicle.known(), 2, 9);
        assert!(history.has_changed().expect("it is published"));
        assert_eq!(history.borrow_and_update().losses, 1);
        chronicle.answered(chronicle.known(), 2, 9);
        assert_eq!(losses(&chronicle), 1);
    }

    #[test]
    fn a_revision_that_went_backwards_is_a_loss() {
        let chronicle = at(7);
        chronicle.answered(chronicle.known(), 1, 6);
        let text = chronicle.history().borrow().last_loss.clone().expect("a loss");
        assert_eq!(text, "its revision went backwards, from 7 to 6");
        // From here on the new revision counts.
        chronicle.answered(chronicle.known(), 1, 6);
        assert_eq!(losses(&chronicle), 1);
    }

    #[test]
    fn an_answer_is_compared_with_what_was_known_when_it_was_asked_for() {
        let chronicle = at(7);
        let known = chronicle.known();
        chronicle.answered(chronicle.known(), 1, 9);
        chronicle.answered(known, 1, 8);
        assert_eq!(losses(&chronicle), 0);
    }

    #[test]
    fn answers_of_before_a_loss_do_not_count_after_it() {
        let chronicle = at(7);
        let (late, another) = (chronicle.known(), chronicle.known());
        chronicle.answered(chronicle.known(), 2, 3);
        chronicle.answered(late, 1, 8);
        chronicle.answered(another, 2, 3);
        assert_eq!(losses(&chronicle), 1);
        assert_eq!(chronicle.known(), Known { losses: 1, revision: 3 });
    }
}

//! Is the table what etcd has? Looked at now and then, without I/O: lists and the table's keys come in, differences go out.
//!
//! A watch can lose an event, through faults of etcd's own (#15220, #15271, #17529, #18089, #19179, #20221): nothing else would ever
//! notice. A list and the table are never of the same moment: the watch may lag behind the list, or run ahead of it. So a
//! key that differs is only noted, and looked at again in a second list, after the watch had its chance. It counts where
//! nothing has moved in between: etcd has of the key what it had, the table has what it had, and they still differ. A key
//! that moves is being told of, and is left for the next time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::SessionKey;
use crate::etcd::watch::resume::Moment;

/// How much of the time between two looks is left to chance, so that the hosts of a cluster do not all look at once.
const JITTER: f64 = 0.2;

/// Keys with the revision of their last change.
pub type Revisions = BTreeMap<SessionKey, i64>;

/// A key of which etcd and the table have not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: SessionKey,
    /// Its last change in etcd; none where it is not there.
    pub in_etcd: Option<i64>,
    /// Its last change as the table has it; none where it is not there.
    pub in_table: Option<i64>,
}

/// When to list, and what it says.
#[derive(Clone, Debug)]
pub struct Reconcile {
    every: Duration,
    grace: Duration,
    due: Instant,
    /// What differed in the first list, where a second is due.
    noted: Vec<Difference>,
}

impl Reconcile {
    /// The first look is due after about `every`; a difference is looked at again after `grace`.
    pub fn new(every: Duration, grace: Duration, at: Moment) -> Self {
        Self { every, grace, due: at.now + jittered(every, at.chance), noted: Vec::new() }
    }

    /// When all keys are to be listed, for [`Reconcile::compare`].
    pub fn due(&self) -> Instant {
        self.due
    }

    /// There is no list, or no watch to compare with: what was noted is void. The next look is no later for it.
    pub fn abandon(&mut self, now: Instant) {
        self.noted.clear();
        self.due = self.due.max(now + self.grace);
    }

    /// A list came. Returns what is wrong with the table, for certain; empty: nothing, or nothing yet.
    pub fn compare(&mut self, etcd: &Revisions, table: &Revisions, at: Moment) -> Vec<Difference> {
        let differ = differences(etcd, table);
        let noted = std::mem::take(&mut self.noted);
        let is_second = !noted.is_empty();
        self.due = at.now + jittered(self.every, at.chance);
        if is_second {
            return differ.into_iter().filter(|difference| noted.contains(difference)).collect();
        }
        if !differ.is_empty() {
            self.noted = differ;
            self.due = at.now + self.grace;
        }
        Vec::new()
    }
}

fn differences(etcd: &Revisions, table: &Revisions) -> Vec<Difference> {
    let difference =
        |key: &SessionKey| Difference { key: *key, in_etcd: etcd.get(key).copied(), in_table: table.get(key).copied() };
    let not_in_etcd = table.keys().filter(|key| !etcd.contains_key(key));
    let all = etcd.keys().chain(not_in_etcd).map(difference);
    all.filter(|difference| difference.in_etcd != difference.in_table).collect()
}

fn jittered(every: Duration, chance: f64) -> Duration {
    every.mul_f64(1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0))
}

#[cfg(test)]
mod tests {
    use plugin_api::identity::ServerId;

    use super::*;

    const EVERY: Duration = Duration::from_secs(300);
    const GRACE: Duration = Duration::from_secs(8);

    fn at(now: Instant) -> Moment {
        Moment { now, chance: 0.5 }
    }

    fn keys(keys: &[(i64, i64)]) -> Revisions {
        keys.iter().map(|(id, revision)| (SessionKey::Member(ServerId(*id)), *revision)).collect()
    }

    /// Two lists, each with the table at that time.
    fn look(first: [&[(i64, i64)]; 2], second: [&[(i64, i64)]; 2]) -> Vec<(i64, Option<i64>, Option<i64>)> {
        let now = Instant::now();
        let mut reconcile = Reconcile::new(EVERY, GRACE, at(now));
        assert_eq!(reconcile.compare(&keys(first[0]), &keys(first[1]), at(now)), []);
        let found = reconcile.compare(&keys(second[0]), &keys(second[1]), at(now));
        assert_eq!(reconcile.due(), now + EVERY, "whatever it found, it is done");
        let plain = |found: Difference| match found.key {
            SessionKey::Member(id) => (id.0, found.in_etcd, found.in_table),
            SessionKey::Active => (0, found.in_etcd, found.in_table),
        };
        found.into_iter().map(plain).collect()
    }

    #[test]
    fn a_missed_put_is_found() {
        assert_eq!(look([&[(1, 5), (2, 6)], &[(1, 5)]], [&[(1, 5), (2, 6)], &[(1, 5)]]), [(2, Some(6), None)]);
        assert_eq!(look([&[(1, 9)], &[(1, 5)]], [&[(1, 9)], &[(1, 5)]]), [(1, Some(9), Some(5))]);
    }

    #[test]
    fn a_missed_delete_is_found() {
        assert_eq!(look([&[(1, 5)], &[(1, 5), (2, 6)]], [&[(1, 5)], &[(1, 5), (2, 6)]]), [(2, None, Some(6))]);
    }

    #[test]
    fn a_watch_that_lags_behind_is_no_difference() {
        assert_eq!(look([&[(1, 5), (2, 6)], &[(1, 5)]], [&[(1, 5), (2, 6)], &[(1, 5), (2, 6)]]), []);
        assert_eq!(look([&[(1, 5)], &[(1, 5), (2, 6)]], [&[(1, 5)], &[(1, 5)]]), [], "nor is a late delete");
    }

    #[test]
    fn a_watch_that_runs_ahead_is_no_difference() {
        assert_eq!(look([&[(1, 5)], &[(1, 5), (2, 6)]], [&[(1, 5), (2, 6)], &[(1, 5), (2, 6)]]), []);
        assert_eq!(look([&[(1, 5), (2, 6)], &[(1, 5)]], [&[(1, 5)], &[(1, 5)]]), [], "nor is an early delete");
    }

    #[test]
    fn a_key_that_moves_all_the_time_is_no_difference() {
        assert_eq!(look([&[(1, 9)], &[(1, 8)]], [&[(1, 19)], &[(1, 18)]]), []);
        assert_eq!(look([&[(1, 9)], &[(1, 8)]], [&[(1, 9)], &[(1, 7)]]), []);
        assert_eq!(look([&[(1, 9)], &[]], [&[(1, 12)], &[]]), []);
    }

    #[test]
    fn a_second_list_comes_only_where_the_first_differs() {
        let now = Instant::now();
        let mut reconcile = Reconcile::new(EVERY, GRACE, at(now));
        assert_eq!(reconcile.due(), now + EVERY);
        reconcile.compare(&keys(&[(1, 5)]), &keys(&[(1, 5)]), at(now));
        assert_eq!(reconcile.due(), now + EVERY);
        reconcile.compare(&keys(&[(1, 5)]), &keys(&[]), at(now));
        assert_eq!(reconcile.due(), now + GRACE);
    }

    #[test]
    fn what_was_noted_before_a_break_is_void() {
        let now = Instant::now();
        let mut reconcile = Reconcile::new(EVERY, GRACE, at(now));
        let (etcd, table) = (keys(&[(1, 5)]), keys(&[]));
        reconcile.compare(&etcd, &table, at(now));
        let broke = now + GRACE / 2;
        reconcile.abandon(broke);
        assert_eq!(reconcile.due(), broke + GRACE);
        assert_eq!(reconcile.compare(&etcd, &table, at(now)), [], "this one is the first again");
    }

    #[test]
    fn breaks_put_off_no_look() {
        let now = Instant::now();
        let mut reconcile = Reconcile::new(EVERY, GRACE, at(now));
        reconcile.abandon(now + EVERY / 2);
        assert_eq!(reconcile.due(), now + EVERY);
    }

    #[test]
    fn hosts_look_at_different_times() {
        let now = Instant::now();
        let due = |chance| Reconcile::new(EVERY, GRACE, Moment { now, chance }).due().duration_since(now).as_secs();
        assert_eq!([due(0.0), due(0.5), due(1.0)], [240, 300, 360]);
    }
}

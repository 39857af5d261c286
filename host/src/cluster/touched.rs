//! Which sessions have changed from one table to the next, so that a reader need not compare them all.
//!
//! Tables share the list: a table's own is the one before with the new ones in front. A reader that missed more tables than
//! are remembered, or that comes from elsewhere, is told so, and compares everything.

use plugin_api::identity::ServerId;
use rpds::ListSync;

/// How many changes are remembered; between once and twice as many are kept.
const REMEMBERED: usize = 512;

/// The sessions that changed lately, and the number of the table that has them changed.
#[derive(Clone, Debug)]
pub struct Touched {
    /// The number of this table.
    number: u64,
    /// Newest first, with the number of the table that changed it.
    latest: ListSync<(u64, ServerId)>,
    length: usize,
    /// What was changed by tables after this one is remembered.
    since: u64,
}

impl Default for Touched {
    fn default() -> Self {
        Self { number: 0, latest: ListSync::new_sync(), length: 0, since: 0 }
    }
}

impl Touched {
    /// The number of the table: one more than that of the table before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next table begins: what is pushed from now on is its own.
    pub fn begin(&mut self) {
        self.number += 1;
        if self.length >= 2 * REMEMBERED {
            let kept: Vec<_> = self.latest.iter().take(REMEMBERED).copied().collect();
            // Of the oldest kept table some may be forgotten.
            self.since = kept.last().map_or(self.number, |(number, _)| *number);
            self.latest = kept.into_iter().rev().fold(ListSync::new_sync(), |list, one| list.push_front(one));
            self.length = REMEMBERED;
        }
    }

    /// This session is another than in the table before, or came, or went.
    pub fn push(&mut self, server_id: ServerId) {
        if self.since == self.number {
            return;
        }
        self.latest.push_front_mut((self.number, server_id));
        self.length += 1;
        if self.length > 3 * REMEMBERED {
            // A table with so many changes, such as the first, is compared as a whole: to remember them costs more.
            *self = Self { number: self.number, since: self.number, ..Self::default() };
        }
    }

    /// What has changed since an earlier table, each as often as it changed, the last first; none where that is not
    /// remembered.
    pub fn since(&self, earlier: &Self) -> Option<impl Iterator<Item = ServerId>> {
        let after = earlier.number;
        let known = after >= self.since && after <= self.number;
        known.then(|| self.latest.iter().take_while(move |(number, _)| *number > after).map(|(_, id)| *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(now: &Touched, earlier: &Touched) -> Option<Vec<i64>> {
        now.since(earlier).map(|ids| ids.map(|id| id.0).collect())
    }

    #[test]
    fn what_changed_since_an_earlier_table_is_told() {
        let mut now = Touched::default();
        let first = now.clone();
        now.begin();
        now.push(ServerId(1));
        let second = now.clone();
        now.begin();
        now.push(ServerId(2));
        now.push(ServerId(3));
        assert_eq!(changed(&now, &first), Some(vec![3, 2, 1]));
        assert_eq!(changed(&now, &second), Some(vec![3, 2]));
        assert_eq!(changed(&now, &now), Some(vec![]));
        assert_eq!(changed(&first, &now), None, "that one is of another history");
    }

    #[test]
    fn what_is_forgotten_is_not_told_by_halves() {
        let mut now = Touched::default();
        let mut tables = vec![now.clone()];
        for id in 1..=4000 {
            now.begin();
            now.push(ServerId(id));
            now.push(ServerId(-id));
            tables.push(now.clone());
            assert!(now.length <= 2 * REMEMBERED + 2 && now.length == now.latest.len(), "{}", now.length);
        }
        let mut told = 0;
        for earlier in &tables {
            let Some(ids) = changed(&now, earlier) else { continue };
            let missed = i64::try_from(now.number() - earlier.number()).expect("few");
            assert_eq!(ids.len(), usize::try_from(missed * 2).expect("few"));
            told += 1;
        }
        assert!((REMEMBERED / 2 - 1..=REMEMBERED + 1).contains(&told), "{told}");
    }

    #[test]
    fn a_table_with_very_many_changes_is_compared_as_a_whole() {
        let first = Touched::default();
        let mut now = first.clone();
        now.begin();
        (0..10_000).for_each(|id| now.push(ServerId(id)));
        assert_eq!((changed(&now, &first), now.latest.len()), (None, 0));
        let many = now.clone();
        now.begin();
        now.push(ServerId(7));
        assert_eq!((changed(&now, &many), changed(&now, &first)), (Some(vec![7]), None));
    }
}

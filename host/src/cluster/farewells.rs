//! Who said that it was stopping before its key went.
//!
//! Both may come between two looks at the table, even in one answer of etcd's: its calls may drain all the same.

use plugin_api::identity::ServerId;
use rpds::RedBlackTreeSetSync;

/// How many are remembered: of more, those with the smallest ids are the oldest, and are forgotten.
const REMEMBERED: usize = 1024;

/// Peers that went after they had said so. Tables share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Farewells(RedBlackTreeSetSync<ServerId>);

impl Farewells {
    /// Did it say so?
    pub fn has(&self, server_id: ServerId) -> bool {
        self.0.contains(&server_id)
    }

    /// Its key went; had it said so before?
    pub fn went(&mut self, server_id: ServerId, stopping: bool) {
        if !stopping {
            return self.is_there(server_id);
        }
        self.0.insert_mut(server_id);
        while self.0.size() > REMEMBERED {
            let Some(oldest) = self.0.first().copied() else { break };
            self.0.remove_mut(&oldest);
        }
    }

    /// Its key is there, again or still.
    pub fn is_there(&mut self, server_id: ServerId) {
        if self.has(server_id) {
            self.0.remove_mut(&server_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_until_they_are_there_again() {
        let mut farewells = Farewells::default();
        let last = i64::try_from(REMEMBERED).expect("few") + 1;
        (1..=last).for_each(|id| farewells.went(ServerId(id), true));
        farewells.is_there(ServerId(3));
        farewells.went(ServerId(4), false);
        assert_eq!(
            [1, 2, 3, 4, 5, last].map(|id| farewells.has(ServerId(id))),
            [false, true, false, false, true, true]
        );
    }
}

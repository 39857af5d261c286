//! Who is registered at which address: a younger process at the place of one that has gone has replaced it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use plugin_api::identity::ServerId;

use crate::cluster::PeerTable;

/// The peers of a role by their address.
#[derive(Default)]
pub(super) struct Places {
    at: HashMap<String, BTreeSet<ServerId>>,
}

impl Places {
    /// All peers of a table.
    pub fn of(table: &PeerTable) -> Self {
        let mut places = Self::default();
        let nobody = PeerTable::unknown(table.role.clone());
        table.sessions.keys().for_each(|id| places.take(*id, &nobody, table));
        places
    }

    /// One peer has changed from one table to the next.
    pub fn take(&mut self, server_id: ServerId, before: &PeerTable, now: &PeerTable) {
        if let Some(before) = before.sessions.get(&server_id)
            && let Some(there) = self.at.get_mut(&before.record.address)
        {
            there.remove(&server_id);
            if there.is_empty() {
                self.at.remove(&before.record.address);
            }
        }
        if let Some(now) = now.sessions.get(&server_id) {
            self.at.entry(now.record.address.clone()).or_default().insert(server_id);
        }
    }

    /// The first process at this address that is younger than this one.
    pub fn younger(&self, address: &str, than: ServerId) -> Option<ServerId> {
        self.at.get(address)?.range((Bound::Excluded(than), Bound::Unbounded)).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plugin_api::identity::Role;
    use plugin_api::peers::Registration;

    use super::*;
    use crate::cluster::{PeerSessionEntry, Record};

    fn table(peers: &[(i64, &str)]) -> PeerTable {
        let mut table = PeerTable::unknown(Role::new("querynode").expect("a role"));
        for (id, address) in peers {
            let record = Record { server_id: *id, address: (*address).to_owned(), ..Record::default() };
            let registration = Registration { create_revision: 1, lease_id: 1 };
            let entry = PeerSessionEntry { record, registration, standby: false, suspect: false, appeared: 1 };
            table.sessions.insert_mut(ServerId(*id), Arc::new(entry));
        }
        table
    }

    #[test]
    fn the_youngest_at_a_place_is_who_took_it() {
        let before = table(&[(3, "a:1"), (4, "a:1"), (5, "a:2")]);
        let mut places = Places::of(&before);
        assert_eq!(places.younger("a:1", ServerId(3)), Some(ServerId(4)));
        assert_eq!(places.younger("a:1", ServerId(4)), None);
        let now = table(&[(3, "a:1"), (5, "a:1")]);
        for id in [4, 5] {
            places.take(ServerId(id), &before, &now);
        }
        assert_eq!(places.younger("a:1", ServerId(3)), Some(ServerId(5)));
        assert_eq!(places.younger("a:2", ServerId(3)), None);
        assert_eq!(places.at.len(), 1, "an empty place is none");
    }
}

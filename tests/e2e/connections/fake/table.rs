//! A table of peers that is fed by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::cluster::{Confirmed, PeerSessionEntry, PeerTable, Record};
use plugin_api::identity::ServerId;
use plugin_api::peers::Registration;
use tokio::sync::watch;

use super::role;

/// When etcd should have been heard.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// A role's table, as discovery would publish it.
pub struct Table {
    sender: watch::Sender<Arc<PeerTable>>,
    next: PeerTable,
}

impl Table {
    pub fn of(name: &str) -> Self {
        let mut next = PeerTable::unknown(role(name));
        next.confirmed = Confirmed::at(Some(Instant::now()));
        next.stale_after = STALE_AFTER;
        next.revision = 1;
        let sender = watch::Sender::new(Arc::new(next.clone()));
        next.touched.begin();
        Self { sender, next }
    }

    pub fn watch(&self) -> watch::Receiver<Arc<PeerTable>> {
        self.sender.subscribe()
    }

    /// The entry of a node at this address, to be changed and put.
    pub fn entry(&mut self, server_id: i64, address: impl ToString) -> PeerSessionEntry {
        let record = Record {
            server_id,
            server_name: self.next.role.to_string(),
            address: address.to_string(),
            version: "1.0.0".to_owned(),
            ..Record::default()
        };
        self.next.revision += 1;
        let registration = Registration { create_revision: self.next.revision, lease_id: self.next.revision };
        PeerSessionEntry { record, registration, standby: false, suspect: false, appeared: 0 }
    }

    /// Puts an entry; it is published with the next [`Table::publish`].
    pub fn put(&mut self, mut entry: PeerSessionEntry) -> &mut Self {
        let server_id = entry.server_id();
        let there = self.next.sessions.get(&server_id);
        entry.appeared = there.map_or(self.next.touched.number(), |there| there.appeared);
        self.next.sessions.insert_mut(server_id, Arc::new(entry));
        self.next.touched.push(server_id);
        self
    }

    pub fn delete(&mut self, server_id: i64) -> &mut Self {
        self.next.sessions.remove_mut(&ServerId(server_id));
        self.next.touched.push(ServerId(server_id));
        self
    }

    /// A list of etcd's misses these, and is doubted.
    pub fn doubt(&mut self, server_id: i64) -> &mut Self {
        let entry = self.next.sessions.get(&ServerId(server_id)).expect("a peer");
        let entry = PeerSessionEntry { suspect: true, ..(**entry).clone() };
        self.put(entry)
    }

    /// etcd was last heard so long ago. That wakes nobody.
    pub fn heard(&self, ago: Duration) {
        self.sender.borrow().confirmed.again(Instant::now().checked_sub(ago).expect("the machine is up for longer"));
    }

    pub fn publish(&mut self) {
        self.next.revision += 1;
        self.next.confirmed = Confirmed::at(Some(Instant::now()));
        self.sender.send_replace(Arc::new(self.next.clone()));
        self.next.touched.begin();
    }

    /// Registers a node at this address.
    pub fn register(&mut self, server_id: i64, address: impl ToString) {
        let entry = self.entry(server_id, address);
        self.put(entry).publish();
    }

    /// Registers one that waits for the active holder to go.
    pub fn stand_by(&mut self, server_id: i64, address: impl ToString) -> &mut Self {
        let mut entry = self.entry(server_id, address);
        (entry.standby, entry.record.exclusive) = (true, true);
        self.put(entry)
    }

    /// Registers the active holder of an exclusive role.
    pub fn activate(&mut self, server_id: i64, address: impl ToString) -> &mut Self {
        let mut entry = self.entry(server_id, address);
        entry.record.exclusive = true;
        self.put(entry)
    }
}

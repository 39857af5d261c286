//! Whose is a key that is there already? A key is taken over only by proof (never from a probe alone: behind a service's
//! address it may reach ourselves).
//!
//! The best proof, the state file, needs nothing of this: the leases of this host's former process are revoked before the key
//! is read. What is left to judge here is what the value says.

use std::net::SocketAddr;

use plugin_api::identity::ServerId;
use plugin_api::peers::Registration;

use crate::cluster::Record;
use crate::etcd::watch::Stored;
use crate::session::status::Holder;

/// What this process can compare with a value that it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its server id.
    pub server_id: ServerId,
    /// The address that it registers.
    pub address: String,
    /// Its machine.
    pub host_name: String,
    /// What its listener is bound to.
    pub bound: SocketAddr,
}

/// A key that is there, with what its value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The id in its value; `None` where that is no session.
    pub server_id: Option<ServerId>,
    /// The address in its value.
    pub address: String,
    /// The machine in its value.
    pub host_name: String,
    /// Does its value say that the process stops?
    pub stopping: bool,
    /// The lease that holds the key, as etcd has it; 0 for none.
    pub lease_id: i64,
    /// The revision at which the key was created.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process, if the lease is one of its own too: no other has its server id unless etcd has lost its data.
    Us,
    /// A process that cannot be alive, because this one has its place.
    OurFormerProcess,
    /// Another process, which may be alive.
    Other,
}

impl Own {
    /// Whose that key is.
    pub fn owner_of(&self, found: &Found) -> Owner {
        let Some(server_id) = found.server_id else {
            return Owner::Other;
        };
        if server_id == self.server_id {
            return Owner::Us;
        }
        // Same machine and same address, and that very port is ours now: whoever was bound to it has gone. A greater id
        // is a later process: then we are the one who lost the place.
        let same_place = found.address == self.address && found.host_name == self.host_name;
        let earlier = server_id < self.server_id;
        if same_place && self.is_bound_to(&found.address) && earlier && !found.host_name.is_empty() {
            Owner::OurFormerProcess
        } else {
            Owner::Other
        }
    }

    /// Could nobody else on this machine be bound to this address? Another local one has a port of the same number too.
    fn is_bound_to(&self, address: &str) -> bool {
        if self.bound.ip().is_unspecified() {
            port_of(address) == Some(self.bound.port())
        } else {
            address.parse() == Ok(self.bound)
        }
    }
}

impl Found {
    /// Which registration the key is.
    pub fn registration(&self) -> Registration {
        Registration { create_revision: self.create_revision, lease_id: self.lease_id }
    }

    /// Is it the same key of the same process, whatever its value says else?
    pub fn is_same_key_as(&self, other: &Self) -> bool {
        (self.server_id, self.create_revision) == (other.server_id, other.create_revision)
    }

    /// As others are told of it.
    pub fn holder(&self) -> Holder {
        Holder {
            server_id: self.server_id,
            address: self.address.clone(),
            host_name: self.host_name.clone(),
            lease_id: self.lease_id,
            lease_left: None,
        }
    }
}

impl From<&Stored> for Found {
    fn from(stored: &Stored) -> Self {
        let record: Option<Record> = serde_json::from_slice(&stored.value).ok();
        let server_id = record.as_ref().map(|record| ServerId(record.server_id));
        let record = record.unwrap_or_default();
        Self {
            server_id,
            address: record.address,
            host_name: record.host_name,
            stopping: record.stopping,
            lease_id: stored.lease_id,
            create_revision: stored.create_revision,
            mod_revision: stored.mod_revision,
        }
    }
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            server_id: ServerId(7),
            address: "10.0.0.1:53100".to_owned(),
            host_name: "a".to_owned(),
            bound: SocketAddr::from(([0, 0, 0, 0], 53100)),
        }
    }

    fn found() -> Found {
        Found {
            server_id: Some(ServerId(6)),
            address: "10.0.0.1:53100".to_owned(),
            host_name: "a".to_owned(),
            stopping: false,
            lease_id: 1,
            create_revision: 10,
            mod_revision: 11,
        }
    }

    #[test]
    fn a_key_is_taken_over_only_by_proof() {
        assert_eq!(own().owner_of(&found()), Owner::OurFormerProcess);
        let others = [
            Found { server_id: Some(ServerId(8)), ..found() },
            Found { server_id: None, ..found() },
            Found { address: "10.0.0.2:53100".to_owned(), ..found() },
            Found { host_name: "b".to_owned(), ..found() },
        ];
        for other in others {
            assert_eq!(own().owner_of(&other), Owner::Other, "{other:?}");
        }
        let behind_a_service = Own { bound: SocketAddr::from(([0, 0, 0, 0], 9)), ..own() };
        assert_eq!(behind_a_service.owner_of(&found()), Owner::Other);
        let at_another_local_address = Own { bound: SocketAddr::from(([127, 0, 0, 2], 53100)), ..own() };
        assert_eq!(at_another_local_address.owner_of(&found()), Owner::Other);
        let at_that_very_address = Own { bound: SocketAddr::from(([10, 0, 0, 1], 53100)), ..own() };
        assert_eq!(at_that_very_address.owner_of(&found()), Owner::OurFormerProcess);
        let nameless = Own { host_name: String::new(), ..own() };
        assert_eq!(nameless.owner_of(&Found { host_name: String::new(), ..found() }), Owner::Other);
    }

    #[test]
    fn the_own_id_is_ours_wherever_it_is() {
        let elsewhere = Found { server_id: Some(ServerId(7)), address: "x:1".to_owned(), ..found() };
        assert_eq!(own().owner_of(&elsewhere), Owner::Us);
    }
}

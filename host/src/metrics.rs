//! What is counted, and how it is written at `/metrics`. A leaf: whoever has something to count takes it from here, and the
//! composition root gathers all at each scrape, so that what is known anyway is not counted twice.
//!
//! # Reference
//!
//! A role is the peer's for `rpc_client_…`, `grpc_subchannel_…`, `componenthost_client_…` and `…_table_…`, and this host's
//! own component's else. Names are OpenTelemetry's for RPC and gRPC where there are some; those of etcd have the shape of
//! gRFC A78. `rpc_method` is the path without its first slash; beyond 256 of a role, and where it is not implemented, it is
//! `_OTHER`.
//!
//! | name | what, with its labels beside `role` |
//! | --- | --- |
//! | `rpc_client_call_duration_seconds` | histogram: from a component's call to its answer's end, waits too; `rpc_method`, `rpc_response_status_code` |
//! | `rpc_server_call_duration_seconds` | histogram: the same of calls that came in |
//! | `componenthost_client_calls_running`, `componenthost_server_calls_running` | calls that are not over |
//! | `componenthost_client_calls_waiting` | those of them that wait for somebody to call |
//! | `componenthost_client_refusals_total`, `componenthost_server_refusals_total` | answers that were refusals, also those that a component passed on; `reason` |
//! | `grpc_subchannel_open_connections` | connections that are proved and take calls: `connections.per_peer` on a link, and the way within this host as one |
//! | `grpc_subchannel_connection_attempts_succeeded_total`, `…_failed_total` | dials |
//! | `grpc_subchannel_disconnections_total` | connections that ended; `grpc_disconnect_error` |
//! | `componenthost_peers` | registered peers; `session` × `link` |
//! | `componenthost_etcd_connected` | 1 while a role is followed: etcd has answered, and no watch has broken since |
//! | `componenthost_etcd_watch_restarts_total` | watches made again; `reason`: `unreachable` (no list, or no watch opened), `lost`, `silent`, `cancelled`, `compacted`, `reset` |
//! | `componenthost_etcd_events_valid_total`, `…_invalid_total` | puts and deletions, and all keys of each list: sessions, and what is none |
//! | `componenthost_etcd_corrections_total`, `…_resets_total` | keys found wrong by a list; how often etcd was another one |
//! | `componenthost_etcd_table_sessions`, `…_stale` | how many it has; 1 while it was not confirmed in time |
//! | `componenthost_etcd_table_revision`, `…_age_seconds` | what a table reflects, and for how long nothing has confirmed it |
//! | `componenthost_session_state` | 1 for the state in which the component's own session is; `state` |
//! | `componenthost_component_state` | 1 for its state code; `state` |
//! | `componenthost_component_fenced`, `componenthost_component_restarts_total` | its flag; how often it was started again |
//! | `componenthost_component_generation`, `componenthost_swaps_total` | which loaded copy serves; how swaps have ended, `outcome` |
//! | `componenthost_retired_bytes` | of libraries that are mapped for nothing: their generations have ended |
//! | `componenthost_events_readers`, `componenthost_build_info` | who reads `/api/v1/events`; 1, with `version` and `build` |

mod calls;
mod exposition;
mod histogram;
mod links;
mod reason;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use plugin_api::identity::Role;

pub use calls::{Calls, Measured, OTHER, Waiting};
pub use exposition::{Exposition, Family, Labels, Series, expose};
pub use histogram::{BOUNDS, Counted, Histogram};
pub use links::{Disconnect, Links};

/// How many roles are told apart; components decide whom they try to call.
const ROLES: usize = 256;

/// What is counted of one role.
#[derive(Default)]
pub struct OfRole {
    /// Its calls.
    pub calls: Arc<Calls>,
    /// The links to its peers.
    pub links: Links,
}

/// What is counted of each role. Cheap to clone.
#[derive(Clone, Default)]
pub struct ByRole {
    roles: Arc<RwLock<BTreeMap<Role, Arc<OfRole>>>>,
    other: Arc<OfRole>,
}

impl ByRole {
    /// Of this role: to be kept by whoever counts, so that a call need not ask.
    pub fn of(&self, role: &Role) -> Arc<OfRole> {
        if let Some(known) = self.roles.read().unwrap_or_else(PoisonError::into_inner).get(role) {
            return Arc::clone(known);
        }
        let mut roles = self.roles.write().unwrap_or_else(PoisonError::into_inner);
        if roles.len() >= ROLES {
            return Arc::clone(&self.other);
        }
        Arc::clone(roles.entry(role.clone()).or_default())
    }

    /// The calls that belong to no known role.
    pub fn other_calls(&self) -> &Arc<Calls> {
        &self.other.calls
    }

    /// All, by the label's value.
    pub fn all(&self) -> Vec<(String, Arc<OfRole>)> {
        let roles = self.roles.read().unwrap_or_else(PoisonError::into_inner);
        let known = roles.iter().map(|(role, of)| (role.to_string(), Arc::clone(of)));
        known.chain([(OTHER.to_owned(), Arc::clone(&self.other))]).collect()
    }
}

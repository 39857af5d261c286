//! The services of etcd's v3 API, each on the trait that `etcd-client` generates from etcd's own protocol.
//!
//! A service checks that a request is well formed, hands it to the [`crate::engine::Engine`] and says who answers.

mod check;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

pub use self::cluster::ClusterService;
pub use self::kv::KvService;
pub use self::lease::LeaseService;
pub use self::maintenance::MaintenanceService;
pub use self::watch::WatchService;

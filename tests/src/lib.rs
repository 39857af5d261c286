//! The harness of the tests: a real etcd, real processes of the built host, real plugins.
//!
//! # Layout
//!
//! * [`cluster`]: an etcd prefix of its own and the hosts in it; where a test begins
//! * [`host`]: one host, what can be done to it and asked of it; [`config`] is its file, [`process`] one run of it
//! * [`etcd`]: one server or a cluster of them, with TLS and users; [`proxy`] stands in front of each, [`port`] keeps its place
//! * [`admin`], [`metrics`], [`log`]: what a host says over HTTP, and on its standard error
//! * [`authority`]: certificates of hosts, for TLS between them
//! * [`swap`]: swaps by the command line; [`ledger`] and [`usage`] are what a host says of its generations, and what its
//!   process uses; [`load`] calls all the while, and [`numbers`] are what may be given out once
//! * [`client`], [`probe`]: clients of what hosts serve; configurations of the probe and requests to it
//! * [`vectors`]: vectors for a search, and what a search has to find
//! * [`watcher`]: sees etcd's events without any code of the host's, stamped by the [`clock`] of all processes; [`truth`]
//!   compares with it what a host shows
//! * [`eventually`](eventually()): waiting for a condition, with a limit
//! * [`form`]: the short and the long form of a test
//! * [`binary`]: the proof that what is tested is what was built

pub mod admin;
pub mod authority;
pub mod binary;
pub mod border;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod etcd;
pub mod eventually;
pub mod form;
pub mod host;
pub mod ledger;
pub mod load;
pub mod log;
pub mod metrics;
pub mod numbers;
pub mod port;
pub mod probe;
pub mod process;
pub mod proxy;
mod sockets;
pub mod swap;
pub mod truth;
pub mod usage;
pub mod vectors;
pub mod watcher;

pub use cluster::Cluster;
pub use config::HostConfig;
pub use eventually::{eventually, holds, patient, within};
pub use form::short_or_full;
pub use host::{Host, LIMIT};

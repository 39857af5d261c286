//! One host process for every role of a distributed system.

pub mod admin;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod connections;
pub mod discovery;
pub mod etcd;
pub mod lifecycle;
pub mod metadata;
pub mod plugin;
pub mod serve;
pub mod session;
pub mod shutdown;
pub mod signals;
pub mod startup;
pub mod supervise;
pub mod telemetry;
pub mod wire;

/// The id of this build, a hash of the sources: `componenthost --version` prints it. Two programs of the same id are built
/// from the same sources.
pub const BUILD_ID: &str = env!("BUILD_ID");

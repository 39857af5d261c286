//! One host process for every role of a distributed system.

pub mod admin;
pub mod cluster;
pub mod config;
pub mod plugin;
pub mod telemetry;
pub mod wire;
pub mod discovery;
pub mod etcd;
pub mod session;
pub mod lifecycle;
pub mod serve;

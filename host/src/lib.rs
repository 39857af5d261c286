//! One host process for every role of a distributed system.

pub mod cluster;
pub mod discovery;
pub mod etcd;
pub mod session;

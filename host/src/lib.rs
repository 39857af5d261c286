//! One host process for every role of a distributed system.

pub mod cluster;
pub mod connections;
pub mod wire;

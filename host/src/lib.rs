//! One host process for every role of a distributed system.

pub mod admin;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod telemetry;
pub mod wire;

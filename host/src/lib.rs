//! One host process for every role of a distributed system.
//!
//! # Layout
//!
//! * [`program`]: what the process's arguments ask for. [`startup`] composes a host of its parts and has the five steps;
//!   [`supervise`] owns one component from its first step to its end; [`shutdown`] is the way back; [`signals`] asks for it.
//! * [`session`]: our own registrations. [`discovery`]: those of others, as tables. [`connections`]: links to them, and the
//!   clients over those. [`metadata`]: what a component keeps in etcd.
//! * [`plugin`]: from a file to a live component. [`serve`]: the listener, and the way of a call to a component.
//! * [`admin`], [`cli`], [`config`], [`telemetry`]: what people see and say.
//! * [`cluster`], [`etcd`], [`lifecycle`], [`metrics`], [`swap`], [`tls`], [`trouble`], [`wire`]: what the parts share.

pub mod admin;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod connections;
pub mod discovery;
pub mod etcd;
pub mod lifecycle;
pub mod metadata;
pub mod metrics;
pub mod plugin;
pub mod program;
pub mod serve;
pub mod session;
pub mod shutdown;
pub mod signals;
pub mod startup;
pub mod supervise;
pub mod swap;
pub mod telemetry;
pub mod tls;
pub mod trouble;
pub mod wire;

/// The id of this build, a hash of the sources: `componenthost --version` prints it. Two programs of the same id are built
/// from the same sources.
pub const BUILD_ID: &str = env!("BUILD_ID");

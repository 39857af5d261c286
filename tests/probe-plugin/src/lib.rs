//! The probe: a component that plays any role and does on demand what components do, and what they must not do.
//!
//! Tests load it as `libprobe_plugin.so`, or link it; both ways they talk to it with [`client`].
//!
//! # Layout
//!
//! * [`config`]: what a test can configure; [`knobs`]: what a test can change while the host runs; `mischief` does both
//! * [`edition`]: the two versions of it, one to be swapped for the other
//! * `life`: the methods of the component, each with its fault and its line in the journal; `counter` and `state` are what one
//!   generation hands to another, `background` is what may run in one of them only
//! * `service`: the calls that it serves; `streams`, `holds`, `caller`, `events`, `store`, `tasks` do their work
//! * [`renamed`]: its service under the role's name, and the client for that

pub mod config;
pub mod digest;
pub mod edition;
pub mod knobs;
pub mod renamed;

mod background;
mod caller;
mod counter;
mod events;
mod holds;
mod journal;
mod life;
mod mischief;
mod service;
mod state;
mod store;
mod streams;
mod tasks;

pub use config::ProbeConfig;
pub use digest::Digest;
pub use edition::Edition;
pub use life::Probe;
pub use renamed::{Renamed, client, service_name};

/// The messages, the generated client and the generated server.
#[expect(missing_docs, clippy::missing_errors_doc, reason = "generated; `proto/probe.proto` says what they are")]
pub mod v1 {
    tonic::include_proto!("probe.v1");
}

plugin_api::export!(Probe::new);

//! What the bench measures: services that do nothing, as a plugin, and for a plain server.
//!
//! Not the probe: its service is renamed for each role, which costs a call more than that of any other plugin.
//!
//! # Layout
//!
//! * [`target`]: who is called; [`volley`]: many calls of it, measured where they are made
//! * `component`: the plugin, which serves one of the two
//!
//! The baseline links this crate and serves the same by tonic alone.

pub mod target;
pub mod volley;

mod component;

/// The messages, the generated clients and the generated servers.
#[expect(missing_docs, clippy::missing_errors_doc, reason = "generated; `proto/bench.proto` says what they are")]
pub mod v1 {
    tonic::include_proto!("bench.v1");
}

plugin_api::export!(component::Bench::new);

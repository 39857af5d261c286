//! The probe, so far without its component: the client's side.

pub mod digest;
pub mod renamed;

pub use digest::Digest;
pub use renamed::{Renamed, client, service_name};

/// The messages, the generated client and the generated server.
pub mod v1 {
    tonic::include_proto!("probe.v1");
}

//! Clients of what the hosts serve: the probe, and the three components.

use plugin_api::refusal::Refusal;
use probe_plugin::Renamed;
use probe_plugin::v1::probe_client::ProbeClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::host::Host;

/// A client of a probe.
pub type Probe = ProbeClient<Renamed<Channel>>;

impl Host {
    /// A client of the host's probe in that role.
    pub async fn probe(&self, role: &str) -> Probe {
        probe_plugin::client(self.channel().await, role)
    }
}

/// The reason of a refusal.
///
/// # Panics
///
/// Where the status carries none.
pub fn reason(status: &Status) -> &'static str {
    Refusal::from_status(status).unwrap_or_else(|| panic!("no refusal: {status:?}")).reason.as_str()
}

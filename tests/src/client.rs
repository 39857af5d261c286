//! Clients of what the hosts serve: the probe, and the three components.

use plugin_api::refusal::Refusal;
use probe_plugin::Renamed;
use probe_plugin::v1::probe_client::ProbeClient;
use proto::querycoord::v1::query_coord_client::QueryCoordClient;
use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::rootcoord::v1::root_coord_client::RootCoordClient;
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

    /// A client of the host's RootCoord.
    pub async fn rootcoord(&self) -> RootCoordClient<Channel> {
        RootCoordClient::new(self.channel().await)
    }

    /// A client of the host's QueryCoord.
    pub async fn querycoord(&self) -> QueryCoordClient<Channel> {
        let limit = proto::MAX_MESSAGE_BYTES;
        QueryCoordClient::new(self.channel().await).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    /// A client of the host's QueryNode.
    pub async fn querynode(&self) -> QueryNodeClient<Channel> {
        let limit = proto::MAX_MESSAGE_BYTES;
        QueryNodeClient::new(self.channel().await).max_decoding_message_size(limit).max_encoding_message_size(limit)
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

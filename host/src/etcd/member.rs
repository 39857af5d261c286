//! One member of etcd, and the connection to it.

use etcd_client::{Channel, Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use tonic::transport::Endpoint;

use crate::etcd::renewals::Renewals;
use crate::etcd::{EtcdConfig, EtcdError, Fault};

/// The largest answer that is taken. tonic's own limit, 4 MiB, is less than a cluster's metadata may have.
const LARGEST_ANSWER: usize = 64 << 20;

/// etcd closes connections that are pinged more often than once in 5 s.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A member of etcd. Everything that is asked of it goes over one connection, which is made when it is needed.
pub(super) struct Member {
    /// Counts the members used before, so that many failures at once lead to one move only.
    pub(super) generation: u64,
    pub(super) endpoint: String,
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    pub(super) renewals: Renewals,
}

impl Member {
    /// The member whose turn it is in that generation. Nothing is sent.
    pub(super) async fn new(config: &EtcdConfig, generation: u64) -> Result<Self, EtcdError> {
        let count = config.endpoints.len().max(1) as u64;
        let index = usize::try_from(generation % count).unwrap_or_default();
        let endpoint = config.endpoints.get(index).cloned().unwrap_or_default();
        let unusable = |fault| EtcdError { doing: "use the endpoint".into(), endpoint: endpoint.clone(), fault };
        let channel = channel(config, &endpoint).map_err(unusable)?;
        // A member that is cut off from its cluster must not look alive, neither to a stream nor to a request.
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel.clone()), Some(options)).await;
        let client = client.map_err(|error| unusable(Fault::of(error)))?;
        Ok(Self {
            generation,
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            lease: client.lease_client(),
            watch: client.watch_client().max_decoding_message_size(LARGEST_ANSWER),
            renewals: Renewals::over(channel),
            endpoint,
        })
    }
}

fn channel(config: &EtcdConfig, endpoint: &str) -> Result<tonic::transport::Channel, Fault> {
    let uri = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| Fault::Client(plugin_api::error::chain(&error)))?;
    let endpoint = endpoint
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

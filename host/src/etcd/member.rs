//! One member of etcd, and the connection to it.

use std::sync::Arc;

use etcd_client::{AuthClient, Client, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient};
use http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::etcd::channel::TokenChannel;
use crate::etcd::connector::Connector;
use crate::etcd::credentials::Token;
use crate::etcd::renewals::Renewals;
use crate::etcd::{EtcdConfig, EtcdError, Fault};
use crate::tls::stream::Trace;

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
    /// What the last connection to it told.
    pub(super) trace: Trace,
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    pub(super) auth: AuthClient,
    pub(super) maintenance: MaintenanceClient,
    pub(super) renewals: Arc<Renewals>,
    /// Held while a token is taken from it: many requests that need one take it once. Of each member apart, so that a silent
    /// one does not hold up what is asked of another.
    pub(super) taking: tokio::sync::Mutex<()>,
}

impl Member {
    /// The member whose turn it is in that generation. Nothing is sent; what is, carries the token.
    pub(super) async fn new(config: &EtcdConfig, generation: u64, token: &Token) -> Result<Self, EtcdError> {
        let count = config.endpoints.len().max(1) as u64;
        let index = usize::try_from(generation % count).unwrap_or_default();
        let endpoint = config.endpoints.get(index).cloned().unwrap_or_default();
        let unusable = |fault| EtcdError { doing: "use the endpoint".into(), endpoint: endpoint.clone(), fault };
        let (channel, trace) = channel(config, &endpoint).map_err(unusable)?;
        let channel = TokenChannel::new(channel, token.clone());
        // A member that is cut off from its cluster must not look alive, neither to a stream nor to a request.
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(channel.clone().into_client(), Some(options)).await;
        let client = client.map_err(|error| unusable(Fault::of(error)))?;
        Ok(Self {
            generation,
            trace,
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            lease: client.lease_client(),
            watch: client.watch_client().max_decoding_message_size(LARGEST_ANSWER),
            auth: client.auth_client(),
            maintenance: client.maintenance_client(),
            renewals: Arc::new(Renewals::over(channel)),
            taking: tokio::sync::Mutex::new(()),
            endpoint,
        })
    }
}

fn channel(config: &EtcdConfig, endpoint: &str) -> Result<(Channel, Trace), Fault> {
    let url: Uri = config.url(endpoint).parse().map_err(|_| Fault::Client("this is no URL".to_owned()))?;
    let Some(authority) = url.authority() else {
        return Err(Fault::Client("this names no host".to_owned()));
    };
    let tls = (url.scheme_str() == Some("https")).then(|| config.tls.clone());
    let connector = Connector::new(authority, tls);
    let trace = connector.trace().clone();
    let endpoint = Endpoint::from(url)
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok((endpoint.connect_with_connector_lazy(connector), trace))
}

//! Who calls peers over the host's own links, and over plain channels of tonic's: what several subjects begin with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use componenthost::cluster::{PeerTable, Record};
use componenthost::connections::{Client, ConnectionManager, ConnectionsConfig, ConnectionsSettings, LocalHost};
use componenthost::discovery::table::Table;
use componenthost::wire::v1::GetIdentityRequest;
use componenthost::wire::v1::host_client::HostClient;
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use plugin_api::channel::Target;
use plugin_api::descriptor::{Dependency, WaitPolicy};
use plugin_api::identity::Role;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::sessions::{keys, record, role, stored};
use crate::peers::{CLUSTER, DRIP};

/// Whatever is waited for comes within this time.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The links of a host that depends on the role of the peers.
pub struct Caller {
    manager: ConnectionManager,
}

impl Caller {
    /// It dials whomever the tables have.
    pub fn of(tables: watch::Receiver<Arc<PeerTable>>, local: Option<LocalHost>) -> Self {
        let manager = ConnectionManager::new(ConnectionsSettings {
            config: ConnectionsConfig::default(),
            cluster: CLUSTER.to_owned(),
            own: "bench".to_owned(),
            local,
            security: componenthost::tls::Security::plain(),
        });
        manager.add_dependency(&caller(), Dependency::nodes(role().as_str()).call_wait(LIMIT), tables);
        Self { manager }
    }

    /// Calls any of the peers.
    pub fn client(&self) -> Client {
        self.manager.client(&caller(), Target::Role(role()))
    }

    /// Waits until all peers of the table can be called.
    pub async fn all_ready(&self) {
        assert!(self.manager.wait_ready(&caller(), &role(), WaitPolicy::All { timeout: LIMIT }).await);
    }

    /// Waits until one of them can.
    pub async fn one_ready(&self) {
        assert!(self.manager.wait_ready(&caller(), &role(), WaitPolicy::AtLeast { count: 1, timeout: LIMIT }).await);
    }

    /// Waits until none of them is known.
    pub async fn none_left(&self) {
        while !self.manager.clients(&caller(), &role()).expect("it was declared").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends all links.
    pub async fn stop(&self) {
        self.manager.stop().await;
    }
}

fn caller() -> Role {
    Role::new("querycoord").expect("a role")
}

/// The table of the peers that listen there, with the ids from 1.
pub fn table_of(addresses: &[String]) -> watch::Sender<Arc<PeerTable>> {
    let mut table = Table::new(role(), keys());
    let listed = |(index, address): (usize, &String)| {
        let id = index + 1;
        let value = serde_json::to_vec(&record_at(id, address)).expect("a record is JSON");
        componenthost::etcd::watch::Stored { value, ..stored(id, 0, i64::try_from(id).expect("a small number")) }
    };
    let entries: Vec<_> = addresses.iter().enumerate().map(listed).collect();
    table.replace(&entries, i64::try_from(addresses.len()).expect("a small number"), Instant::now());
    assert_eq!(table.published().sessions.size(), addresses.len());
    watch::Sender::new(Arc::clone(table.published()))
}

/// The record of the peer with this id.
pub fn record_at(id: usize, address: &str) -> Record {
    Record { address: address.to_owned(), ..record(id, 0, 5) }
}

/// A plain channel's endpoint.
pub fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI")
}

/// A plain channel to the peer, proved as a link is: it has said who it is.
pub async fn proved_channel(address: &str) -> Channel {
    let channel = endpoint(address).connect().await.expect("the peer listens");
    assert!(asks_who(channel.clone(), 0).await, "the peer answers");
    channel
}

/// A unary call; true where it was answered well.
pub async fn asks_who<T>(service: T, wait_ms: i64) -> bool
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let request = GetIdentityRequest { wait_ms, role: role().to_string() };
    HostClient::new(service).get_identity(request).await.is_ok()
}

/// Calls that run: half of them unary and held, half of them streams that have begun.
pub struct Running {
    calls: Vec<JoinHandle<Instant>>,
}

impl Running {
    /// So many over this service, once all of them run.
    pub async fn begin<T>(count: usize, service: T) -> Self
    where
        T: GrpcService<Body> + Clone + Send + 'static,
        T::Future: Send,
        T::Error: Into<StdError>,
        T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        let mut calls = Vec::new();
        for _ in 0..count / 2 {
            let service = service.clone();
            calls.push(tokio::spawn(async move {
                assert!(!asks_who(service, i64::MAX).await, "it is never answered");
                Instant::now()
            }));
        }
        // The tasks are polled in the order of their making, or soon after: the streams' first messages come behind them.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut begun = Vec::new();
        for _ in count / 2..count {
            let (service, (first, has_first)) = (service.clone(), tokio::sync::oneshot::channel());
            begun.push(has_first);
            calls.push(tokio::spawn(async move {
                let mut messages = drip(service).await;
                messages.message().await.expect("the first message").expect("it comes");
                let _ = first.send(());
                assert!(messages.message().await.is_err(), "nothing more comes");
                Instant::now()
            }));
        }
        for first in begun {
            tokio::time::timeout(LIMIT, first).await.expect("in time").expect("the call runs");
        }
        Self { calls }
    }

    /// When each of them ended.
    pub async fn ends(self) -> Vec<Instant> {
        let mut ends = Vec::new();
        for call in self.calls {
            ends.push(tokio::time::timeout(LIMIT, call).await.expect("it ends").expect("no panic"));
        }
        ends
    }

    /// When each of them ended; or, where not all did within this time, how many still run.
    pub async fn ends_within(mut self, limit: Duration) -> Result<Vec<Instant>, usize> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut ends = Vec::new();
        for call in &mut self.calls {
            match tokio::time::timeout_at(deadline, call).await {
                Ok(end) => ends.push(end.expect("no panic")),
                Err(_) => break,
            }
        }
        let left = self.calls.iter().filter(|call| !call.is_finished()).count();
        self.calls.iter().for_each(JoinHandle::abort);
        if ends.len() == self.calls.len() { Ok(ends) } else { Err(left) }
    }
}

async fn drip<T>(service: T) -> tonic::Streaming<()>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut grpc = tonic::client::Grpc::new(service);
    assert!(grpc.ready().await.is_ok(), "the service is ready");
    let path = PathAndQuery::from_static(DRIP);
    let codec = ProstCodec::<(), ()>::default();
    grpc.server_streaming(tonic::Request::new(()), path, codec).await.expect("a stream").into_inner()
}

//! A caller and a called host in the test's own process: real listeners and links, tables that are fed by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use componenthost::connections::{ConnectionManager, ConnectionsConfig, ConnectionsSettings, DependencyView};
use componenthost::lifecycle::{Lifecycle, State, Step};
use componenthost::serve::{self, Answers, Own, Served};
use componenthost::tls::{Security, TlsConfig};
use plugin_api::channel::Target;
use plugin_api::descriptor::Dependency;
use plugin_api::identity::ServerId;
use plugin_api::peers::PeerLink;
use plugin_api::refusal::{Reason, Refusal, key};
use tests::authority::{Authority, NAMES};
use tests::etcd::Signed;
use tests::{LIMIT, eventually, holds};
use tokio_util::task::AbortOnDropHandle;

use crate::connections::fake::{CLUSTER, Table, role};

/// The role of the host that is called.
pub const CALLED: &str = "worker";
/// Its id.
const ID: ServerId = ServerId(7);

/// TLS with this certificate, and names by role.
pub fn tls(authority: &Authority, own: &Signed) -> TlsConfig {
    TlsConfig {
        ca: authority.file(),
        cert: own.certificate.clone(),
        key: own.key.clone(),
        names: NAMES.to_owned(),
        ..TlsConfig::default()
    }
}

/// How a host with these files speaks with others. Its files are looked at for as long as the second is there.
pub fn security(config: &TlsConfig) -> (Security, Option<AbortOnDropHandle<()>>) {
    assert_eq!(config.mistakes(), []);
    let (security, reload) = Security::of(config).expect("the files are good");
    (security, reload.map(|reload| AbortOnDropHandle::new(tokio::spawn(reload.run()))))
}

/// A host whose one component is Healthy, and says so.
pub struct Called {
    pub address: SocketAddr,
    _lifecycle: Lifecycle,
    _reload: Option<AbortOnDropHandle<()>>,
    _listener: AbortOnDropHandle<()>,
}

impl Called {
    pub fn start(config: &TlsConfig) -> Self {
        let (security, reload) = security(config);
        let lifecycle = Lifecycle::new(1);
        lifecycle.transition(State::Initializing { step: Step::Register }).expect("it begins");
        lifecycle.transition(State::Healthy).expect("it becomes Healthy");
        let served = Served::new([(role(CALLED), lifecycle.watch())]);
        let own = Own { cluster: CLUSTER.to_owned(), server_id: ID, boot_id: "boot".to_owned() };
        let bound = serve::Bound::new(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = bound.address();
        let listener = bound.listen().expect("it is ours");
        let listener = tokio::spawn(async move {
            let answers = Answers::new(Arc::new(own), served);
            let run = serve::run(listener, answers, security, std::future::pending());
            run.await.expect("it serves");
        });
        Self { address, _lifecycle: lifecycle, _reload: reload, _listener: AbortOnDropHandle::new(listener) }
    }
}

/// Who calls it.
pub struct Caller {
    pub manager: ConnectionManager,
    pub table: Table,
    _reload: Option<AbortOnDropHandle<()>>,
}

impl Caller {
    pub fn of(config: &TlsConfig) -> Self {
        Self::with(config, quick())
    }

    pub fn with(config: &TlsConfig, connections: ConnectionsConfig) -> Self {
        let (security, reload) = security(config);
        let manager = Self::manager(security, connections);
        Self::over(manager, reload)
    }

    /// One that shows no certificate.
    pub fn anonymous(authority: &Authority) -> Self {
        let config = TlsConfig { ca: authority.file(), names: NAMES.to_owned(), ..TlsConfig::default() };
        Self::over(Self::manager(Security::of_client(&config).expect("the file is good"), quick()), None)
    }

    fn manager(security: Security, config: ConnectionsConfig) -> ConnectionManager {
        let (cluster, own) = (CLUSTER.to_owned(), "caller-1".to_owned());
        ConnectionManager::new(ConnectionsSettings { config, cluster, own, security, local: None })
    }

    fn over(manager: ConnectionManager, reload: Option<AbortOnDropHandle<()>>) -> Self {
        let table = Table::of(CALLED);
        manager.add_dependency(&role("caller"), Dependency::nodes(CALLED), table.watch());
        Self { manager, table, _reload: reload }
    }

    pub fn sees(mut self, address: impl ToString) -> Self {
        self.table.register(ID.0, address);
        self
    }

    /// Waits until the link is so, and gives its last error.
    pub async fn link(&self, link: PeerLink) -> String {
        eventually(LIMIT, async || {
            let peer = self.view().peers.into_iter().next().ok_or("no peer")?;
            holds(peer.link == link, format!("{:?}", peer.last_error)).map_err(|_| "another state")?;
            Ok::<_, &str>(peer.last_error.unwrap_or_default())
        })
        .await
    }

    pub fn view(&self) -> DependencyView {
        self.manager.view().into_iter().next().expect("one dependency")
    }

    /// The last error with which it was given up, as calls are told it.
    pub async fn given_up(&self) -> String {
        let error = self.link(PeerLink::GivenUp).await;
        let refused = self.refused().await;
        assert_eq!(refused.reason, Reason::TlsFailed, "{refused:?}");
        assert_eq!(refused.details.get(key::LAST_ERROR), Some(&error));
        error
    }

    /// With what a call is refused, though it would wait.
    async fn refused(&self) -> Refusal {
        let client = self.manager.client(&role("caller"), Target::Server(role(CALLED), ID));
        let mut request = tonic::Request::new(String::new());
        request.metadata_mut().insert("componenthost-wait-ms", tonic::metadata::MetadataValue::from_static("60000"));
        let codec = tonic_prost::ProstCodec::<String, String>::default();
        let path = http::uri::PathAndQuery::from_static("/fake.Echo/Metadata");
        let mut grpc = tonic::client::Grpc::new(client);
        let called = grpc.unary(request, path, codec);
        let answer = tokio::time::timeout(Duration::from_secs(5), called).await.expect("it is refused at once");
        Refusal::from_status(&answer.expect_err("a refusal")).expect("with its details")
    }
}

/// Short times. Who was given up is not asked again by itself.
pub fn quick() -> ConnectionsConfig {
    ConnectionsConfig {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(80),
        connect_timeout: Duration::from_secs(1),
        probe_interval: Duration::ZERO,
        ..ConnectionsConfig::default()
    }
}

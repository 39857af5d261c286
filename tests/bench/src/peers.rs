//! Peers in a process of their own: this program, started again. So what they cost is not counted as the caller's.

#![expect(clippy::print_stdout, reason = "the addresses of the peers are what the process is asked for")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};

use bench_plugin::target::Target;
use bench_plugin::v1::target_server::TargetServer;
use bytes::Bytes;
use componenthost::wire::v1;
use componenthost::wire::v1::host_server::{Host, HostServer};
use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// The cluster that the peers say they are of.
pub const CLUSTER: &str = "bench";

/// The role that they play, where nothing else is said.
pub const ROLE: &str = "querynode";

/// The path of a stream of which one message comes, and no end.
pub const DRIP: &str = "/bench.Drip/Drip";

/// As a host's listener has them (`host/src/serve.rs`).
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Peers that listen, with the ids from 1. They end with this value.
pub struct Peers {
    child: Child,
    /// Where they listen, in the order of their ids.
    pub addresses: Vec<String>,
}

impl Peers {
    /// So many.
    ///
    /// # Panics
    ///
    /// Where they do not come up.
    pub fn start(count: usize) -> Self {
        Self::start_as(count, ROLE, CLUSTER)
    }

    /// So many in this role of this cluster.
    ///
    /// # Panics
    ///
    /// As [`Peers::start`].
    pub fn start_as(count: usize, role: &str, cluster: &str) -> Self {
        Self::of(count, &["--serve", &count.to_string(), role, cluster])
    }

    /// This program, started with these arguments, which says so many addresses.
    ///
    /// # Panics
    ///
    /// As [`Peers::start`].
    pub fn of(count: usize, arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("a process knows its executable");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let addresses: Vec<_> = lines.take(count).map(|line| line.expect("its output can be read")).collect();
        assert_eq!(addresses.len(), count, "the peers came up");
        Self { child, addresses }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It fails where the process has ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What that process does: so many peers, until its input ends.
///
/// # Panics
///
/// Where no port is free.
pub async fn serve(count: usize, role: &str, cluster: &str) {
    for server_id in 1..=count {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port is free");
        tell(&incoming.local_addr().expect("a bound listener has an address").to_string());
        let server_id = i64::try_from(server_id).expect("a small number");
        let identity = Identity { server_id, role: role.to_owned(), cluster: cluster.to_owned() };
        let server = server().add_service(HostServer::new(identity)).add_service(Drip);
        let server = server.add_service(TargetServer::new(Target));
        tokio::spawn(server.serve_with_incoming(incoming.with_nodelay(Some(true))));
    }
    until_input_ends().await;
}

/// A server of tonic's with the windows of a host's listener.
pub fn server() -> Server {
    Server::builder().initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW)
}

/// Says an address to whoever has started this process.
pub fn tell(address: &str) {
    println!("{address}");
}

/// Whoever has started this process holds its input.
pub async fn until_input_ends() {
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    drop(ended);
}

/// Says who it is at once; asked with the longest wait it holds its answer for ever.
pub struct Identity {
    /// Who.
    pub server_id: i64,
    /// Its role.
    pub role: String,
    /// Its cluster.
    pub cluster: String,
}

#[tonic::async_trait]
impl Host for Identity {
    async fn get_identity(
        &self,
        request: tonic::Request<v1::GetIdentityRequest>,
    ) -> Result<tonic::Response<v1::GetIdentityResponse>, Status> {
        if request.get_ref().wait_ms == i64::MAX {
            std::future::pending::<()>().await;
        }
        let state_code = v1::StateCode::Healthy.into();
        let role = v1::RoleState { role: self.role.clone(), state_code, fenced: false, generation: 1 };
        Ok(tonic::Response::new(v1::GetIdentityResponse {
            cluster: self.cluster.clone(),
            server_id: self.server_id,
            boot_id: "bench".to_owned(),
            roles: vec![role],
        }))
    }

    async fn get_component_states(
        &self,
        _: tonic::Request<v1::GetComponentStatesRequest>,
    ) -> Result<tonic::Response<v1::ComponentStates>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

#[derive(Clone)]
struct Drip;

impl NamedService for Drip {
    const NAME: &'static str = "bench.Drip";
}

impl tower::Service<Request<Body>> for Drip {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        // An empty message, as gRPC frames it.
        let first = futures_util::stream::once(ready(Ok::<_, Status>(Frame::data(Bytes::from_static(&[0; 5])))));
        let mut response = Response::new(Body::new(StreamBody::new(first.chain(futures_util::stream::pending()))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        ready(Ok(response))
    }
}

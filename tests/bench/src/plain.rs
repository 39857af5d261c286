//! The baseline: what the plugin does, done by plain code over tonic alone, in a process of its own.
//!
//! Its server has the windows of a host's listener: what is compared is not how tonic is configured.

use bench_plugin::target::Target;
use bench_plugin::v1::caller_server::{Caller, CallerServer};
use bench_plugin::v1::target_server::TargetServer;
use bench_plugin::v1::{Measured, Volley};
use bench_plugin::volley;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::peers::{self, Peers};

/// In place of an address: the process calls its own server.
const ITSELF: &str = "itself";

/// Whom a plain process calls.
pub enum Calls<'a> {
    /// Its own server, over loopback.
    Itself,
    /// The server that listens there, over so many connections.
    Address(&'a str, usize),
}

/// One that serves `Target`, and `Caller`, which calls these.
///
/// # Panics
///
/// Where it does not come up.
pub fn start(calls: &Calls<'_>) -> Peers {
    let (address, connections) = match calls {
        Calls::Itself => (ITSELF, 1),
        Calls::Address(address, connections) => (*address, *connections),
    };
    Peers::of(1, &["--plain", address, &connections.to_string()])
}

/// What that process does, until its input ends.
///
/// # Panics
///
/// Where no port is free.
pub async fn serve(address: &str, connections: usize) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port is free");
    let own = incoming.local_addr().expect("a bound listener has an address").to_string();
    let address = if address == ITSELF { &own } else { address };
    // By default a channel sends without delay, as a link does.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    let channels = (0..connections).map(|_| endpoint.connect_lazy()).collect();
    let server =
        peers::server().add_service(TargetServer::new(Target)).add_service(CallerServer::new(Plain { channels }));
    tokio::spawn(server.serve_with_incoming(incoming.with_nodelay(Some(true))));
    peers::tell(&own);
    peers::until_input_ends().await;
}

/// Calls over plain channels.
struct Plain {
    channels: Vec<Channel>,
}

#[tonic::async_trait]
impl Caller for Plain {
    async fn call(&self, request: Request<Volley>) -> Result<Response<Measured>, Status> {
        volley::fly(self.channels.clone(), request.into_inner(), tokio::spawn).await.map(Response::new)
    }
}

//! What a host is compared with: a bare tonic server that registers in etcd under a lease, as its own users would write it.
//!
//! `bare-server ENDPOINT KEY TTL`: its address is the value of the key. It runs until it is killed.

use std::net::SocketAddr;
use std::time::Duration;

use etcd_client::{Client, PutOptions};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [endpoint, key, ttl] = &arguments[..] else { return Err("bare-server ENDPOINT KEY TTL".into()) };
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let serving = tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    register(endpoint, key, &address.to_string(), ttl.parse()?).await?;
    Ok(serving.await??)
}

/// Renews the lease from then on.
async fn register(endpoint: &str, key: &str, address: &str, ttl: i64) -> Result<(), Failure> {
    let mut client = Client::connect([endpoint], None).await?;
    let lease = client.lease_grant(ttl, None).await?.id();
    client.put(key, address, Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    tokio::spawn(async move {
        while keeper.keep_alive().await.is_ok() && answers.message().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(ttl.unsigned_abs()) / 3).await;
        }
    });
    Ok(())
}

//! A connection to another host.

use std::io;
use std::net::SocketAddr;

use plugin_api::identity::Role;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::HTTP2;
use super::config::beyond_this_machine;
use super::credentials::{Credentials, Security};
use super::fault::TlsFault;
use super::stream::{Trace, Traced};

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP, or a handshake that was broken off: another try may do better.
    #[error("cannot connect to {address}")]
    Broken {
        /// Where to.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// A handshake that came to its end: another one would end alike.
    #[error("no TLS connection to {address} ([tls])")]
    Tls {
        /// Where to.
        address: String,
        /// Why not.
        source: TlsFault,
    },
    /// It would leave this machine in plain text.
    #[error("not called in plain text: {}", beyond_this_machine(.0).unwrap_or_else(|| format!("{0} is another machine", .0)))]
    PlainText(String),
}

impl ConnectError {
    /// Must certificates or the configuration change, before another try makes sense?
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::PlainText(_))
    }
}

/// Connects to the host of this role at `address`, `host:port`. `trace` tells what the connection sees of TLS later.
///
/// # Errors
///
/// As [`ConnectError`] has it. There is no limit of time here.
///
/// # Cancel safety
///
/// Nothing is left when it is dropped.
pub async fn connect(address: &str, role: &Role, security: &Security, trace: &Trace) -> Result<Traced, ConnectError> {
    let broken = |source| ConnectError::Broken { address: address.to_owned(), source };
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(broken)?.collect();
    let leaves = || found.iter().any(|found| !found.ip().to_canonical().is_loopback());
    if matches!(security, Security::Plain { beyond_this_machine: false }) && leaves() {
        return Err(ConnectError::PlainText(address.to_owned()));
    }
    let tcp = TcpStream::connect(found.as_slice()).await.map_err(broken)?;
    tcp.set_nodelay(true).map_err(broken)?;
    match security {
        Security::Plain { .. } => Ok(Traced::plain(tcp, trace.clone())),
        Security::Tls(credentials) => handshake(address, role, credentials, tcp, trace).await,
    }
}

async fn handshake(
    address: &str,
    role: &Role,
    credentials: &Credentials,
    tcp: TcpStream,
    trace: &Trace,
) -> Result<Traced, ConnectError> {
    let failed = |source| ConnectError::Tls { address: address.to_owned(), source };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = credentials.server_name(role, host);
    let name = name.map_err(|error| failed(TlsFault::Handshake(format!("'{host}' is no name: {error}"))))?;
    match TlsConnector::from(credentials.client()).connect(name, tcp).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => {
            Ok(Traced::tls(stream, credentials.has_certificate(), trace.clone()))
        }
        Ok(_) => Err(failed(TlsFault::Handshake("it does not agree to HTTP/2".to_owned()))),
        // Without a word of TLS it may just as well have died.
        Err(source) => Err(match TlsFault::of_io(&source) {
            Some(fault) => failed(fault),
            None => ConnectError::Broken { address: address.to_owned(), source },
        }),
    }
}

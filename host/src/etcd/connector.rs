//! TCP and TLS connections to a member. Each tells by a [`Trace`] what it saw of TLS before its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::Service;

use crate::etcd::config::TlsConfig;
use crate::etcd::tls;
use crate::tls::HTTP2;
use crate::tls::fault::TlsFault;
use crate::tls::stream::{Trace, Traced};

/// Makes connections to one member.
#[derive(Clone)]
pub(super) struct Connector {
    host: String,
    port: u16,
    /// `None` for plain text.
    tls: Option<TlsConfig>,
    trace: Trace,
}

impl Connector {
    pub(super) fn new(member: &Authority, tls: Option<TlsConfig>) -> Self {
        let host = member.host().trim_matches(['[', ']']).to_owned();
        Self { host, port: member.port_u16().unwrap_or_default(), tls, trace: Trace::default() }
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    async fn connect(self) -> io::Result<TokioIo<Traced>> {
        self.trace.tell(None);
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(config) = self.tls else { return Ok(TokioIo::new(Traced::plain(tcp, self.trace))) };
        let has_certificate = !config.cert.as_os_str().is_empty();
        let stream = handshake(config, &self.host, tcp).await.map_err(io::Error::other)?;
        Ok(TokioIo::new(Traced::tls(stream, has_certificate, self.trace)))
    }
}

async fn handshake(config: TlsConfig, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, TlsFault> {
    let name = if config.server_name.is_empty() { host } else { &config.server_name };
    let name = ServerName::try_from(name.to_owned()).map_err(|error| TlsFault::Handshake(error.to_string()))?;
    // Files can be anywhere, and slow.
    let client = tokio::task::spawn_blocking(move || tls::client(&config)).await;
    let client = client.map_err(|error| TlsFault::File(error.to_string()))?;
    let client = Arc::new(client.map_err(|error| TlsFault::File(error.to_string()))?);
    let stream = TlsConnector::from(client).connect(name, tcp).await.map_err(|error| TlsFault::of_handshake(&error))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(HTTP2) => Ok(stream),
        _ => Err(TlsFault::Handshake("it does not agree to HTTP/2".to_owned())),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Traced>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Traced>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

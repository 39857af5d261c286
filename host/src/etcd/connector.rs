//! TCP and TLS connections to a member, and what a connection that came to nothing had to tell.
//!
//! A client's certificate is refused after the handshake, and who speaks plain text to TLS hears nothing at all: both end a
//! connection of which its user only learns that it has ended. So the connection keeps what it saw, for [`Trace`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::Service;

use crate::etcd::config::TlsConfig;
use crate::etcd::tls::fault::TlsFault;
use crate::etcd::tls::{self, HTTP2};

/// What the last connection told before it ended.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Option<TlsFault>>>);

/// Makes connections to one member.
#[derive(Clone)]
pub(super) struct Connector {
    host: String,
    port: u16,
    /// `None` for plain text.
    tls: Option<TlsConfig>,
    trace: Trace,
}

/// A connection.
pub(super) struct Traced {
    inner: Inner,
    has_certificate: bool,
    has_heard: bool,
    trace: Trace,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Trace {
    pub(super) fn told(&self) -> Option<TlsFault> {
        self.0.lock().expect("nothing panics while it holds the lock").clone()
    }

    fn tell(&self, fault: Option<TlsFault>) {
        *self.0.lock().expect("nothing panics while it holds the lock") = fault;
    }
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
        let (has_certificate, inner) = match self.tls {
            None => (false, Inner::Plain(tcp)),
            Some(config) => {
                let has_certificate = !config.cert.as_os_str().is_empty();
                let stream = handshake(config, &self.host, tcp).await.map_err(io::Error::other)?;
                (has_certificate, Inner::Tls(Box::new(stream)))
            }
        };
        Ok(TokioIo::new(Traced { inner, has_certificate, has_heard: false, trace: self.trace }))
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

impl Traced {
    /// The other side has closed the connection before its first word. What it has said in place of that is on its way, and
    /// nobody would read it any more.
    fn poll_last_words(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut unread = [0; 1024];
        while !self.has_heard {
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut *self).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }

    /// The connection ends, by this error or by its end.
    fn ends(&self, error: Option<&io::Error>) {
        let fault = match (&self.inner, error.and_then(TlsFault::of_io)) {
            (Inner::Plain(_), _) if !self.has_heard => Some(TlsFault::PlainClient),
            (Inner::Tls(_), Some(TlsFault::CertificateRefused(_))) if !self.has_certificate => {
                Some(TlsFault::CertificateWanted)
            }
            (_, fault) => fault,
        };
        if fault.is_some() {
            self.trace.tell(fault);
        }
    }
}

impl AsyncRead for Traced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        });
        match &read {
            Ok(()) if buffer.filled().len() > before => self.has_heard = true,
            Ok(()) => self.ends(None),
            Err(error) => self.ends(Some(error)),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        });
        if written.is_err() {
            ready!(self.poll_last_words(context));
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        });
        if flushed.is_err() {
            ready!(self.poll_last_words(context));
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

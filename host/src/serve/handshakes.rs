//! The listener over TLS: connections whose handshake has been made, as they come.
//!
//! Each handshake is a task of its own, so that one that never ends holds up no other. Who is refused is told why by TLS, and
//! so is the log.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::tls::Credentials;
use crate::tls::fault::TlsFault;
use crate::tls::names::dns_names;

/// How long a caller may take for its handshake: what a dial may last, twice.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a caller that was refused may take to read why, and how much of its own is thrown away meanwhile. A connection
/// that is closed with something unread is reset, and the answer may be lost.
const LAST_WORD: Duration = Duration::from_secs(1);
const UNREAD: u64 = 64 << 10;

/// Connections as they come.
pub(super) struct Handshakes {
    listener: TcpListener,
    credentials: Credentials,
    running: JoinSet<Option<Secured>>,
}

/// A connection whose handshake has been made.
pub(super) struct Secured(Box<TlsStream<TcpStream>>);

impl Handshakes {
    pub fn new(listener: TcpListener, credentials: Credentials) -> Self {
        Self { listener, credentials, running: JoinSet::new() }
    }
}

impl Stream for Handshakes {
    type Item = io::Result<Secured>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Poll::Ready(accepted) = self.listener.poll_accept(context) {
            match accepted {
                Ok((stream, peer)) => {
                    let credentials = self.credentials.clone();
                    self.running.spawn(handshake(stream, peer, credentials));
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        while let Poll::Ready(Some(ended)) = self.running.poll_join_next(context) {
            match ended {
                Ok(Some(secured)) => return Poll::Ready(Some(Ok(secured))),
                // It was refused, and said so.
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a handshake's task has failed"),
            }
        }
        // The listener wakes it, or a handshake that ends.
        Poll::Pending
    }
}

async fn handshake(stream: TcpStream, peer: SocketAddr, credentials: Credentials) -> Option<Secured> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a caller went at once");
        return None;
    }
    let accept = TlsAcceptor::from(credentials.server()?).accept(stream).into_fallible();
    match tokio::time::timeout(HANDSHAKE_LIMIT, accept).await {
        Ok(Ok(stream)) => {
            show(&stream, peer, &credentials);
            Some(Secured(Box::new(stream)))
        }
        Ok(Err((error, stream))) => {
            match TlsFault::of_io(&error) {
                Some(_) => tracing::warn!(%peer, %error, "a caller was refused: no TLS connection ([tls])"),
                None => tracing::debug!(%peer, %error, "a caller broke its handshake off"),
            }
            let_read(stream).await;
            None
        }
        Err(_) => {
            tracing::debug!(%peer, limit = ?HANDSHAKE_LIMIT, "a caller did not end its handshake");
            None
        }
    }
}

/// Says in the log whom the caller's certificate makes of it.
fn show(stream: &TlsStream<TcpStream>, peer: SocketAddr, credentials: &Credentials) {
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else { return };
    let names = dns_names(certificate).unwrap_or_default();
    let roles = credentials.names().map(|template| template.roles_in(&names)).unwrap_or_default();
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    tracing::debug!(%peer, role = roles.join(","), names = names.join(","), "a caller's certificate");
}

/// The refusal is on its way: the connection is closed when the caller has read it, or closed its own side.
async fn let_read(mut stream: TcpStream) {
    let last_word = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(UNREAD), &mut tokio::io::sink()).await
    };
    // Whether it was read or not, there is nothing more to be done.
    let _ = tokio::time::timeout(LAST_WORD, last_word).await;
}

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}

//! A stream that keeps what it saw of TLS before its end, for [`Trace`].
//!
//! A client's certificate is refused after the handshake, and who speaks plain text to TLS hears nothing at all, or an alert:
//! all of them end a connection of which its user only learns that it has ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::fault::TlsFault;

/// The first byte of an alert in TLS. No HTTP/2 connection begins with it: its first frame would have more than a mebibyte.
const ALERT: u8 = 0x15;

/// What the last connection told before it ended.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Option<TlsFault>>>);

/// A connection as a client has it, with TLS or without.
pub struct Traced {
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
    /// What it told, if it has ended by a fault of TLS.
    pub fn told(&self) -> Option<TlsFault> {
        self.0.lock().expect("nothing panics while it holds the lock").clone()
    }

    pub(crate) fn tell(&self, fault: Option<TlsFault>) {
        *self.0.lock().expect("nothing panics while it holds the lock") = fault;
    }
}

impl Traced {
    /// In plain text.
    pub(crate) fn plain(stream: TcpStream, trace: Trace) -> Self {
        Self { inner: Inner::Plain(stream), has_certificate: false, has_heard: false, trace }
    }

    /// After a handshake, in which a certificate of ours was there to be shown, or none.
    pub(crate) fn tls(stream: TlsStream<TcpStream>, has_certificate: bool, trace: Trace) -> Self {
        Self { inner: Inner::Tls(Box::new(stream)), has_certificate, has_heard: false, trace }
    }

    /// Is it TLS?
    pub fn is_tls(&self) -> bool {
        matches!(self.inner, Inner::Tls(_))
    }

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
            Ok(()) if buffer.filled().len() > before => {
                let first = !std::mem::replace(&mut self.has_heard, true);
                if first && !self.is_tls() && buffer.filled()[before] == ALERT {
                    self.trace.tell(Some(TlsFault::TlsServer));
                }
            }
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        });
        if written.is_err() {
            ready!(self.poll_last_words(context));
        }
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
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

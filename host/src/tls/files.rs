//! PEM files, and what both ways of TLS are made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use super::HTTP2;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("\"{}\" cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words. They are in the text, which not everybody shows with its causes.
        reason: std::io::Error,
    },
    /// It is not what it should be.
    #[error("\"{}\" holds no {what} in PEM form", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// None is named, and the machine has none.
    #[error("is not set, and this machine has no authorities of its own that could vouch for the other side")]
    NoAuthorities,
    /// The key is another certificate's, or of a kind that is not known.
    #[error("\"{}\" is not the key of the certificate \"{}\": {reason}", key.display(), cert.display())]
    KeyOfAnother {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        cert: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// A certificate with those that lead to its authority, and its key.
pub(crate) type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(crate) fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|reason| FileError::Unreadable { path: path.to_owned(), reason })
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    certificates_in(path, &read(path)?)
}

pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    key_in(path, &read(path)?)
}

/// The certificates in a text that was read from this file.
pub(super) fn certificates_in(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| FileError::NotPem { path: path.to_owned(), what: "certificate" })
}

/// The key in a text that was read from this file.
pub(super) fn key_in(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    // The error could hold a part of what is in the file.
    let found = PrivateKeyDer::from_pem_slice(text);
    found.map_err(|_| FileError::NotPem { path: path.to_owned(), what: "private key" })
}

/// Those who may vouch for the other side: those of this file, or this machine's where none is named.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    if is_set(path) {
        return authorities_of(path, certificates(path)?);
    }
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs) {
        (0, _) => Err(FileError::NoAuthorities),
        _ => Ok(roots),
    }
}

/// Those of a file that was read.
pub(super) fn authorities_of(path: &Path, read: Vec<CertificateDer<'static>>) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    // Bundles hold old ones too, which nobody can use.
    match roots.add_parsable_certificates(read) {
        (0, _) => Err(FileError::NotPem { path: path.to_owned(), what: "authority's certificate" }),
        _ => Ok(roots),
    }
}

/// A client that speaks HTTP/2, with a certificate of its own or without.
pub(crate) fn client(roots: RootCertStore, own: Option<Own>) -> Result<ClientConfig, Error> {
    let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = versions.expect("ring knows the versions of TLS").with_root_certificates(roots);
    let mut client = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder.with_client_auth_cert(cert, key)?,
    };
    client.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(client)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

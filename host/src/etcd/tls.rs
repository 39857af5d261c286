//! TLS to etcd: the files that are configured, read for each connection.
//!
//! What can go wrong in a handshake is in [`fault`].

pub mod fault;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::etcd::config::TlsConfig;

/// HTTP/2, as TLS names it.
pub(super) const HTTP2: &[u8] = b"h2";

/// A file of `[etcd.tls]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("\"{}\" cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It is not what it should be.
    #[error("\"{}\" holds no {what} in PEM form", path.display())]
    NotPem { path: PathBuf, what: &'static str },
    /// None is named, and the machine has none.
    #[error("is not set, and this machine has no authorities of its own that could vouch for etcd")]
    NoAuthorities,
    /// The key is another certificate's, or of a kind that is not known.
    #[error("\"{}\" is not the key of the certificate \"{}\": {reason}", key.display(), cert.display())]
    KeyOfAnother { key: PathBuf, cert: PathBuf, reason: String },
}

/// All mistakes, as key in `[etcd]` and text.
pub(super) fn mistakes(config: &TlsConfig) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    let (has_cert, has_key) = (is_set(&config.cert), is_set(&config.key));
    let ca = is_set(&config.ca).then(|| certificates(&config.ca)).transpose();
    let cert = match has_cert || !has_key {
        true => has_cert.then(|| certificates(&config.cert)).transpose().map_err(|error| error.to_string()),
        false => Err("is not set, and tls.key is: a key is of no use without its certificate".to_owned()),
    };
    let key = match has_key || !has_cert {
        true => has_key.then(|| key(&config.key)).transpose().map_err(|error| error.to_string()),
        false => Err("is not set, and tls.cert is: a certificate is of no use without its key".to_owned()),
    };
    mistakes.extend(ca.err().map(|error| ("tls.ca", error.to_string())));
    mistakes.extend(cert.err().map(|error| ("tls.cert", error)));
    mistakes.extend(key.err().map(|error| ("tls.key", error)));
    if !config.server_name.is_empty() && ServerName::try_from(config.server_name.as_str()).is_err() {
        mistakes.push(("tls.server_name", format!("\"{}\" is no name of a host", config.server_name)));
    }
    // What only shows when all is put together.
    if mistakes.is_empty()
        && let Err(error) = client(config)
    {
        mistakes.push((if has_cert { "tls.key" } else { "tls.ca" }, error.to_string()));
    }
    mistakes
}

/// Reads the files, and says how connections are made with them.
///
/// # Errors
///
/// The first that cannot be used.
pub(super) fn client(config: &TlsConfig) -> Result<ClientConfig, FileError> {
    let mut roots = RootCertStore::empty();
    let authorities = match is_set(&config.ca) {
        true => certificates(&config.ca)?,
        false => rustls_native_certs::load_native_certs().certs,
    };
    // Bundles hold old ones too, which nobody can use.
    let (usable, _) = roots.add_parsable_certificates(authorities);
    if usable == 0 {
        return Err(match is_set(&config.ca) {
            true => FileError::NotPem { path: config.ca.clone(), what: "authority's certificate" },
            false => FileError::NoAuthorities,
        });
    }
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.expect("ring knows the versions of TLS").with_root_certificates(roots);
    let mut client = match is_set(&config.cert) {
        false => builder.with_no_client_auth(),
        true => {
            let (cert, key) = (certificates(&config.cert)?, key(&config.key)?);
            builder.with_client_auth_cert(cert, key).map_err(|error| FileError::KeyOfAnother {
                key: config.key.clone(),
                cert: config.cert.clone(),
                reason: error.to_string(),
            })?
        }
    };
    client.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(client)
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| FileError::NotPem { path: path.to_owned(), what: "certificate" })
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    // The error could hold a part of what is in the file.
    let found = PrivateKeyDer::from_pem_slice(&read(path)?);
    found.map_err(|_| FileError::NotPem { path: path.to_owned(), what: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

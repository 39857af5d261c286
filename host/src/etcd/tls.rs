//! TLS to etcd: the files that are configured, read for each connection.
//!
//! Handshakes are tonic's, by rustls. What can go wrong in one is in [`fault`].

pub mod fault;

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::etcd::config::TlsConfig;

/// A file of `[etcd.tls]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("\"{}\" cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It is not what it should be.
    #[error("\"{}\" holds no {what} in PEM form", path.display())]
    NotPem { path: PathBuf, what: &'static str },
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
    if mistakes.is_empty()
        && let Err(error) = as_a_whole(config)
    {
        mistakes.push((if has_cert { "tls.key" } else { "tls.ca" }, error));
    }
    mistakes
}

/// What only shows when all is put together: a key of another certificate, a machine that knows no authority.
fn as_a_whole(config: &TlsConfig) -> Result<(), String> {
    let settings = read(config).map_err(|error| error.to_string())?;
    let endpoint = Endpoint::from_static("https://etcd").tls_config(settings);
    endpoint.map(drop).map_err(|error| format!("cannot be used: {}", plugin_api::error::chain(&error)))
}

/// Reads the files.
///
/// # Errors
///
/// The first that cannot be used.
pub(super) fn read(config: &TlsConfig) -> Result<ClientTlsConfig, FileError> {
    let settings = ClientTlsConfig::new();
    let settings = match is_set(&config.ca) {
        true => settings.ca_certificate(Certificate::from_pem(certificates(&config.ca)?)),
        false => settings.with_native_roots(),
    };
    let settings = match is_set(&config.cert) {
        true => settings.identity(Identity::from_pem(certificates(&config.cert)?, key(&config.key)?)),
        false => settings,
    };
    Ok(match config.server_name.is_empty() {
        true => settings,
        false => settings.domain_name(&config.server_name),
    })
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn certificates(path: &Path) -> Result<Vec<u8>, FileError> {
    let text = read_file(path)?;
    let mut found = CertificateDer::pem_slice_iter(&text).peekable();
    let good = found.peek().is_some() && found.all(|each| each.is_ok());
    if good { Ok(text) } else { Err(FileError::NotPem { path: path.to_owned(), what: "certificate" }) }
}

fn key(path: &Path) -> Result<Vec<u8>, FileError> {
    let text = read_file(path)?;
    // The error could hold a part of what is in the file.
    let found = PrivateKeyDer::from_pem_slice(&text);
    if found.is_ok() { Ok(text) } else { Err(FileError::NotPem { path: path.to_owned(), what: "private key" }) }
}

fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

//! TLS to etcd: the files that are configured, read for each connection.

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::etcd::config::TlsConfig;
use crate::tls::files::{self, FileError, authorities, certificates, is_set, key};

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
    let roots = authorities(&config.ca)?;
    let own = is_set(&config.cert).then(|| Ok((certificates(&config.cert)?, key(&config.key)?))).transpose()?;
    files::client(roots, own).map_err(|error| FileError::KeyOfAnother {
        key: config.key.clone(),
        cert: config.cert.clone(),
        reason: error.to_string(),
    })
}

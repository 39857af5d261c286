//! The way to the host that is called: as hosts call one another, over TLS where the configuration or the options have it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use super::{CallArguments, CallError};
use crate::config::Config;
use crate::tls::connect;
use crate::tls::names::Names;
use crate::tls::stream::Trace;
use crate::tls::{Security, TlsConfig};

/// The most that connecting may take; `--timeout` counts for each of the steps as well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the host. The trace tells what goes wrong with TLS after the handshake.
pub(super) async fn connect(
    arguments: &CallArguments,
    config: Option<&Config>,
    address: &str,
) -> Result<(Channel, Trace), CallError> {
    let security = Security::of_client(&tls_config(arguments, config)?)?;
    let (role, trace) = (arguments.role.clone(), Trace::default());
    let traced = trace.clone();
    let to = address.to_owned();
    // tonic wraps it twice, with the same words each time: it is taken from here.
    let failed = Arc::new(Mutex::new(None));
    let fails = Arc::clone(&failed);
    let connector = tower::service_fn(move |_| {
        let (to, role, security, trace) = (to.clone(), role.clone(), security.clone(), traced.clone());
        let fails = Arc::clone(&fails);
        async move {
            let connected = connect::connect(&to, &role, &security, &trace).await;
            connected.map(TokioIo::new).map_err(|error| {
                *fails.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                std::io::Error::other("no connection")
            })
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| CallError::Address { address: address.to_owned(), source })?;
    let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect_with_connector(connector).await;
    let channel = connected.map_err(|source| match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => CallError::Unreachable(error),
        None => CallError::Connect { address: address.to_owned(), source },
    })?;
    Ok((channel, trace))
}

/// What the configuration has of TLS, and what options put in its place.
fn tls_config(arguments: &CallArguments, config: Option<&Config>) -> Result<TlsConfig, CallError> {
    let mut tls = config.map(|config| config.tls.clone()).unwrap_or_default();
    if arguments.plain_text {
        tls = TlsConfig { plain_text: true, ..TlsConfig::default() };
    }
    if let Some(ca) = &arguments.ca {
        tls.ca = ca.clone();
    }
    if let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) {
        (tls.cert, tls.key) = (cert.clone(), key.clone());
    }
    if let Some(names) = &arguments.names {
        Names::parse(names).map_err(CallError::Names)?;
        tls.names = names.clone();
    }
    Ok(tls)
}

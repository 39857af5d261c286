//! How this host speaks with others: the files of `[tls]` as they are now, read again when they change.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::error::chain;
use plugin_api::identity::Role;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::HTTP2;
use super::callers::Callers;
use super::config::TlsConfig;
use super::files::{self, FileError, authorities, authorities_of, certificates, certificates_in, is_set, key, key_in};
use super::names::Names;

/// How often the files are looked at: soon after they are renewed, and it costs three short reads.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How hosts speak with one another.
#[derive(Clone, Debug)]
pub enum Security {
    /// In plain text: on this machine, and beyond it only where that is allowed.
    Plain {
        /// It is allowed.
        beyond_this_machine: bool,
    },
    /// TLS.
    Tls(Credentials),
}

/// What TLS is made of. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub struct Credentials {
    loaded: watch::Receiver<Arc<Loaded>>,
    names: Option<Names>,
    mutual: bool,
    has_certificate: bool,
}

/// The files, ready for use.
#[derive(Debug)]
pub(super) struct Loaded {
    client: Arc<ClientConfig>,
    /// `None` for a program that only calls.
    server: Option<Arc<ServerConfig>>,
}

/// What is in the files: another one is another text.
type Fingerprint = [u8; 32];

/// Looks at the files again and again: to be run for as long as the credentials are used.
pub struct Reload {
    config: TlsConfig,
    loaded: watch::Sender<Arc<Loaded>>,
    changes: Changes,
}

impl Security {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// The first that cannot be used.
    pub fn of(config: &TlsConfig) -> Result<(Self, Option<Reload>), FileError> {
        if !config.is_set() {
            return Ok((Self::Plain { beyond_this_machine: config.plain_text }, None));
        }
        let (fingerprint, loaded) = Loaded::read(config)?;
        let (sender, receiver) = watch::channel(Arc::new(loaded));
        let changes = Changes { in_use: fingerprint, broken: None };
        Ok((
            Self::Tls(Credentials::new(receiver, config)),
            Some(Reload { config: config.clone(), loaded: sender, changes }),
        ))
    }

    /// Reads the files once, for a program that only calls: it may have no certificate of its own.
    ///
    /// # Errors
    ///
    /// As [`Security::of`].
    pub fn of_client(config: &TlsConfig) -> Result<Self, FileError> {
        if !config.is_set() {
            return Ok(Self::Plain { beyond_this_machine: config.plain_text });
        }
        Ok(Self::Tls(Credentials::new(watch::channel(Arc::new(Loaded::client_only(config)?)).1, config)))
    }

    /// In plain text, and on this machine only.
    pub fn plain() -> Self {
        Self::Plain { beyond_this_machine: false }
    }

    /// Must every caller show a certificate?
    pub fn is_mutual(&self) -> bool {
        matches!(self, Self::Tls(credentials) if credentials.mutual)
    }

    /// Returns when the files have changed since this was made, or since it returned last.
    ///
    /// # Cancel safety
    ///
    /// No change is lost.
    pub async fn renewed(&mut self) {
        if let Self::Tls(credentials) = self
            && credentials.loaded.changed().await.is_ok()
        {
            return;
        }
        // They never will.
        std::future::pending().await
    }
}

impl Credentials {
    fn new(loaded: watch::Receiver<Arc<Loaded>>, config: &TlsConfig) -> Self {
        // A template that is wrong is a mistake of the configuration, and said there.
        let names = Names::parse(&config.names).ok().flatten();
        Self { loaded, names, mutual: config.mutual, has_certificate: is_set(&config.cert) }
    }

    /// For a connection that is made now.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.loaded.borrow().client)
    }

    /// For a connection that is accepted now; `None` in a program that only calls.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.loaded.borrow().server.clone()
    }

    /// Is there a certificate to be shown to who is called?
    pub(super) fn has_certificate(&self) -> bool {
        self.has_certificate
    }

    /// The names that certificates have, where they are configured.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// What the certificate of this role at this host must be for.
    pub(super) fn server_name(&self, role: &Role, host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match &self.names {
            Some(names) => ServerName::try_from(names.of(role)),
            None => ServerName::try_from(host.to_owned()),
        }
    }
}

impl Loaded {
    /// Reads all files.
    pub(super) fn read(config: &TlsConfig) -> Result<(Fingerprint, Self), FileError> {
        let mut digest = Sha256::new();
        let mut read = |path| {
            let text = files::read(path)?;
            digest.update(Sha256::digest(&text));
            Ok(text)
        };
        let roots = match is_set(&config.ca) {
            true => authorities_of(&config.ca, certificates_in(&config.ca, &read(&config.ca)?)?)?,
            false => authorities(&config.ca)?,
        };
        let certificate = certificates_in(&config.cert, &read(&config.cert)?)?;
        let key = key_in(&config.key, &read(&config.key)?)?;
        let of_another = |error| key_of_another(config, &error);
        // A session that is taken up again would not be verified anew.
        let mut client =
            files::client(roots.clone(), Some((certificate.clone(), key.clone_key()))).map_err(of_another)?;
        client.resumption = Resumption::disabled();
        let server = ServerConfig::builder_with_provider(files::provider()).with_safe_default_protocol_versions();
        let server = server.expect("ring knows the versions of TLS");
        let server = match config.mutual {
            true => server.with_client_cert_verifier(Arc::new(callers(config, roots)?)),
            false => server.with_no_client_auth(),
        };
        let mut server = server.with_single_cert(certificate, key).map_err(of_another)?;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let fingerprint = digest.finalize().into();
        Ok((fingerprint, Self { client: Arc::new(client), server: Some(Arc::new(server)) }))
    }
}

impl Loaded {
    /// Reads what a program needs that only calls, once.
    fn client_only(config: &TlsConfig) -> Result<Self, FileError> {
        let own = is_set(&config.cert).then(|| Ok((certificates(&config.cert)?, key(&config.key)?))).transpose()?;
        let client = files::client(authorities(&config.ca)?, own).map_err(|error| key_of_another(config, &error))?;
        Ok(Self { client: Arc::new(client), server: None })
    }
}

fn key_of_another(config: &TlsConfig, error: &tokio_rustls::rustls::Error) -> FileError {
    FileError::KeyOfAnother { key: config.key.clone(), cert: config.cert.clone(), reason: error.to_string() }
}

fn callers(config: &TlsConfig, roots: RootCertStore) -> Result<Callers, FileError> {
    let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), files::provider()).build();
    let authorities =
        authorities.map_err(|_| FileError::NotPem { path: config.ca.clone(), what: "authority's certificate" })?;
    Ok(Callers { authorities, names: Names::parse(&config.names).ok().flatten() })
}

impl Reload {
    /// Looks for ever. New connections are made with what it finds, those that are there stay.
    ///
    /// # Cancel safety
    ///
    /// What was found last stays.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let config = self.config.clone();
            // Files can be anywhere, and slow.
            let Ok(read) = tokio::task::spawn_blocking(move || Loaded::read(&config)).await else { continue };
            match self.changes.judge(read.map_err(|error| chain(&error))) {
                Verdict::Nothing => {}
                Verdict::Renewed(loaded) => {
                    self.loaded.send_replace(Arc::new(loaded));
                    tracing::info!(cert = %self.config.cert.display(), "certificates were renewed: new connections use them");
                }
                Verdict::Broken(error) => {
                    tracing::warn!(error, "the new files of [tls] cannot be used: those before them stay in use");
                }
            }
        }
    }
}

/// What has become of the files, without I/O.
struct Changes {
    in_use: Fingerprint,
    /// What is wrong with the present ones, and whether it was said.
    broken: Option<(String, bool)>,
}

#[derive(Debug, PartialEq)]
enum Verdict<T> {
    Nothing,
    /// They are others, and can be used.
    Renewed(T),
    /// They cannot be used: to be said, once for each change.
    Broken(String),
}

impl Changes {
    fn judge<T>(&mut self, read: Result<(Fingerprint, T), String>) -> Verdict<T> {
        match (read, &mut self.broken) {
            (Ok((found, loaded)), broken) => {
                *broken = None;
                if found == self.in_use {
                    return Verdict::Nothing;
                }
                self.in_use = found;
                Verdict::Renewed(loaded)
            }
            (Err(error), Some((known, said))) if *known == error => {
                if std::mem::replace(said, true) {
                    Verdict::Nothing
                } else {
                    Verdict::Broken(error)
                }
            }
            // A certificate and its key are seldom renewed in one moment: what is broken now may be whole at the next look.
            (Err(error), broken) => {
                *broken = Some((error, false));
                Verdict::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_broken_is_said_once_and_what_is_whole_is_taken() {
        let mut changes = Changes { in_use: [1; 32], broken: None };
        let wrong = |text: &str| Err::<(Fingerprint, u8), _>(text.to_owned());
        let said = |text: &str| Verdict::Broken(text.to_owned());
        assert_eq!(changes.judge(Ok(([1; 32], 1))), Verdict::Nothing);
        // Between two files.
        assert_eq!(changes.judge(wrong("a")), Verdict::Nothing);
        assert_eq!(changes.judge(Ok(([2; 32], 2))), Verdict::Renewed(2));
        assert_eq!(changes.judge(Ok(([2; 32], 2))), Verdict::Nothing);
        let told: Vec<_> = (0..4).map(|_| changes.judge(wrong("b"))).collect();
        assert_eq!(told, [Verdict::Nothing, said("b"), Verdict::Nothing, Verdict::Nothing]);
        assert_eq!([changes.judge(wrong("c")), changes.judge(wrong("c"))], [Verdict::Nothing, said("c")]);
        assert_eq!(changes.judge(Ok(([3; 32], 3))), Verdict::Renewed(3));
    }
}

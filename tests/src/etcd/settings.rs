//! How an etcd of the tests is started.

use std::path::PathBuf;
use std::time::Duration;

use crate::binary::embedded_etcd;
use crate::etcd::certificates::Certificates;

/// How its members are started, and how many.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between the leader's heartbeats.
    pub heartbeat: Duration,
    /// Time without a heartbeat until an election. The least TTL of a lease is 1.5 times this, rounded up to seconds.
    pub election: Duration,
    /// How many members it has: 1, 3 or 5.
    pub members: usize,
    /// A [`Proxy`](crate::proxy::Proxy) stands between the hosts and each member.
    pub proxied: bool,
    /// Hosts are served over TLS.
    pub tls: Option<Tls>,
    /// The password of the user `root`: without user and password nothing is allowed.
    pub root_password: Option<String>,
    /// What a login is answered with.
    pub token: Token,
    /// The embedded etcd takes the part of Debian's, in a process of its own.
    pub embedded: bool,
}

/// `embedded` has the embedded etcd run where it can: one member, without TLS and users.
const CHOICE: &str = "TESTS_ETCD";

/// How hosts are served over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Clients without a certificate of the members' own authority are refused.
    pub client_auth: bool,
}

/// What a login is answered with, for so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word that the member remembers, until it is restarted. Each use prolongs it.
    Simple(u32),
    /// A signed text that names the revision of users and permissions: any change of these makes it old.
    Signed(u32),
}

impl Default for Settings {
    /// One member without TLS, users and proxy, quick: it answers after 50 to 130 ms, and allows leases of 1 s.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(10),
            election: Duration::from_millis(100),
            members: 1,
            proxied: false,
            tls: None,
            root_password: None,
            token: Token::Simple(300),
            embedded: std::env::var(CHOICE).is_ok_and(|choice| choice == "embedded"),
        }
    }
}

impl Settings {
    /// Three members behind proxies. An election takes long enough that a busy machine begins none by itself, and a lease
    /// may still live for 1 s.
    pub fn three_members() -> Self {
        let (heartbeat, election) = (Duration::from_millis(50), Duration::from_millis(500));
        Self { heartbeat, election, members: 3, proxied: true, embedded: false, ..Self::default() }
    }

    /// The same behind proxies.
    #[must_use]
    pub fn proxied(self) -> Self {
        Self { proxied: true, ..self }
    }

    /// The same over TLS.
    #[must_use]
    pub fn tls(self, client_auth: bool) -> Self {
        Self { tls: Some(Tls { client_auth }), embedded: false, ..self }
    }

    /// The same with users; `root` has this password.
    #[must_use]
    pub fn users(self, root_password: &str) -> Self {
        Self { root_password: Some(root_password.to_owned()), embedded: false, ..self }
    }

    /// The same with these tokens.
    #[must_use]
    pub fn token(self, token: Token) -> Self {
        Self { token, ..self }
    }

    /// The program that is etcd.
    pub(super) fn program(&self) -> PathBuf {
        if self.embedded { embedded_etcd() } else { PathBuf::from("etcd") }
    }

    /// etcd's flags for all of it.
    pub(super) fn flags(&self, certificates: Option<&Certificates>) -> Vec<String> {
        let mut flags = vec![
            format!("--heartbeat-interval={}", self.heartbeat.as_millis()),
            format!("--election-timeout={}", self.election.as_millis()),
            // What nobody asks here need not run.
            "--enable-grpc-gateway=false".to_owned(),
        ];
        if let (Some(tls), Some(certificates)) = (self.tls, certificates) {
            flags.push(format!("--cert-file={}", certificates.server.certificate.display()));
            flags.push(format!("--key-file={}", certificates.server.key.display()));
            if tls.client_auth {
                flags.push(format!("--trusted-ca-file={}", certificates.authority.display()));
                flags.push("--client-cert-auth".to_owned());
            }
        }
        if self.root_password.is_some() {
            flags.extend(self.token.flags());
        }
        flags
    }
}

impl Token {
    fn flags(self) -> Vec<String> {
        match self {
            Self::Simple(seconds) => vec![format!("--auth-token-ttl={seconds}")],
            // Any file is a key for this method; this one is there wherever etcd runs.
            Self::Signed(seconds) => {
                vec![format!("--auth-token=jwt,sign-method=HS256,priv-key=/proc/version,ttl={seconds}s")]
            }
        }
    }
}

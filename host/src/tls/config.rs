//! Section `[tls]`: TLS between hosts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use plugin_api::identity::Role;
use serde::{Deserialize, Serialize};

use super::credentials::Loaded;
use super::files::{FileError, authorities, certificates, is_set, key};
use super::names::{Names, dns_names};

/// Section `[tls]`. All files are PEM, and are read again when they change. One that is set means TLS, on the listener and on
/// every link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The authorities that may vouch for other hosts. Default "": without `mutual` those of this machine.
    pub ca: PathBuf,
    /// Our certificate, for both ways: who is called shows it, and who calls. Default "": none, and no TLS.
    pub cert: PathBuf,
    /// Its key. Default "": none.
    pub key: PathBuf,
    /// Must who calls show a certificate? Default true.
    pub mutual: bool,
    /// The DNS name that a host's certificate must have for its role, such as `{role}.blue.example`. Default "": who is
    /// called must have the host of its address, and who calls any name.
    pub names: String,
    /// May calls leave this machine, or come from without, in plain text? Default false.
    pub plain_text: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            mutual: true,
            names: String::new(),
            plain_text: false,
        }
    }
}

impl TlsConfig {
    /// Is it TLS?
    pub fn is_set(&self) -> bool {
        is_set(&self.ca) || is_set(&self.cert) || is_set(&self.key)
    }

    /// All values that cannot be used, as key and text. Files that are named are read.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if let Err(text) = Names::parse(&self.names) {
            mistakes.push(("names", text));
        }
        if !self.is_set() {
            if !self.names.is_empty() {
                mistakes
                    .push(("names", "is set, and there is no TLS: tls.ca, tls.cert and tls.key make it".to_owned()));
            }
            return mistakes;
        }
        if self.plain_text {
            mistakes.push(("plain_text", "is true, and TLS is set, too: only one of them can be meant".to_owned()));
        }
        let ca = match (is_set(&self.ca), self.mutual) {
            (true, _) => authorities(&self.ca).map(drop),
            (false, true) => Err(FileError::NoAuthorities),
            (false, false) => authorities(&self.ca).map(drop),
        };
        match ca {
            Err(FileError::NoAuthorities) if self.mutual => mistakes.push((
                "ca",
                "is not set: with tls.mutual it has to say which authorities vouch for who calls".to_owned(),
            )),
            Err(error) => mistakes.push(("ca", error.to_string())),
            Ok(()) => {}
        }
        let missing = || "is not set: every host is called, and shows a certificate then".to_owned();
        for (name, path, read) in
            [("cert", &self.cert, certificates(&self.cert).map(drop)), ("key", &self.key, key(&self.key).map(drop))]
        {
            match read {
                _ if !is_set(path) => mistakes.push((name, missing())),
                Err(error) => mistakes.push((name, error.to_string())),
                Ok(()) => {}
            }
        }
        // What only shows when all is put together.
        if mistakes.is_empty()
            && let Err(error) = Loaded::read(self)
        {
            mistakes.push(("key", error.to_string()));
        }
        mistakes
    }

    /// Roles of this host for which its certificate has no name: text for `tls.cert`. Where a file cannot be read there is
    /// nothing to be said; [`TlsConfig::mistakes`] says that.
    pub fn mistake_in_names(&self, roles: impl IntoIterator<Item = Role>) -> Option<String> {
        let names = Names::parse(&self.names).ok()??;
        let own = certificates(&self.cert).ok()?;
        let has = dns_names(own.first()?).unwrap_or_default();
        let needed = roles.into_iter().map(|role| names.of(&role));
        let missing: Vec<String> = needed.filter(|name| !has.iter().any(|has| covers(has, name))).collect();
        let (missing, has) = (missing.join(", "), has.join(", "));
        (!missing.is_empty()).then(|| {
            let cert = self.cert.display();
            format!("\"{cert}\" has no DNS name {missing}, by which others call this host (tls.names); it has: {has}")
        })
    }
}

/// Does a certificate's name stand for this one? A star stands for a first label.
fn covers(has: &str, name: &str) -> bool {
    let star = has.strip_prefix("*.").zip(name.split_once('.'));
    has.eq_ignore_ascii_case(name) || star.is_some_and(|(has, (_, name))| has.eq_ignore_ascii_case(name))
}

/// What is wrong with an address that is served or called in plain text: text, if it is beyond this machine.
pub fn beyond_this_machine(address: &str) -> Option<String> {
    let text = || {
        format!(
            "{address} can be reached from other machines, and there is no TLS: set tls.ca, tls.cert and tls.key, or \
             tls.plain_text = true where everybody on the network may be trusted"
        )
    };
    (!is_loopback(address)).then(text)
}

/// A name counts as loopback where it is `localhost`.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    address
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| host.parse::<IpAddr>())
        .map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for address in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(beyond_this_machine(address), None, "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.5:1", "querynode-3:1", "localhost.example:1"] {
            assert!(beyond_this_machine(address).is_some_and(|text| text.starts_with(address)), "{address}");
        }
    }

    #[test]
    fn every_mistake_is_reported() {
        let keys = |config: &TlsConfig| config.mistakes().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(&TlsConfig::default()), [""; 0]);
        let none = PathBuf::from("/none.pem");
        let lost = TlsConfig { ca: none.clone(), cert: none.clone(), key: none.clone(), ..TlsConfig::default() };
        assert_eq!(keys(&lost), ["ca", "cert", "key"]);
        let half = TlsConfig { cert: none, plain_text: true, names: "{role}".to_owned(), ..TlsConfig::default() };
        assert_eq!(keys(&half), ["names", "plain_text", "ca", "cert", "key"]);
        let nothing = TlsConfig { names: "{role}.blue.example".to_owned(), ..TlsConfig::default() };
        assert_eq!(keys(&nothing), ["names"]);
    }
}

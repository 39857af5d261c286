//! An authority of a test's own, and the certificates of hosts that it signs: good ones, and such as must be refused.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::config::HostConfig;
use crate::etcd::Signed;

/// The template of the names in `[tls]` that these certificates are for.
pub const NAMES: &str = "{role}.blue.example";

/// An authority. Its files are removed on drop.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    ///
    /// Where no temporary directory can be written.
    pub fn new(name: &str) -> Self {
        let directory = TempDir::with_prefix("componenthost-test-tls-").expect("a temporary directory can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name}, for one test"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("an authority can sign itself");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("a temporary directory is writable");
        Self { issuer, directory }
    }

    /// The file of its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for these names and addresses, in files of that name; those that are there are overwritten.
    pub fn sign(&self, file: &str, names: &[&str]) -> Signed {
        self.sign_with(file, names, |_| {})
    }

    /// One whose time is over.
    pub fn sign_expired(&self, file: &str, names: &[&str]) -> Signed {
        self.sign_with(file, names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        })
    }

    /// A certificate for a host with these roles.
    pub fn host(&self, roles: &[&str]) -> Signed {
        let names: Vec<String> = roles.iter().map(|role| NAMES.replace("{role}", role)).collect();
        self.sign(&roles.join("+"), &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn sign_with(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("these are names of hosts");
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority can sign");
        Signed {
            certificate: self.write(&format!("{file}.pem"), &certificate.pem()),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a temporary directory is writable");
        path
    }
}

impl HostConfig {
    /// The same with TLS between hosts: this certificate, and names by [`NAMES`].
    #[must_use]
    pub fn tls(self, authority: &Authority, own: &Signed) -> Self {
        let path = |path: &Path| Value::from(path.display().to_string());
        self.set("tls.ca", path(&authority.file()))
            .set("tls.cert", path(&own.certificate))
            .set("tls.key", path(&own.key))
            .set("tls.names", NAMES)
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("this machine can make keys")
}

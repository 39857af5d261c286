//! Certificates for an etcd of the tests, made anew for each: an authority, a server's, a client's, and strangers.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// The files of one etcd, PEM each.
pub struct Certificates {
    /// The authority that has signed all but the strangers.
    pub authority: PathBuf,
    /// The members', for `127.0.0.1` and `localhost`.
    pub server: Signed,
    /// A client's. Its common name is `root`: with users, etcd takes that for the user.
    pub client: Signed,
    /// An authority that has signed nothing of these.
    pub other_authority: PathBuf,
    /// A client's, by the other authority.
    pub stranger: Signed,
    _directory: TempDir,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    /// New ones.
    ///
    /// # Panics
    ///
    /// Where no temporary directory can be written.
    pub(super) fn make() -> Self {
        let directory = TempDir::with_prefix("componenthost-test-tls-").expect("a temporary directory can be made");
        let path = directory.path();
        let (ours, other) = (authority("ours"), authority("another"));
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        Self {
            authority: write(path, "authority.pem", &ours.pem()),
            server: sign(path, "server", "etcd", server, &ours),
            client: sign(path, "client", "root", client.clone(), &ours),
            other_authority: write(path, "other-authority.pem", &other.pem()),
            stranger: sign(path, "stranger", "root", client, &other),
            _directory: directory,
        }
    }
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name}, for one test"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, new_key()).expect("an authority can sign itself")
}

fn sign(directory: &Path, file: &str, name: &str, usage: ExtendedKeyUsagePurpose, by: &Authority) -> Signed {
    let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(hosts).expect("these are names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let key = new_key();
    let certificate = params.signed_by(&key, by).expect("an authority can sign");
    Signed {
        certificate: write(directory, &format!("{file}.pem"), &certificate.pem()),
        key: write(directory, &format!("{file}.key"), &key.serialize_pem()),
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("this machine can make keys")
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a temporary directory is writable");
    path
}

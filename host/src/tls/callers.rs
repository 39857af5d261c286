//! Who may call: an authority vouches for them and, where names are configured, their certificate is for a role.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::names::{Names, dns_names};

/// The usual rules, and then the names.
pub(super) struct Callers {
    pub authorities: Arc<dyn ClientCertVerifier>,
    pub names: Option<Names>,
}

/// A certificate that is for no role.
#[derive(Debug, thiserror::Error)]
#[error("the caller's certificate is for no role: it has the names [{has}], and none is like {template} (tls.names)")]
struct NoRole {
    has: String,
    template: String,
}

impl fmt::Debug for Callers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callers").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.authorities.verify_client_cert(end_entity, intermediates, now)?;
        let Some(names) = &self.names else { return Ok(verified) };
        let has = dns_names(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if names.roles_in(&has).is_empty() {
            let none = NoRole { has: has.join(", "), template: names.template() };
            return Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(none)))));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

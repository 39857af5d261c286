//! What went wrong in a TLS handshake, read off rustls' errors.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why there is no TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Nobody who is trusted vouches for the member.
    #[error("its certificate is of an authority that is not trusted (etcd.tls.ca; without it, those of this machine)")]
    UnknownAuthority,
    /// The member is somebody else.
    #[error("its certificate is not for the name that it was called by; etcd.tls.server_name can say another: {0}")]
    WrongName(String),
    /// The member's certificate is not good for another reason, such as its time.
    #[error("its certificate is not good: {0}")]
    BadCertificate(String),
    /// What answers speaks no TLS.
    #[error("it does not speak TLS: the endpoint may be http://")]
    PlainServer,
    /// The member wants TLS and was spoken to in plain text.
    #[error("it ends a connection in plain text at once: it may want https://")]
    PlainClient,
    /// The member takes nobody without a certificate.
    #[error("it wants a certificate from its clients (etcd.tls.cert, etcd.tls.key)")]
    CertificateWanted,
    /// The member does not take our certificate.
    #[error("it does not take our certificate (etcd.tls.cert): {0}")]
    CertificateRefused(String),
    /// Files that are configured.
    #[error("{0}")]
    File(String),
    /// Another failure of the handshake.
    #[error("{0}")]
    Handshake(String),
}

impl TlsFault {
    pub(in crate::etcd) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            // What came was no record of TLS.
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainServer,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::Handshake(other.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName(error.to_string())
            }
            other => Self::BadCertificate(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::CertificateWanted,
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => Self::CertificateRefused(format!("{alert:?}")),
            other => Self::Handshake(format!("it ended the handshake: {other:?}")),
        }
    }

    /// The fault in a text of rustls': in TLS 1.3 a client's certificate is refused after the handshake, when only h2's
    /// errors are left, which keep the text alone.
    pub(in crate::etcd) fn in_text(text: &str) -> Option<Self> {
        let (_, alert) = text.split_once("received fatal alert: ")?;
        let name: String = alert.chars().take_while(char::is_ascii_alphabetic).collect();
        let known = [
            AlertDescription::CertificateRequired,
            AlertDescription::BadCertificate,
            AlertDescription::UnknownCA,
            AlertDescription::AccessDenied,
            AlertDescription::CertificateUnknown,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateRevoked,
            AlertDescription::UnsupportedCertificate,
        ];
        known.into_iter().find(|alert| format!("{alert:?}") == name).map(Self::of_alert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_apart() {
        let of = |error| TlsFault::of(&Error::InvalidCertificate(error));
        assert_eq!(of(CertificateError::UnknownIssuer), TlsFault::UnknownAuthority);
        assert!(matches!(of(CertificateError::NotValidForName), TlsFault::WrongName(_)));
        assert!(matches!(of(CertificateError::Expired), TlsFault::BadCertificate(_)));
        assert_eq!(TlsFault::of(&InvalidMessage::InvalidContentType.into()), TlsFault::PlainServer);
    }

    #[test]
    fn a_refusal_is_found_in_a_text() {
        for (alert, fault) in [
            (AlertDescription::CertificateRequired, TlsFault::CertificateWanted),
            (AlertDescription::UnknownCA, TlsFault::CertificateRefused("UnknownCA".to_owned())),
        ] {
            let error = Error::AlertReceived(alert);
            assert_eq!(TlsFault::of(&error), fault);
            assert_eq!(TlsFault::in_text(&format!("connection error: {error}: x")), Some(fault));
        }
        assert_eq!(TlsFault::in_text("received fatal alert: HandshakeFailure"), None);
        assert_eq!(TlsFault::in_text("connection reset"), None);
    }
}

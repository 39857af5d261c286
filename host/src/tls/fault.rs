//! What went wrong in a TLS handshake, read off rustls' errors.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why there is no TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Nobody who is trusted vouches for the other side.
    #[error("its certificate is of an authority that is not trusted (ca)")]
    UnknownAuthority,
    /// The other side is somebody else.
    #[error("its certificate is not for the name that it was called by: {0}")]
    WrongName(String),
    /// Its certificate is not good for another reason, such as its time.
    #[error("its certificate is not good: {0}")]
    BadCertificate(String),
    /// What answers, if anything, speaks no TLS.
    #[error("it ends the handshake, or answers something else: it may speak plain text")]
    PlainServer,
    /// It was spoken to in plain text, and said nothing.
    #[error("it ends a connection in plain text without a word: it has just gone, or wants TLS")]
    PlainClient,
    /// It was spoken to in plain text, and said something in TLS.
    #[error("it was spoken to in plain text, and wants TLS")]
    TlsServer,
    /// It takes nobody without a certificate.
    #[error("it wants a certificate from its clients (cert, key)")]
    CertificateWanted,
    /// It does not take our certificate.
    #[error("it does not take our certificate (cert): {0}")]
    CertificateRefused(String),
    /// Files that are configured.
    #[error("{0}")]
    File(String),
    /// Another failure of the handshake.
    #[error("{0}")]
    Handshake(String),
}

impl TlsFault {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            // What came was no record of TLS.
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainServer,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::Handshake(other.to_string()),
        }
    }

    /// The fault of a handshake that failed.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::PlainServer,
            _ => Self::of_io(error).unwrap_or_else(|| Self::Handshake(error.to_string())),
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

    /// The fault in an error of a TLS stream, where it is TLS'.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).map(Self::of)
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
    fn a_refused_certificate_is_told_from_one_that_is_wanted() {
        let of = |alert| TlsFault::of_io(&io::Error::other(Error::AlertReceived(alert)));
        assert_eq!(of(AlertDescription::CertificateRequired), Some(TlsFault::CertificateWanted));
        assert!(matches!(of(AlertDescription::UnknownCA), Some(TlsFault::CertificateRefused(_))));
        assert!(matches!(of(AlertDescription::ProtocolVersion), Some(TlsFault::Handshake(_))));
        assert_eq!(TlsFault::of_io(&io::Error::other("another")), None);
    }
}

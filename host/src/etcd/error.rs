//! Why a request to etcd failed: `etcd_client`'s errors, read once, at the edge.
//!
//! They carry no `source()`, have a lease that is gone as a text, and show a refused connection as a gRPC status: here they
//! become faults that the callers can tell apart and people can read.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;
use std::time::Duration;

use etcd_client::Error;
use tonic::{Code, Status};

use crate::tls::fault::TlsFault;

/// What etcd says of a token, or of none, beside the code for it: old versions give such answers other codes.
const OF_TOKENS: &[&str] =
    &["invalid auth token", "revision of auth store is old", "revision in header is old", "user name is empty"];

/// A request to etcd that failed: what was being done, at which member, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} at etcd {endpoint}: {fault}")]
pub struct EtcdError {
    pub(super) doing: Cow<'static, str>,
    pub(super) endpoint: String,
    pub(super) fault: Fault,
}

/// Why a request to etcd failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no process that listens at the endpoint.
    #[error("connection refused: nothing listens there")]
    Refused,
    /// There is no connection, for another reason.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// There is no TLS connection.
    // Its text holds that of the fault, which is therefore no source of it.
    #[error("no TLS connection ([etcd.tls]): {0}")]
    Tls(TlsFault),
    /// etcd does not know who we are.
    #[error("authentication failed: {0}")]
    Authentication(Authentication),
    /// The token that etcd gave us is not good any more, or there is none.
    #[error("it does not take our token: {0}")]
    Token(String),
    /// The member answers, but has lost its cluster.
    #[error("it has no leader: most members of its cluster are down or cut off")]
    NoLeader,
    /// Nothing came back in time. A write may have been carried out.
    #[error("no answer within {}", in_millis(*.0))]
    NoAnswer(Duration),
    /// The stream ended.
    #[error("the stream has ended")]
    StreamEnded,
    /// There is no such lease.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// etcd answered with an error of its own.
    #[error("it answers {code:?}: {message}")]
    Answered {
        /// The gRPC code.
        code: Code,
        /// etcd's text.
        message: String,
    },
    /// The client would not send it.
    #[error("{0}")]
    Client(String),
}

/// Why etcd does not know who we are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Authentication {
    /// The user or the password is wrong; etcd does not say which.
    #[error("it knows no such user and password (etcd.user, etcd.password, etcd.password_file)")]
    Refused,
    /// It has users, and none is configured.
    #[error("it asks for a user, and there is no etcd.user")]
    NoUser,
    /// There is no password to be sent.
    #[error("\"{file}\" cannot be read (etcd.password_file): {error}")]
    PasswordFile {
        /// The file.
        file: String,
        /// The system's words.
        error: String,
    },
}

/// A part of a lease's time has nanoseconds, which tell nobody anything.
fn in_millis(time: Duration) -> humantime::FormattedDuration {
    let whole = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    humantime::format_duration(if whole.is_zero() { time } else { whole })
}

impl EtcdError {
    /// Why it failed.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The member that was asked, `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The whole text, with its causes.
    pub fn chain(&self) -> String {
        plugin_api::error::chain(self)
    }
}

impl Fault {
    /// The fault that the client's error stands for.
    pub(super) fn of(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(&status),
            Error::TransportError(error) => Self::of_connection(&error),
            Error::IoError(error) => Self::of_connection(&error),
            other => Self::Client(other.to_string()),
        }
    }

    pub(super) fn of_status(status: &Status) -> Self {
        if let Some(source) = status.source() {
            return Self::of_connection(source);
        }
        let message = status.message();
        if message.contains("no leader") {
            Self::NoLeader
        } else if message.contains("requested lease not found") {
            Self::LeaseNotFound
        } else if message.contains("authentication failed") {
            Self::Authentication(Authentication::Refused)
        } else if status.code() == Code::Unauthenticated || OF_TOKENS.iter().any(|text| message.contains(text)) {
            Self::Token(message.to_owned())
        } else {
            Self::Answered { code: status.code(), message: message.to_owned() }
        }
    }

    fn of_connection(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(fault) = error.downcast_ref::<io::Error>().and_then(Self::of_io) {
                return fault;
            }
            if let Some(fault) = error.downcast_ref::<TlsFault>() {
                return Self::Tls(fault.clone());
            }
            cause = error.source();
        }
        Self::Unreachable(plugin_api::error::chain(error))
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return Some(Self::Refused);
        }
        // An error that another one wraps is not among its sources.
        error.get_ref()?.downcast_ref::<TlsFault>().cloned().map(Self::Tls)
    }

    /// May another member, or a new connection, do better?
    pub(super) fn is_the_members(&self) -> bool {
        match self {
            Self::Refused
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::NoLeader
            | Self::NoAnswer(_)
            | Self::StreamEnded => true,
            Self::Answered { code, .. } => matches!(code, Code::Unavailable | Code::DeadlineExceeded),
            Self::Authentication(_) | Self::Token(_) | Self::LeaseNotFound | Self::Client(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_its_cause_once() {
        let fault = Fault::Tls(TlsFault::PlainClient);
        let chain = plugin_api::error::chain(&fault);
        assert_eq!(chain.matches("in plain text without a word").count(), 1, "{chain}");
    }

    #[test]
    fn a_part_of_a_leases_time_is_shown_in_milliseconds() {
        assert_eq!(Fault::NoAnswer(Duration::from_secs(5) / 3).to_string(), "no answer within 1s 666ms");
        assert_eq!(Fault::NoAnswer(Duration::from_micros(20)).to_string(), "no answer within 20us");
    }
}

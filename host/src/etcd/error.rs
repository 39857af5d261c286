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
    /// The member answers, but has lost its cluster.
    #[error("it has no leader: most members of its cluster are down or cut off")]
    NoLeader,
    /// Nothing came back in time. A write may have been carried out.
    #[error("no answer within {}", humantime::format_duration(*.0))]
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
        } else {
            Self::Answered { code: status.code(), message: message.to_owned() }
        }
    }

    fn of_connection(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return Self::Refused;
            }
            cause = error.source();
        }
        Self::Unreachable(plugin_api::error::chain(error))
    }

    /// May another member, or a new connection, do better?
    pub(super) fn is_the_members(&self) -> bool {
        match self {
            Self::Refused | Self::Unreachable(_) | Self::NoLeader | Self::NoAnswer(_) | Self::StreamEnded => true,
            Self::Answered { code, .. } => matches!(code, Code::Unavailable | Code::DeadlineExceeded),
            Self::LeaseNotFound | Self::Client(_) => false,
        }
    }
}

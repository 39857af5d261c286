//! Why a call gave no answer, in words that say what to do.

use std::fmt::Write;
use std::time::Duration;

use plugin_api::identity::{Role, ServerId};
use plugin_api::refusal::{Executed, Reason, Refusal, key};
use prost_reflect::DescriptorError;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::lookup::Found;
use crate::config::{EXIT_CODE, Mistakes};
use crate::etcd::EtcdError;
use crate::tls::FileError;
use crate::tls::connect::ConnectError;
use crate::tls::fault::TlsFault;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The request cannot be read.
    #[error("cannot read the request from '{from}'")]
    Request {
        /// What `--json` said.
        from: String,
        /// Why.
        source: std::io::Error,
    },
    /// The request is not JSON, or not of the method's type; one line for each mistake.
    #[error("the request is not {expected}:{}", indented(mistakes))]
    Json {
        /// What it should be.
        expected: String,
        /// All mistakes, each with its field.
        mistakes: Vec<String>,
    },
    /// etcd cannot be asked.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Nobody is registered with that role.
    #[error("no host with the role {role} is registered under {prefix}; registered are:{}", indented(registered))]
    NoSuchRole {
        /// The role.
        role: Role,
        /// Where sessions are.
        prefix: String,
        /// Everybody who is.
        registered: Vec<Found>,
    },
    /// That one is not registered.
    #[error("no {role} with the server id {server_id} is registered; registered are:{}", indented(registered))]
    NoSuchServer {
        /// The role.
        role: Role,
        /// The id.
        server_id: ServerId,
        /// The others with that role.
        registered: Vec<Found>,
    },
    /// There are several, and none was chosen.
    #[error("several hosts have the role {role}; choose one with --server-id:{}", indented(registered))]
    Several {
        /// The role.
        role: Role,
        /// Them.
        registered: Vec<Found>,
    },
    /// The address is none.
    #[error("'{address}' is no host:port")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// There is no way to the address.
    #[error(transparent)]
    Unreachable(ConnectError),
    /// The other side did not take up HTTP/2, or not in time.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The host does not take the connection, after it was made.
    #[error("no TLS connection to {address} ([tls], --ca, --cert, --key): {fault}")]
    Tls {
        /// The address.
        address: String,
        /// Why not.
        fault: TlsFault,
    },
    /// The files for TLS.
    #[error("no TLS ([tls], --ca, --cert, --key)")]
    Files(#[from] FileError),
    /// The template of names.
    #[error("--names: {0}")]
    Names(String),
    /// The connection broke before the call.
    #[error("the connection broke")]
    Broken {
        /// Why.
        source: tonic::transport::Error,
    },
    /// The host does not tell its types.
    #[error("{address} does not tell its types by gRPC reflection (grpc.reflection.v1)")]
    Reflection {
        /// The address.
        address: String,
        /// Why.
        source: ReflectionError,
    },
    /// There is no such method.
    #[error("there is no method '{method}'; there are:{}", indented(known))]
    NoSuchMethod {
        /// What was asked for.
        method: String,
        /// All methods.
        known: Vec<String>,
    },
    /// There are several such methods.
    #[error("several methods are called '{method}'; name one of:{}", indented(found))]
    AmbiguousMethod {
        /// What was asked for.
        method: String,
        /// Them.
        found: Vec<String>,
    },
    /// It took too long.
    #[error("{doing} did not end within {} (--timeout)", humantime::format_duration(*limit))]
    Late {
        /// What did.
        doing: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The answer is a status other than OK.
    #[error("{}", described(.0))]
    Refused(Box<Status>),
    /// The answer cannot be written.
    #[error("cannot write the answer")]
    Output {
        /// Why.
        source: std::io::Error,
    },
}

/// What is wrong with a host's own account of its types.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// The question was refused. All that its status says is in the text.
    #[error("{}", described(.0))]
    Refused(Box<Status>),
    /// The answer is none to the question.
    #[error("it answers {answer} when asked for {question}")]
    Answer {
        /// The question.
        question: String,
        /// The answer.
        answer: String,
    },
    /// A file cannot be decoded.
    #[error("a file of types cannot be decoded")]
    Encoding(#[from] prost::DecodeError),
    /// The files do not fit together.
    #[error("its types do not fit together")]
    Types(#[from] DescriptorError),
}

impl From<Box<Status>> for ReflectionError {
    fn from(status: Box<Status>) -> Self {
        Self::Refused(status)
    }
}

impl CallError {
    /// Was the call executed by nobody, and may it be answered when it is made again: has somebody else the role by then, or
    /// does the same one serve?
    pub(super) fn may_pass(&self, role: &str) -> bool {
        match self {
            Self::Unreachable(error) => !error.is_for_good(),
            Self::Connect { .. } | Self::Broken { .. } => true,
            // Nobody is active, and one of them will be.
            Self::Several { registered, .. } => registered.iter().all(|found| found.remark == "standby"),
            Self::Reflection { source: ReflectionError::Refused(status), .. } => status.code() == Code::Unavailable,
            Self::Refused(status) => Refusal::from_status(status).is_some_and(|refusal| was_refused_by(&refusal, role)),
            _ => false,
        }
    }

    /// 64 where the user has to change the command line or the configuration, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Request { .. }
            | Self::Json { .. }
            | Self::Several { .. }
            | Self::Address { .. }
            | Self::Files(_)
            | Self::Names(_)
            | Self::NoSuchMethod { .. }
            | Self::AmbiguousMethod { .. } => EXIT_CODE,
            Self::Etcd(_)
            | Self::NoSuchRole { .. }
            | Self::NoSuchServer { .. }
            | Self::Unreachable(_)
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Broken { .. }
            | Self::Reflection { .. }
            | Self::Late { .. }
            | Self::Refused(_)
            | Self::Output { .. } => super::super::FAILED,
        }
    }
}

/// Has the called host itself refused it, for now? A component that passes a refusal on keeps its details.
fn was_refused_by(refusal: &Refusal, role: &str) -> bool {
    let detail = |key| refusal.details.get(key).map(String::as_str);
    let of_role = detail(key::TARGET).and_then(|target| target.rsplit_once('-')).is_some_and(|(of, _)| of == role);
    refusal.executed == Executed::No
        && of_role
        && detail(key::REFUSED_BY) == detail(key::TARGET)
        && refusal.reason != Reason::IdentityMismatch
}

fn indented<T: ToString>(lines: &[T]) -> String {
    if lines.is_empty() {
        return " none".to_owned();
    }
    lines.iter().map(|line| format!("\n  {}", line.to_string())).collect()
}

/// A status with its code, its message, and all that its `ErrorInfo` says.
fn described(status: &Status) -> String {
    let mut text = format!("{}: {}", code_name(status.code()), status.message());
    let Some(info) = status.get_details_error_info() else { return text };
    let mut details: Vec<_> = info.metadata.into_iter().collect();
    details.sort();
    // Writing to a String does not fail.
    let _ = write!(text, "\n  reason: {}\n  domain: {}", info.reason, info.domain);
    for (key, value) in details {
        let _ = write!(text, "\n  {key}: {value}");
    }
    text
}

/// The code's name as gRPC's specification writes it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_with_all_its_details() {
        let refusal = Refusal::new(Reason::NoSuchPeer, "nobody").with("role", "rootcoord").with("link", "down");
        let shown = CallError::Refused(Box::new(refusal.into_status())).to_string();
        let expected = "UNAVAILABLE: nobody\n  reason: NO_SUCH_PEER\n  domain: componenthost\n  executed: no\n  link: down\n  \
                        role: rootcoord";
        assert_eq!(shown, expected);
        assert_eq!(CallError::Refused(Box::new(Status::not_found("x"))).to_string(), "NOT_FOUND: x");
    }

    #[test]
    fn only_what_the_called_host_refused_is_called_again() {
        let refused = |reason, target: &str, by: &str| {
            let refusal = Refusal::new(reason, "no").with(key::TARGET, target).with(key::REFUSED_BY, by);
            CallError::Refused(Box::new(refusal.into_status())).may_pass("rootcoord")
        };
        for reason in [Reason::Standby, Reason::NotHealthy, Reason::Fenced, Reason::SessionStopping] {
            assert!(refused(reason, "rootcoord-3", "rootcoord-3"), "{reason}");
            assert!(!refused(reason, "querycoord-4", "querycoord-4"), "{reason} of another, passed on");
            assert!(!refused(reason, "rootcoord-3", "querycoord-4"), "{reason} of the way there, passed on");
        }
        assert!(!refused(Reason::IdentityMismatch, "rootcoord-3", "rootcoord-3"));
        let cut = Refusal::new(Reason::SessionStopping, "cut").with(key::TARGET, "rootcoord-3").maybe_executed();
        let cut = cut.with(key::REFUSED_BY, "rootcoord-3").into_status();
        assert!(!CallError::Refused(Box::new(cut)).may_pass("rootcoord"));
        assert!(!CallError::Refused(Box::new(Status::unavailable("no"))).may_pass("rootcoord"));
    }
}

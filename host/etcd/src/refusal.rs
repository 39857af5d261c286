//! What etcd refuses: the same codes and the same texts, because clients compare them.

use thiserror::Error;
use tonic::{Code, Status};

/// An answer that is an error of etcd's. Its text goes to the client as it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// A request, an operation or a comparison without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A put that keeps the value or the lease of a key that is not there; or an operation that says nothing.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put that keeps the value and brings another.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A put that keeps the lease and brings another.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations than one transaction may have.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// Two operations of one transaction that write the same key.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A revision whose values are gone.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// A revision that is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// A sort target that there is not.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// A lease that is not there (any more).
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease is asked for by an id that another has.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A time to live beyond 9,000,000,000 s.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// A write larger than 1.5 MiB.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// A message that gRPC's own limit keeps out.
    #[error("grpc: received message larger than max ({size} vs. {limit})")]
    MessageTooLarge {
        /// Its bytes.
        size: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Keys and values take more than they may.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The data directory cannot be written: nothing more is acknowledged.
    #[error("etcdserver: the data directory cannot be written; see the log of the process")]
    Broken,
    /// The disk did not answer in time: whether it is kept is not known.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// The disk does not answer, and much waits for it.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// The server stops.
    #[error("etcdserver: server stopped")]
    Stopped,
}

impl Refusal {
    fn code(self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::LeaseNotFound => Code::NotFound,
            Self::LeaseExists => Code::FailedPrecondition,
            Self::MessageTooLarge { .. } | Self::NoSpace | Self::TooManyRequests => Code::ResourceExhausted,
            Self::Broken | Self::TimedOut | Self::Stopped => Code::Unavailable,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

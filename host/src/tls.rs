//! TLS: between hosts as a whole, and what etcd's connections have in common with it.
//!
//! Leaf module. [`config`] is what users set of it; [`credentials`] the files as they are now, read again when they change;
//! [`connect`] makes a connection to another host, in plain text where that is allowed; [`names`] knows which names a
//! certificate must have, and `callers` who may call. [`fault`] says what went wrong in a handshake, [`stream`] also after
//! it, and `files` reads PEM.

mod callers;
pub mod config;
pub mod connect;
pub mod credentials;
pub mod fault;
pub(crate) mod files;
pub mod names;
pub mod stream;

pub use config::TlsConfig;
pub use credentials::{Credentials, Reload, Security};
pub use files::FileError;

/// HTTP/2, as TLS names it.
pub(crate) const HTTP2: &[u8] = b"h2";

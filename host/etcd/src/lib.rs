//! An etcd within the process, for one machine: etcd's v3 API on a loopback port.
//!
//! Clients speak to it as to any etcd, and cannot tell the difference; for more than one machine the answer is a real cluster.
//! There are no users and no TLS, and it listens on loopback only.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let etcd = componenthost_etcd::EmbeddedEtcd::start().await?;
//! let mut client = etcd_client::Client::connect([etcd.endpoint()], None).await?;
//! let put = client.put("colour", "red", None).await?;
//! assert_eq!(put.header().map(|header| header.revision()), Some(2));
//! etcd.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! * [`server`](EmbeddedEtcd): the listener, the start and the stop. `service`: etcd's services, and what they refuse.
//! * `engine`: what all share, and which revision clients may see. `identity`: who answers.
//! * `journal`: the data directory.
//! * `machine`: what each request does to `store`, the keys' versions, and `lessor`, the leases; these three do no I/O.

mod engine;
mod identity;
mod journal;
mod lessor;
mod machine;
mod refusal;
mod server;
mod service;
mod store;

pub use self::journal::{Damage, DataError};
pub use self::server::{EmbeddedEtcd, Settings, StartError};

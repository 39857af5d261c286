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
//! # What differs from etcd 3.4
//!
//! * Users and their tokens, TLS, snapshots, hashes, downgrades, changes of the members, and the services of locks, elections and
//!   health are not here: what asks for them is answered `Unimplemented`. There is no HTTP/1: `/health`, `/version`, `/metrics`.
//! * A message of more than 64 MiB is refused by gRPC's own words.
//! * A watch that is behind, because its client does not read, is ended by a compaction of what it was not told; etcd keeps what
//!   is on its way.
//! * The quota is of what is in memory, and its alarm is over as soon as enough was compacted: nobody needs to disarm it.
//! * A watch that begins at the compacted revision is told of that revision's deletions, too, as by later releases of etcd.
//! * A transaction that deletes all keys from one on and puts one of these with its former value or lease is refused as one
//!   that writes a key twice; etcd's process ends of it.
//! * A sort target that there is not is refused, as by later releases; etcd's process ends of it.
//! * Where the data directory cannot be written any more, writes and questions for leases are refused with `Unavailable` until the next start.
//! * Leases end at their very second; etcd looks twice a second.
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

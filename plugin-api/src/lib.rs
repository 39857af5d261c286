//! The contract between `componenthost` and the components that it loads.
//!
//! A component is the code that plays a role: it implements [`Component`], an ordinary async trait, serves ordinary tonic
//! services, and is exported with one macro. Its host owns the etcd session, the links to its dependencies and the
//! listener; through the [`Context`] it hands out clients that are ready, notices of peers that come and go, metadata in
//! etcd, and tasks.
//!
//! # A whole plugin
//!
//! A crate of the types `cdylib` (to be loaded) and `rlib` (to be linked), with this as its `lib.rs`:
//!
//! ```
//! use plugin_api::{
//!     BoxError, Component, Context, Dependency, Descriptor, PeerChange, PeerEvent, Resume, Role, Services, async_trait,
//! };
//! use serde::Deserialize;
//! // In a crate of its own these are its `….v1` module, generated from its `.proto`; here the host's health service serves.
//! use tonic_health::pb::health_check_response::ServingStatus;
//! use tonic_health::pb::health_client::HealthClient;
//! use tonic_health::pb::health_server::{Health, HealthServer};
//! use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct WatchmanConfig {
//!     /// The role whose health it tells.
//!     watched: Role,
//! }
//!
//! impl Default for WatchmanConfig {
//!     fn default() -> Self {
//!         Self { watched: Role::new("rootcoord").expect("a role") }
//!     }
//! }
//!
//! /// Tells the health of another role's component.
//! struct Watchman {
//!     config: WatchmanConfig,
//! }
//!
//! impl Watchman {
//!     fn new(config: WatchmanConfig) -> Result<Self, BoxError> {
//!         Ok(Self { config })
//!     }
//! }
//!
//! #[async_trait]
//! impl Component for Watchman {
//!     fn descriptor(&self) -> Descriptor {
//!         Descriptor::node("watchman").depends_on(Dependency::coordinator(self.config.watched.as_str()))
//!     }
//!
//!     async fn start(&self, context: Context) -> Result<Services, BoxError> {
//!         let watched = self.config.watched.clone();
//!         Ok(Services::new().serve(HealthServer::new(Watch { context, watched })))
//!     }
//!
//!     async fn activate(&self, _: Resume) -> Result<(), BoxError> {
//!         tracing::info!(watched = %self.config.watched, "on watch");
//!         Ok(())
//!     }
//!
//!     async fn on_peer(&self, event: PeerEvent) {
//!         if let PeerChange::Offline { peer, reason, .. } = event.change {
//!             tracing::warn!(peer = %peer.server_id, %reason, "gone");
//!         }
//!     }
//! }
//!
//! /// Its service: asks on over a link that the host owns.
//! struct Watch {
//!     context: Context,
//!     watched: Role,
//! }
//!
//! #[tonic::async_trait]
//! impl Health for Watch {
//!     async fn check(
//!         &self,
//!         request: tonic::Request<HealthCheckRequest>,
//!     ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
//!         // Refused at once, with the reason, while nobody of the role is there.
//!         HealthClient::new(self.context.client(&self.watched)).check(request.into_inner()).await
//!     }
//! #   type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, tonic::Status>>;
//! #   async fn watch(&self, _: tonic::Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
//! #       Err(tonic::Status::unimplemented("only check"))
//! #   }
//! }
//!
//! plugin_api::export!(Watchman::new);
//! # let _ = ServingStatus::Serving;
//! ```
//!
//! and this in the host's configuration:
//!
//! ```toml
//! [component.watchman]
//! plugin = "watchman"            # libwatchman.so, beside the host's executable or in `plugins.dirs`
//!
//! [component.watchman.config]
//! watched = "rootcoord"
//! ```
//!
//! # Where to read on
//!
//! [`Component`] has the life of a component and the rules of each method; [`Context`] what it may ask for; [`Fence`]
//! whether it may still act as the holder of its session; [`Channel`] how
//! calls to peers behave; [`Call`] what a call hands on to those made for it; [`Refusal`] why a call was not answered. `examples/smallest.rs` is the smallest legal plugin.
//! [`border`] is the ABI: no author needs it.

#![deny(missing_docs)]

pub mod border;
pub mod call;
pub mod channel;
pub mod component;
pub mod context;
pub mod descriptor;
pub mod error;
pub mod export;
pub mod fence;
pub mod identity;
pub mod metadata;
pub mod peers;
pub mod refusal;
pub mod services;
pub mod state;
pub mod task;
pub mod trace;

pub use async_trait::async_trait;
pub use call::Call;
pub use channel::{Channel, Target};
pub use component::{Component, Deactivation, Resume, Snapshot};
pub use context::{Client, Context, PeerStream};
pub use descriptor::{Dependency, Descriptor, Kind, LeasePolicy, WaitPolicy};
pub use error::{BoxError, Error};
pub use fence::Fence;
pub use identity::{Identity, Role, ServerId};
pub use metadata::{KeyValue, Metadata, MetadataEvent, MetadataStream, Outcome, Range, Transaction};
pub use peers::{Peer, PeerChange, PeerEvent, PeerLink, PeerSession};
pub use refusal::{Executed, Reason, Refusal};
pub use services::Services;
pub use state::StateCode;
pub use task::{Task, TaskEnded};
pub use trace::TraceContext;

//! A host that gives nothing: for a component that is made only to see what it says of itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use plugin_api::border::log::FfiRecord;
use plugin_api::border::v1::host::{ChannelSide, HostSide, SpawnedTask};
use plugin_api::channel::Target;
use plugin_api::error::Error;
use plugin_api::identity::Role;
use plugin_api::metadata::{MetadataAnswer, MetadataEvent, MetadataRequest};
use plugin_api::peers::{Peer, PeerEvent};
use tonic::body::Body;
use tonic::{Code, Status};

/// Refuses whatever it is asked for: a component that is not started has nothing to ask.
pub(super) struct Unasked;

fn refused() -> Error {
    Error::new(Code::FailedPrecondition, "the component is only being looked at: nothing is started")
}

#[async_trait]
impl HostSide for Unasked {
    fn channel(&self, _: Target) -> Arc<dyn ChannelSide> {
        Arc::new(Self)
    }

    fn peers(&self, _: &Role) -> Result<Vec<Peer>, Error> {
        Err(refused())
    }

    fn watch_peers(&self, _: &Role) -> Result<BoxStream<'static, PeerEvent>, Error> {
        Err(refused())
    }

    async fn metadata(&self, _: MetadataRequest) -> Result<MetadataAnswer, Error> {
        Err(refused())
    }

    fn watch_metadata(&self, _: String) -> Result<BoxStream<'static, MetadataEvent>, Error> {
        Err(refused())
    }

    fn spawn(&self, _: &str, _: SpawnedTask) -> Box<dyn Fn() + Send + Sync> {
        Box::new(|| ())
    }

    fn log(&self, _: &FfiRecord<'_>) {}
}

#[async_trait]
impl ChannelSide for Unasked {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        Status::from(refused()).into_http()
    }

    fn stop(&self) {}
}

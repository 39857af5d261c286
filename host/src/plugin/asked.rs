//! What a component asks of its host, answered from the parts that own it: links, metadata, tasks, logs.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use plugin_api::border::log::FfiRecord;
use plugin_api::border::v1::host::{ChannelSide, HostSide, SpawnedTask};
use plugin_api::call::{Call, handed_on};
use plugin_api::channel::Target;
use plugin_api::error::Error;
use plugin_api::identity::Role;
use plugin_api::metadata::{MetadataAnswer, MetadataEvent, MetadataRequest};
use plugin_api::peers::{Peer, PeerEvent};
use plugin_api::refusal::{Reason, Refusal};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;
use tracing::Level;

use super::generation::GenerationSettings;
use super::ledger::{Given, GivenEntry, Ledger};
use super::tasks::Tasks;
use crate::connections::Client;

/// The host's side of one generation.
pub(super) struct Asked {
    settings: GenerationSettings,
    generation: u64,
    tasks: Tasks,
    ledger: Arc<Ledger>,
}

impl Asked {
    pub(super) fn new(settings: GenerationSettings, generation: u64, tasks: Tasks, ledger: Arc<Ledger>) -> Self {
        Self { settings, generation, tasks, ledger }
    }

    /// A stream that ends with what it was begun for: a call, or what the component does by itself.
    fn given<S>(&self, stream: S) -> BoxStream<'static, S::Item>
    where
        S: Stream + Send + 'static,
    {
        let (entry, end) = (self.ledger.given(Given::Stream), self.tasks.scope().cancelled_owned());
        let counted = stream.take_until(end).map(move |item| {
            let _counted = &entry;
            item
        });
        counted.boxed()
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::new(refusal.reason.code(), refusal.message).with_reason(refusal.reason)
}

#[async_trait]
impl HostSide for Asked {
    fn channel(&self, target: Target) -> Arc<dyn ChannelSide> {
        let client = self.settings.connections.client(&self.settings.role, target);
        let (ended, counted) = (self.tasks.ended().clone(), self.ledger.given(Given::Channel));
        Arc::new(OwnedLink { client, ended, _counted: counted })
    }

    fn peers(&self, role: &Role) -> Result<Vec<Peer>, Error> {
        self.settings.connections.clients(&self.settings.role, role).map_err(refused)
    }

    fn watch_peers(&self, role: &Role) -> Result<BoxStream<'static, PeerEvent>, Error> {
        let events = self.settings.connections.watch_clients(&self.settings.role, role).map_err(refused)?;
        Ok(self.given(events))
    }

    async fn metadata(&self, request: MetadataRequest) -> Result<MetadataAnswer, Error> {
        self.settings.metadata.handle(request).await
    }

    fn watch_metadata(&self, prefix: String) -> Result<BoxStream<'static, MetadataEvent>, Error> {
        Ok(self.given(self.settings.metadata.watch(&prefix)))
    }

    fn is_fenced(&self) -> bool {
        self.settings.metadata.permit().current().is_none()
    }

    async fn fence_is(&self, fenced: bool) {
        self.settings.metadata.permit().until(!fenced).await;
    }

    fn spawn(&self, name: &str, task: SpawnedTask) -> Box<dyn Fn() + Send + Sync> {
        let abort = self.tasks.spawn(name, Box::pin(handed_on(task)));
        Box::new(move || abort.cancel())
    }

    fn log(&self, record: &FfiRecord<'_>) {
        let trace = Call::current().and_then(|call| call.trace);
        // One callsite for each level: `tracing` wants a constant here. Module and spans go along as fields.
        macro_rules! emit {
            ($level:expr) => {
                tracing::event!(
                    target: "component",
                    $level,
                    role = %self.settings.role,
                    generation = self.generation,
                    trace_id = trace.as_ref().map(|trace| display(trace.trace_id)),
                    span_id = trace.as_ref().map(|trace| display(trace.span_id)),
                    module = record.target.as_str(),
                    spans = record.spans.as_str(),
                    fields = record.fields.as_str(),
                    "{}",
                    record.message
                )
            };
        }
        match record.level() {
            Level::ERROR => emit!(Level::ERROR),
            Level::WARN => emit!(Level::WARN),
            Level::INFO => emit!(Level::INFO),
            Level::DEBUG => emit!(Level::DEBUG),
            Level::TRACE => emit!(Level::TRACE),
        }
    }
}

/// A channel over a link of the host's.
struct OwnedLink {
    client: Client,
    /// The component has ended: what it has left behind calls nobody.
    ended: CancellationToken,
    _counted: GivenEntry,
}

#[async_trait]
impl ChannelSide for OwnedLink {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        if self.ended.is_cancelled() {
            let text = "this generation of the component has ended: whoever calls was left behind by it";
            return Refusal::new(Reason::ClientStopped, text).into_status().into_http();
        }
        let Ok(response) = self.client.clone().oneshot(request).await;
        response
    }

    fn stop(&self) {
        self.client.stop();
    }
}

/// The host's side of a component that is only asked what it is: nothing of a host is there.
pub(super) struct Nobody;

impl Nobody {
    fn refusal() -> Refusal {
        Refusal::new(Reason::HostStopping, "this component is not started: it is only asked what it is")
    }
}

#[async_trait]
impl HostSide for Nobody {
    fn channel(&self, _: Target) -> Arc<dyn ChannelSide> {
        Arc::new(Self)
    }

    fn peers(&self, _: &Role) -> Result<Vec<Peer>, Error> {
        Err(refused(Self::refusal()))
    }

    fn watch_peers(&self, _: &Role) -> Result<BoxStream<'static, PeerEvent>, Error> {
        Err(refused(Self::refusal()))
    }

    async fn metadata(&self, _: MetadataRequest) -> Result<MetadataAnswer, Error> {
        Err(refused(Self::refusal()))
    }

    fn watch_metadata(&self, _: String) -> Result<BoxStream<'static, MetadataEvent>, Error> {
        Err(refused(Self::refusal()))
    }

    fn is_fenced(&self) -> bool {
        true
    }

    async fn fence_is(&self, fenced: bool) {
        if !fenced {
            std::future::pending::<()>().await;
        }
    }

    fn spawn(&self, _: &str, _: SpawnedTask) -> Box<dyn Fn() + Send + Sync> {
        Box::new(|| ())
    }

    fn log(&self, _: &FfiRecord<'_>) {}
}

#[async_trait]
impl ChannelSide for Nobody {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        Self::refusal().into_status().into_http()
    }

    fn stop(&self) {}
}

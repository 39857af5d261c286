//! The component: each method of its life goes wrong where it was told to, and is noted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use plugin_api::Context;
use plugin_api::component::{Component, Deactivation, Resume};
use plugin_api::descriptor::Descriptor;
use plugin_api::error::BoxError;
use plugin_api::peers::PeerEvent;
use plugin_api::services::Services;

use crate::config::{Fault, Method, ProbeConfig};
use crate::renamed::{descriptors, service_name};
use crate::service::{ProbeService, Shared};
use crate::v1::probe_server::ProbeServer;

/// A component that does what a test asks.
pub struct Probe {
    config: ProbeConfig,
    shared: Arc<Shared>,
}

impl Probe {
    /// A probe.
    ///
    /// # Errors
    ///
    /// Where its configuration says so.
    pub fn new(config: ProbeConfig) -> Result<Self, BoxError> {
        match config.fault(Method::New) {
            None => Ok(Self { config, shared: Arc::default() }),
            Some(Fault::Fail) => Err("the constructor fails as configured".into()),
            Some(Fault::Panic) => panic!("the constructor panics as configured"),
            Some(Fault::Hang | Fault::Wait | Fault::Block) => block(),
        }
    }

    async fn enter(&self, method: Method, detail: impl std::fmt::Debug) -> Result<(), BoxError> {
        let name = format!("{method:?}");
        self.shared.journal.note(&name, detail);
        match self.config.fault(method) {
            None => Ok(()),
            Some(Fault::Fail) => Err(format!("{name} fails as configured").into()),
            Some(Fault::Panic) => panic!("{name} panics as configured"),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Wait) => {
                while self.config.fault(method).is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(())
            }
            Some(Fault::Block) => block(),
        }
    }

    /// Notes what `watch_clients` tells of each dependency.
    fn watch(&self, context: &Context) -> Result<(), BoxError> {
        for dependency in &self.config.dependencies {
            let mut events = context.watch_clients(&dependency.role)?;
            let shared = self.shared.clone();
            // Its end is the stream's, when the component stops.
            drop(context.spawn("watch", async move {
                while let Some(event) = events.next().await {
                    shared.watched.note(&event);
                }
            }));
        }
        Ok(())
    }
}

#[async_trait]
impl Component for Probe {
    fn descriptor(&self) -> Descriptor {
        self.config.descriptor()
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        self.enter(Method::Start, context.identity()).await?;
        self.watch(&context)?;
        if self.config.write_in_start {
            let reason = context.metadata().put("start", "x").await.err().and_then(|error| error.reason());
            self.shared.journal.note("Wrote", reason);
        }
        let role = context.identity().role.to_string();
        let service = ProbeServer::new(ProbeService { context, shared: self.shared.clone() });
        let limit = 64 << 20;
        let service = service.max_decoding_message_size(limit).max_encoding_message_size(limit);
        Ok(Services::new().serve_as(&service_name(&role), service).describe(&descriptors(&role)))
    }

    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        self.enter(Method::Activate, resume).await
    }

    async fn on_peer(&self, event: PeerEvent) {
        self.shared.on_peer.note(&event);
        // It has no error to return: a configured failure is as good as none.
        drop(self.enter(Method::OnPeer, ()).await);
    }

    async fn on_stopping(&self) {
        drop(self.enter(Method::OnStopping, ()).await);
        tokio::time::sleep(Duration::from_millis(self.config.moving_ms)).await;
    }

    async fn deactivate(&self, reason: Deactivation) {
        drop(self.enter(Method::Deactivate, reason).await);
    }

    async fn stop(&self) {
        drop(self.enter(Method::Stop, ()).await);
    }
}

/// Keeps the present thread for ever.
fn block() -> ! {
    loop {
        std::thread::park();
    }
}

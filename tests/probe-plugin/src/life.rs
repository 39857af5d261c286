//! The component: each method of its life goes wrong where it was told to, and is noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use plugin_api::Context;
use plugin_api::component::{Component, Deactivation, Resume, Snapshot};
use plugin_api::descriptor::Descriptor;
use plugin_api::error::BoxError;
use plugin_api::peers::PeerEvent;
use plugin_api::services::Services;

use crate::background::Background;
use crate::config::ProbeConfig;
use crate::edition::Edition;
use crate::knobs::{Method, StateLie};
use crate::mischief::Mischief;
use crate::renamed::{descriptors, service_name};
use crate::service::{ProbeService, Shared};
use crate::state::State;
use crate::v1::probe_server::ProbeServer;

/// A component that does what a test asks.
pub struct Probe {
    config: ProbeConfig,
    edition: Edition,
    mischief: Mischief,
    shared: Arc<Shared>,
    /// Given by `start`, for `activate`.
    context: OnceLock<Context>,
    background: Background,
    /// It follows its peers.
    watches: AtomicBool,
    /// What `restore` was given; true from the next `activate` on, if that says so.
    restored: Mutex<Option<State>>,
}

impl Probe {
    /// A probe of the first edition.
    ///
    /// # Errors
    ///
    /// Where its configuration says so.
    pub fn new(config: ProbeConfig) -> Result<Self, BoxError> {
        Self::of(Edition::First, config)
    }

    /// A probe of that edition.
    ///
    /// # Errors
    ///
    /// Where its configuration says so.
    pub fn of(edition: Edition, config: ProbeConfig) -> Result<Self, BoxError> {
        let mischief = Mischief::new(&config, edition);
        mischief.play_at_once(Method::New)?;
        Ok(Self {
            config,
            edition,
            mischief,
            shared: Arc::default(),
            context: OnceLock::new(),
            background: Background::default(),
            watches: AtomicBool::new(false),
            restored: Mutex::default(),
        })
    }

    async fn enter(&self, method: Method, detail: impl std::fmt::Debug) -> Result<(), BoxError> {
        self.shared.journal.note(&format!("{method:?}"), detail);
        self.mischief.play(method).await
    }

    /// Notes what `watch_clients` tells of each dependency.
    fn watch(&self, context: &Context) -> Result<(), BoxError> {
        for dependency in &self.config.dependencies {
            let mut events = context.watch_clients(&dependency.role)?;
            let shared = self.shared.clone();
            // Its end is the stream's, when the component stops.
            drop(context.spawn("watch", async move {
                while let Some(event) = events.next().await {
                    // In the log too: a generation that is gone can be asked no more.
                    tracing::info!(of = %event.role, revision = event.revision, "watched");
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
        // It has no error to return: a configured failure is as good as none.
        drop(self.mischief.play_at_once(Method::Descriptor));
        let version = self.config.version.clone().or_else(|| Some(self.edition.version()));
        self.mischief.lies().told(Descriptor { version, ..self.config.descriptor() })
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        self.enter(Method::Start, context.identity()).await?;
        self.watch(&context)?;
        self.watches.store(true, Ordering::Relaxed);
        if self.config.write_in_start {
            let reason = context.metadata().put("start", "x").await.err().and_then(|error| error.reason());
            self.shared.journal.note("Wrote", reason);
        }
        let role = self.mischief.lies().serves_as.unwrap_or_else(|| context.identity().role.clone()).to_string();
        let context = self.context.get_or_init(|| context).clone();
        let (mischief, shared) = (self.mischief.clone(), self.shared.clone());
        let service = ProbeServer::new(ProbeService { context, edition: self.edition, mischief, shared });
        let limit = 64 << 20;
        let service = service.max_decoding_message_size(limit).max_encoding_message_size(limit);
        Ok(Services::new().serve_as(&service_name(&role), service).describe(&descriptors(&role)))
    }

    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        self.enter(Method::Activate, resume).await?;
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (resume, restored) {
            (Resume::Restored | Resume::Kept, Some(state)) => {
                self.shared.counter.go_on_with(state.next..state.end).await
            }
            (Resume::Kept, None) => {}
            // What another may have given out meanwhile is not ours: the next range is reserved when it is needed.
            _ => self.shared.counter.go_on_with(0..0).await,
        }
        let Some(context) = self.context.get() else { return Ok(()) };
        if !self.watches.swap(true, Ordering::Relaxed) {
            self.watch(context)?;
        }
        if self.config.beats {
            self.background.begin(context, self.mischief.clone());
        }
        Ok(())
    }

    async fn on_peer(&self, event: PeerEvent) {
        self.shared.on_peer.note(&event);
        // It has no error to return: a configured failure is as good as none.
        drop(self.enter(Method::OnPeer, (event.role.to_string(), event.revision)).await);
    }

    async fn on_stopping(&self) {
        drop(self.enter(Method::OnStopping, ()).await);
        tokio::time::sleep(Duration::from_millis(self.config.moving_ms)).await;
    }

    async fn deactivate(&self, reason: Deactivation) {
        drop(self.enter(Method::Deactivate, reason).await);
        self.background.end();
        if reason == Deactivation::SwappedOut {
            // The host ends what `start` began.
            self.watches.store(false, Ordering::Relaxed);
        }
    }

    async fn stop(&self) {
        drop(self.enter(Method::Stop, ()).await);
    }

    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        self.enter(Method::Snapshot, ()).await?;
        self.background.end();
        let left = self.shared.counter.left().await;
        // One that was not activated since has what it was given.
        let restored = *self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = *self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let state = restored.unwrap_or_else(|| State::new(&left, taken));
        Ok(state.give(self.edition, self.mischief.lies().state))
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        self.enter(Method::Restore, snapshot.state_version).await?;
        let state = State::take(&snapshot, self.edition)?;
        if self.mischief.lies().state != Some(StateLie::Forgets) {
            *self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner) = state.taken_by_second;
            *self.restored.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        }
        Ok(())
    }
}

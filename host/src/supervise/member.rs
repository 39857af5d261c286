//! One component of a host: what it is made of, and what others are shown of it.

use std::sync::{Arc, Weak};

use plugin_api::descriptor::Descriptor;
use plugin_api::identity::Role;
use tokio::sync::watch;

use crate::config::ComponentConfig;
use crate::lifecycle::Lifecycle;
use crate::plugin::Library;
use crate::session::Session;

/// One component of this host, with what it is made of. Lives as long as the host.
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its section of the configuration.
    pub config: ComponentConfig,
    /// Its code.
    pub library: Library,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// What others are shown of it.
    shown: watch::Sender<Shown>,
}

/// What others are shown of a component.
#[derive(Clone, Default)]
pub struct Shown {
    /// What it says of itself; `None` before it was made.
    pub descriptor: Option<Descriptor>,
    /// Its registration, as long as it is there. Not owned.
    pub session: Weak<Session>,
}

impl Member {
    /// A component that has not been started yet.
    pub fn new(role: Role, config: ComponentConfig, library: Library, lifecycle: Lifecycle) -> Self {
        Self { role, config, library, lifecycle, shown: watch::Sender::default() }
    }

    /// What others are shown of it.
    pub fn shown(&self) -> Shown {
        self.shown.borrow().clone()
    }

    /// Follows what others are shown of it.
    pub fn watch_shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// Shows what the component says of itself.
    pub fn show_descriptor(&self, descriptor: Descriptor) {
        self.shown.send_modify(|shown| shown.descriptor = Some(descriptor));
    }

    /// Shows its registration.
    pub fn show_session(&self, session: &Arc<Session>) {
        self.shown.send_modify(|shown| shown.session = Arc::downgrade(session));
    }
}

//! One component of a host: what it is made of, and what others are shown of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use plugin_api::descriptor::Descriptor;
use plugin_api::identity::Role;
use tokio::sync::{mpsc, watch};

use super::commands::{Command, Commands};
use super::generations::Generations;
use super::swap::Swaps;
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
    /// The code of its next life; a swap exchanges it.
    library: Mutex<Arc<Library>>,
    /// The number of the next loaded copy.
    next_generation: AtomicU64,
    /// What was made of it so far.
    pub generations: Generations,
    /// Its swaps.
    pub swaps: Swaps,
    /// The way to its owner.
    commands: mpsc::UnboundedSender<Command>,
    /// The owner's end of that, until it takes it.
    asked: Mutex<Option<Commands>>,
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
        let (commands, asked) = mpsc::unbounded_channel();
        Self {
            role,
            config,
            next_generation: AtomicU64::new(library.generation() + 1),
            library: Mutex::new(Arc::new(library)),
            lifecycle,
            generations: Generations::default(),
            swaps: Swaps::default(),
            commands,
            asked: Mutex::new(Some(asked)),
            shown: watch::Sender::default(),
        }
    }

    /// The code of its next life.
    pub fn library(&self) -> Arc<Library> {
        self.lock_library().clone()
    }

    /// Its next life has this code.
    pub fn exchange_library(&self, library: Arc<Library>) {
        *self.lock_library() = library;
    }

    fn lock_library(&self) -> std::sync::MutexGuard<'_, Arc<Library>> {
        // Nothing of others runs while it is locked.
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of another loaded copy. None is given twice.
    pub fn next_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks its owner; false where that has gone.
    pub fn ask(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// What its owner is asked; for the owner, once.
    pub(super) fn commands(&self) -> Option<Commands> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
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

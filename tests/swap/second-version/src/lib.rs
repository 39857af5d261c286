//! The second version of a component, to be swapped for the first: the same code, under another version and with another
//! format of its state.
//!
//! Each crate beside this one makes a plugin of it. Its state has a field more than that of the first version ([`state`]); it
//! reads both, and the first version reads what it writes.
//!
//! # One entry symbol
//!
//! A plugin's crate that is linked into another one brings its entry symbol along, rustc exports it from that shared library
//! too, and the gate refuses a file with two. So the plugins' build scripts have the linker hide what comes out of archives
//! (`--exclude-libs,ALL`): all crates but the one that is being linked. Seen with `nm -D`: two entries without it, its own
//! alone with it, both with LLD and with GNU ld. A version script of our own would not do, since rustc passes one already
//! that has the symbol in it. Nor would a feature of the first version that leaves its entry out: Cargo builds a crate once
//! for the whole workspace, with all features that anybody asks for, and `librootcoord.so` would be without an entry as well.

pub mod state;

use std::sync::Mutex;
use std::sync::PoisonError;

use plugin_api::{
    BoxError, Component, Context, Deactivation, Descriptor, PeerEvent, Resume, Services, Snapshot, async_trait,
};

use crate::state::HandedOn;

/// A component in its second version.
pub struct Second<C> {
    first: C,
    /// How often its state has been handed to a second version.
    handed_on: Mutex<HandedOn>,
}

impl<C> Second<C> {
    /// Of the first version's code.
    pub fn new(first: C) -> Self {
        Self { first, handed_on: Mutex::default() }
    }

    fn handed_on(&self) -> std::sync::MutexGuard<'_, HandedOn> {
        self.handed_on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<C: Component> Component for Second<C> {
    fn descriptor(&self) -> Descriptor {
        self.first.descriptor()
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        self.first.start(context).await
    }

    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        tracing::info!(?resume, handed_on = self.handed_on().0, "the second version is active");
        self.first.activate(resume).await
    }

    async fn on_peer(&self, event: PeerEvent) {
        self.first.on_peer(event).await;
    }

    async fn on_stopping(&self) {
        self.first.on_stopping().await;
    }

    async fn deactivate(&self, reason: Deactivation) {
        self.first.deactivate(reason).await;
    }

    async fn stop(&self) {
        self.first.stop().await;
    }

    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        let snapshot = self.first.snapshot().await?;
        Ok(state::second(snapshot, *self.handed_on())?)
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        let handed_on = state::handed_on(&snapshot)?;
        self.first.restore(snapshot).await?;
        *self.handed_on() = HandedOn(handed_on.0 + 1);
        Ok(())
    }
}

//! The second version of a component, to be swapped for the first: the same code, under another version and with another
//! format of its state.
//!
//! Each crate beside this one makes a plugin of it. Its state has a field more than that of the first version; it reads both,
//! and the first version reads what it writes (`proto::state`).
//!
//! # One entry symbol
//!
//! A plugin's crate that is linked into another one brings its entry symbol along, rustc exports it from that shared library
//! too, and the gate refuses a file with two. So the plugins' build scripts have the linker hide what comes out of archives
//! (`--exclude-libs,ALL`): all crates but the one that is being linked. Seen with `nm -D`: two entries without it, its own
//! alone with it, both with LLD and with GNU ld. A version script of our own would not do, since rustc passes one already
//! that has the symbol in it. Nor would a feature of the first version that leaves its entry out: Cargo builds a crate once
//! for the whole workspace, with all features that anybody asks for, and `librootcoord.so` would be without an entry as well.

use std::sync::atomic::{AtomicU64, Ordering};

use plugin_api::{
    BoxError, Component, Context, Deactivation, Descriptor, PeerEvent, Resume, Services, Snapshot, async_trait,
};
use proto::state::Format;

/// Its state: that of the first version, with [`HANDED_ON`].
const STATE: Format = Format { version: 2, readable_from: 1 };

/// The field more.
const HANDED_ON: &str = "handed_on";

/// A component in its second version.
pub struct Second<C> {
    first: C,
    /// How often its state has been handed to a second version; 0 where it begins.
    handed_on: AtomicU64,
}

impl<C> Second<C> {
    /// Of the first version's code.
    pub fn new(first: C) -> Self {
        Self { first, handed_on: AtomicU64::new(0) }
    }

    fn handed_on(&self) -> u64 {
        self.handed_on.load(Ordering::Relaxed)
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
        tracing::info!(?resume, handed_on = self.handed_on(), "the second version is active");
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
        Ok(STATE.add(snapshot, HANDED_ON, &self.handed_on())?)
    }

    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        // A first version's has none.
        let before: Option<u64> = STATE.added(&snapshot, HANDED_ON)?;
        self.first.restore(snapshot).await?;
        self.handed_on.store(before.unwrap_or_default() + 1, Ordering::Relaxed);
        Ok(())
    }
}

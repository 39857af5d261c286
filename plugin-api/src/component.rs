//! The contract: what an author writes, and when the host calls it.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::error::{BoxError, Error};
use crate::peers::PeerEvent;
use crate::services::Services;

/// A component: the code that plays a role in a host.
///
/// # Its life
///
/// ```text
/// constructor → descriptor → [restore] → start → activate ⇄ deactivate → stop
///                                          └─ on_peer, calls ─┘
/// ```
///
/// 1. The constructor that was given to [`crate::export!`] makes it from its configuration. It does no I/O.
/// 2. [`start`](Self::start) builds its services while its dependencies are being linked (between steps 3 and 4 of the
///    host's start). It runs in a standby too. Metadata can be read; a write answers `FENCED`.
/// 3. [`activate`](Self::activate) comes when its session is held as the active one (in step 4). From here it may write
///    metadata, and its background work runs.
/// 4. From step 5 on it is Healthy and is called. [`on_peer`](Self::on_peer) tells it of its peers, one event at a time.
/// 5. [`on_stopping`](Self::on_stopping) asks it to let its work move elsewhere; it is still called.
/// 6. [`deactivate`](Self::deactivate) ends its background work; running calls go on. Both alternate strictly: an
///    `activate` is followed by one `deactivate`, at the stop at the latest.
/// 7. [`stop`](Self::stop) ends the rest. Then it is dropped, in its own runtime.
///
/// Only [`start`](Self::start) has to be written.
///
/// # A swap
///
/// Another generation of the component may take its place while it serves: under the same session, at the same address, with
/// the same links. Calls that run end on the generation that began them, new ones go to the new one; those of gated methods
/// are held while the state goes from one to the other.
///
/// ```text
/// former   snapshot ──────────────────► deactivate(SwappedOut)  calls end          stop
///             └─► new   restore → start ─┘ activate(Restored)   all new calls      …
/// ```
///
/// What a component does by itself belongs to one generation at a time. So tasks, and streams of peers and metadata, that
/// were not begun for a call end after `deactivate` with [`Deactivation::SwappedOut`]: begin them in `activate`, since the
/// generation may be activated again where the swap is rolled back. What was begun for a call goes on with it, and ends with the
/// last call of its generation once another has the place.
///
/// # Threads, panics and time
///
/// All methods run on the host's workers, inside the plugin's own tokio runtime: timers, sockets and `tokio::spawn` work.
/// What blocks goes to `tokio::task::spawn_blocking`. A panic in a call is `INTERNAL` for that call alone; a panic or an
/// error in `start` or `activate`, and a panic in any other method here or in a task of [`Context::spawn`], turns the
/// component Abnormal, and the host starts a fresh one after a while. Each method has a time limit (`[component.<role>]` in
/// the configuration); past it the host drops the method's future and goes on as after an error, but after `on_peer` with
/// the next event. A future that is always ready must yield by itself: the host's workers have no budget for it.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// What it is and what it depends on; asked once, before anything else.
    fn descriptor(&self) -> Descriptor {
        Descriptor::default()
    }

    /// Builds the services that the component serves. The context may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Any error turns the component Abnormal; it is started again, from its constructor, after a while.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit or when the host stops. Nothing of the component is used afterwards but its `stop`.
    async fn start(&self, context: Context) -> Result<Services, BoxError>;

    /// The session is held as the active one: writes are allowed and background work may run.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit or when the host stops; `deactivate` follows.
    async fn activate(&self, resume: Resume) -> Result<(), BoxError> {
        let _ = resume;
        Ok(())
    }

    /// A peer came, went or changed. First comes the table of each role as it is. The next event waits until this one is
    /// handled, and nobody else is held up. Where it took long, the events of a role that came meanwhile are merged: a new
    /// table comes in their place.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit: the table of that role comes next. Dropped when the component is deactivated for good.
    async fn on_peer(&self, event: PeerEvent) {
        let _ = event;
    }

    /// The host will stop, and peers have been told. Returns when the component's work has moved elsewhere; the host waits
    /// for it at most for the grace (`shutdown.grace`), and serves its calls meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropped when the grace is over.
    async fn on_stopping(&self) {}

    /// Background work has to end, and nothing may be written any more. Calls that run go on.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit.
    async fn deactivate(&self, reason: Deactivation) {
        let _ = reason;
    }

    /// The last method that is called.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit.
    async fn stop(&self) {}

    /// The component's state, for another generation of it. No call of a gated method ([`Descriptor::gated`]) runs, and none
    /// begins before the swap is over; other calls go on, before and after. What the state tells of must not change any
    /// more, so background work is paused from here on, until the next `activate`. A swap that is refused after this tells a
    /// component that was activated so with `deactivate` and an `activate` with [`Resume::Kept`].
    ///
    /// # Errors
    ///
    /// An error refuses the swap. The default has no state to give and refuses with `UNIMPLEMENTED`.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit or when the host stops: the swap is refused.
    async fn snapshot(&self) -> Result<Snapshot, BoxError> {
        Err(Box::new(Error::new(Code::Unimplemented, "this component gives no snapshot")))
    }

    /// Takes over another generation's state. Either of the two may be the newer. It comes before [`start`](Self::start); or,
    /// where a swap is rolled back, to the former generation, which was started and is deactivated, and takes the place of
    /// what that one knew. What was restored is true from the next `activate` on with [`Resume::Restored`] or
    /// [`Resume::Kept`]; with any other it is to be forgotten: metadata is read again.
    ///
    /// # Errors
    ///
    /// An error refuses the swap. The default refuses with `UNIMPLEMENTED`.
    ///
    /// # Cancel safety
    ///
    /// Dropped at its time limit or when the host stops: nothing of the component is used afterwards but its `stop`.
    async fn restore(&self, snapshot: Snapshot) -> Result<(), BoxError> {
        let _ = snapshot;
        Err(Box::new(Error::new(Code::Unimplemented, "this component takes no snapshot")))
    }
}

/// Why a component is activated, which says what it may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// First registration of this host: what the component knows is what it has read from metadata.
    Fresh,
    /// A fence is over and nobody else was active meanwhile: its state is still true.
    Kept,
    /// It has taken over from another host, or may have been replaced meanwhile: read metadata again, and skip every range
    /// that may have been used.
    TakenOver,
    /// A swap handed it the other generation's state by [`Component::restore`].
    Restored,
    /// A swap was rolled back: read metadata again, and skip every range that may have been used.
    RolledBack,
}

/// Why a component is deactivated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deactivation {
    /// The lease is not certain any more (policy *fence*).
    Fenced,
    /// Another process holds the session.
    Replaced,
    /// Another generation takes over. Where that fails an `activate` follows, else `stop`.
    SwappedOut,
    /// The host stops, or the component is restarted.
    Stop,
}

/// A component's state, on its way to another generation.
#[derive(Debug)]
pub struct Snapshot {
    /// The version of the state's format, the author's own count.
    pub state_version: u32,
    /// The state.
    pub bytes: Vec<u8>,
    /// What cannot be copied, such as memfds. The receiver owns them.
    pub files: Vec<OwnedFd>,
}

//! The fence: may this component act as the holder of its session at this very moment?
//!
//! A lease tells who may act only as long as it is certain to live. The host counts that time, and a component asks here; what
//! it writes is compared by etcd all the same ([`crate::metadata`]).

use crate::border::v1;

/// Says whether the component is fenced: whether its session is not held for certain, so that another process may act in its
/// place. [`crate::Context::fence`] gives it. Cheap to clone, and usable from every thread.
///
/// It stands under both lease policies: while `true` is told, a write of metadata answers `FENCED`. It is
///
/// * `true` from the constructor until [`crate::Component::activate`] is called, and in a standby;
/// * `false` from there, while the session is held for certain;
/// * `true` again at the lease's deadline without an answer from etcd, to the moment, however long the machine has slept; when
///   the key is deleted or another process holds it; and after [`crate::Component::deactivate`], until the next `activate`.
///
/// # A handler that asks
///
/// What leaves the process and cannot be compared by etcd, such as an order to a foreign system, is best preceded by a look
/// at the fence; and long work is given up when it falls:
///
/// ```
/// use plugin_api::{Context, Reason, Refusal};
/// use tonic::Status;
///
/// async fn move_segment(context: &Context, segment: u64) -> Result<(), Status> {
///     let fence = context.fence();
///     let refusal = || Refusal::new(Reason::Fenced, "this coordinator may have been replaced");
///     if fence.is_fenced() {
///         return Err(refusal().into_status());
///     }
///     tokio::select! {
///         // Some of it may have been done.
///         () = fence.fenced() => Err(refusal().maybe_executed().into_status()),
///         moved = copy_elsewhere(segment) => moved,
///     }
/// }
/// # async fn copy_elsewhere(_: u64) -> Result<(), Status> { Ok(()) }
/// ```
#[derive(Clone)]
pub struct Fence {
    host: v1::Host,
}

impl Fence {
    pub(crate) fn new(host: v1::Host) -> Self {
        Self { host }
    }

    /// Is the component fenced now? It looks at a clock each time: for each request, not for each row.
    pub fn is_fenced(&self) -> bool {
        self.host.is_fenced()
    }

    /// Returns when the component is fenced; at once where it is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn fenced(&self) {
        self.host.fence_is(true).await;
    }

    /// Returns when the component is not fenced; at once where it is not.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn lifted(&self) {
        self.host.fence_is(false).await;
    }
}

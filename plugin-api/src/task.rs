//! Background tasks of a component, run by the host.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use abi_stable::std_types::RResult;
use async_ffi::FfiFuture;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::border::future::Guarded;
use crate::border::v1::TaskV1;
use crate::call::handed_on;
use crate::context::Shared;

/// A task that [`crate::Context::spawn`] started. Dropping it lets the task run on; awaiting it gives its output.
pub struct Task<T> {
    task: TaskV1,
    output: oneshot::Receiver<T>,
}

/// A task ended without an output: it was aborted, it panicked, or the component was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was aborted, panicked, or ended with its component")]
pub struct TaskEnded;

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn<F>(shared: &Arc<Shared>, name: &str, future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, output) = oneshot::channel();
        let work = async move {
            // Nobody waits for the output of a task whose handle was dropped.
            let _ = sender.send(future.await);
        };
        let guarded = Guarded::new(shared.runtime.clone(), handed_on(work.in_current_span()));
        let crossing = FfiFuture::new(async move {
            match guarded.await {
                Ok(()) => RResult::ROk(()),
                Err(panicked) => RResult::RErr(panicked.0.into()),
            }
        });
        Self { task: shared.host.spawn(name, crossing), output }
    }
}

impl<T> Task<T> {
    /// Ends the task: its future is dropped at its next point of waiting.
    pub fn abort(&self) {
        self.task.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.output).poll(context).map_err(|_| TaskEnded)
    }
}

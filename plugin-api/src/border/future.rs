//! Polling the other side's work: always inside its runtime's context, and never letting a panic out.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A panic that was caught at the border: its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "a panic without a text".to_owned()))
    }
}

/// Runs `work` and catches its panic.
///
/// # Errors
///
/// [`Panicked`] where it panicked.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let panicked = Panicked::from_payload(payload.as_ref());
        // The payload's own drop may panic too; a leak of a few bytes is the lesser evil.
        std::mem::forget(payload);
        panicked
    })
}

/// Something of this side that the other side polls and drops on its own threads.
///
/// Each access enters this side's runtime, so that timers, sockets and `tokio::spawn` work, and catches panics.
pub struct Guarded<T> {
    runtime: Handle,
    // Boxed, so that it can be pinned for good and dropped by hand; `None` after it ended or panicked.
    inner: Option<Pin<Box<T>>>,
}

impl<T> Guarded<T> {
    /// Guards `inner`, which uses this runtime.
    pub fn new(runtime: Handle, inner: T) -> Self {
        Self { runtime, inner: Some(Box::pin(inner)) }
    }

    /// Does `work` with what is guarded; after a panic it is gone.
    ///
    /// # Errors
    ///
    /// [`Panicked`] where it panicks, and at each further call.
    pub fn with<R>(&mut self, work: impl FnOnce(Pin<&mut T>) -> R) -> Result<R, Panicked> {
        let Some(inner) = self.inner.as_mut() else {
            return Err(Panicked("used again after it ended".to_owned()));
        };
        let result = guard(|| {
            let _entered = self.runtime.enter();
            work(inner.as_mut())
        });
        if result.is_err() {
            self.discard();
        }
        result
    }

    /// Drops what is guarded, now.
    pub fn discard(&mut self) {
        if let Some(inner) = self.inner.take() {
            // A panic in a drop has nowhere to go; the panic hook has logged it.
            let _ = guard(|| {
                let _entered = self.runtime.enter();
                drop(inner);
            });
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        self.discard();
    }
}

impl<T: Future> Future for Guarded<T> {
    type Output = Result<T::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.with(|inner| inner.poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                self.discard();
                Poll::Ready(Ok(output))
            }
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let work = Guarded::new(Handle::current(), async { panic!("no {}", "way") });
        let result: Result<(), Panicked> = work.await;
        assert_eq!(result, Err(Panicked("no way".to_owned())));
    }

    #[test]
    fn a_timer_works_on_a_thread_without_a_runtime() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let work = Guarded::new(runtime.handle().clone(), async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            7
        });
        assert_eq!(futures_util::FutureExt::now_or_never(async { 1 }), Some(1));
        let other = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without timers");
        assert_eq!(other.block_on(work), Ok(7));
    }

    #[tokio::test]
    async fn a_panic_in_a_drop_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a drop");
            }
        }
        drop(Guarded::new(Handle::current(), async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }));
        let mut guarded = Guarded::new(Handle::current(), Bomb);
        guarded.discard();
        assert!(guarded.with(|_| ()).is_err());
    }
}

//! The answer's body: what ends a call ends it, whether it is read or not.
//!
//! A reader that does not poll would hold the call's resources, and the peer's stream, after the call was cut. So the body
//! lies where what ends the call can take it away.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use tokio::runtime::Handle;
use tonic::Status;
use tonic::body::Body;

use super::dependency::PeerShared;
use super::link::{LinkBody, LinkError};
use super::tape::Turn;

/// Ready when a call is ended from here, with the status that its caller gets.
pub(super) type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A call that runs on a link: counted, and over when this is dropped.
pub(super) struct Running {
    peer: Arc<PeerShared>,
    _upload: Turn,
}

impl Running {
    /// Counts a call to this peer.
    pub fn begin(peer: Arc<PeerShared>, upload: Turn) -> Self {
        peer.running.fetch_add(1, Ordering::Relaxed);
        Self { peer, _upload: upload }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.peer.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is received. A call that is cut yields its status here, once.
pub(super) struct Download<Broken> {
    shared: Arc<Shared>,
    /// The end is polled with this: it is told of the end though nobody reads, and a frame needs no look at it.
    alarm: Waker,
    broken: Broken,
}

struct Shared {
    // Locked for each frame by the reader, and once by what ends the call.
    state: Mutex<State>,
    /// The end has told of itself, and nobody has looked at it since.
    rung: AtomicBool,
    reader: AtomicWaker,
    runtime: Handle,
}

enum State {
    /// Dropping the body resets the call at the peer.
    Open {
        body: LinkBody,
        _running: Running,
        end: End,
    },
    /// To be told to the reader.
    Ended(Status),
    Over,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the call been ended? Then what it held goes.
    fn settle(&self, alarm: &Waker) {
        let mut state = self.lock();
        let State::Open { end, .. } = &mut *state else { return };
        // Before the look: what rings from now on is looked at once more.
        self.rung.store(false, Ordering::Release);
        let Poll::Ready(status) = end.as_mut().poll(&mut Context::from_waker(alarm)) else { return };
        let before = std::mem::replace(&mut *state, State::Ended(status));
        drop(state);
        drop(before);
    }

    fn close(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Over);
        drop(before);
    }
}

/// Wakes the reader, and sees itself to it that the call is over: it may be that nobody reads.
struct Alarm(Weak<Shared>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.rung.store(true, Ordering::Release);
        shared.reader.wake();
        let runtime = shared.runtime.clone();
        // Not here: whoever ends calls may hold locks that the end looks at. It ends by itself, at once.
        runtime.spawn(async move { shared.settle(&Waker::from(self)) });
    }
}

impl<Broken> Download<Broken>
where
    Broken: Fn(LinkError) -> Status + Send + Unpin + 'static,
{
    /// The answer's body, until `end`; `broken` says what an error of the link is for the caller.
    pub fn wrap(body: LinkBody, running: Running, end: End, broken: Broken) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let state = Mutex::new(State::Open { body, _running: running, end });
        let (rung, reader) = (AtomicBool::new(false), AtomicWaker::new());
        let shared = Arc::new(Shared { state, rung, reader, runtime: Handle::current() });
        let alarm = Waker::from(Arc::new(Alarm(Arc::downgrade(&shared))));
        // From now on it is told of the end.
        shared.settle(&alarm);
        Body::new(Self { shared, alarm, broken })
    }
}

impl<Broken> http_body::Body for Download<Broken>
where
    Broken: Fn(LinkError) -> Status + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.shared.reader.register(context.waker());
        if self.shared.rung.load(Ordering::Acquire) {
            self.shared.settle(&self.alarm);
        }
        let mut state = self.shared.lock();
        let polled = match &mut *state {
            State::Open { body, end, .. } => match Pin::new(body).poll_frame(context) {
                // What ends the call may have ended its link first: it says more.
                Poll::Ready(Some(Err(error))) => match end.as_mut().poll(&mut Context::from_waker(&self.alarm)) {
                    Poll::Ready(status) => Poll::Ready(Some(Err(status))),
                    Poll::Pending => Poll::Ready(Some(Err((self.broken)(error)))),
                },
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
            State::Ended(_) | State::Over => {
                let State::Ended(status) = std::mem::replace(&mut *state, State::Over) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Err(status)));
            }
        };
        let (over, frame) = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => (!matches!(frame, Some(Ok(_))), frame),
        };
        let before = over.then(|| std::mem::replace(&mut *state, State::Over));
        drop(state);
        drop(before);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &*self.shared.lock() {
            State::Open { body, .. } => body.is_end_stream(),
            State::Ended(_) => false,
            State::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.shared.lock() {
            State::Open { body, .. } => body.size_hint(),
            State::Ended(_) => SizeHint::default(),
            State::Over => SizeHint::with_exact(0),
        }
    }
}

impl<Broken> Drop for Download<Broken> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

//! A call that was let in, until its answer has ended: handed to the component, counted, logged, and cut where it must end.
//!
//! What is left of a call that was cut is dropped here, also where nobody reads its answer: a connection whose window is
//! full does not ask for the next frame.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use plugin_api::call::Call;
use plugin_api::identity::Role;
use plugin_api::trace::TraceContext;
use tokio::runtime::Handle;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use super::cut::Cut;
use super::log::CallLog;
use crate::plugin::{CallEntry, Generation};

/// A call that may go on to its component.
pub(super) struct Admitted {
    pub role: Role,
    pub generation: Generation,
    pub cut: Cut,
    pub entry: CallEntry,
}

/// How many frames still go out after the cut where they are there already: a unary answer's data and trailers. A stream
/// that always has more to say is cut all the same.
const AFTER_CUT: u8 = 2;

/// How long an answer that was cut may still be read; then what is left of it is dropped.
const UNREAD: Duration = Duration::from_millis(250);

/// How long it is waited where the component is just being asked for the next frame.
const BUSY: Duration = Duration::from_millis(10);

/// Hands a call over, and answers.
///
/// # Cancel safety
///
/// The call is cancelled with it, in the component too.
pub(super) async fn answer(admitted: Admitted, mut request: Request<Body>) -> Response<Body> {
    let Admitted { role, generation, cut, entry } = admitted;
    let mut call = Call::read(request.headers());
    let parent = call.trace.take();
    // The first host of a trace begins it.
    let trace = parent.as_ref().map_or_else(TraceContext::new, TraceContext::child);
    trace.write(request.headers_mut());
    let mut log = CallLog::begin(&role, request.uri().path(), &trace, parent.as_ref());
    call.trace = Some(trace);
    // One for the head and the body: each takes locks that all calls of the component share.
    let mut done = Box::pin(cut.done());
    tokio::select! {
        biased;
        response = call.clone().serve(generation.call(request)) => {
            log.head(response.headers());
            response.map(|body| Body::new(Counted::new(body, cut, done, entry, call, log)))
        }
        () = &mut done => {
            let status = cut.status();
            log.status(&status);
            status.into_http()
        }
    }
}

/// Ready when a call is cut.
type Done = Pin<Box<WaitForCancellationFutureOwned>>;

/// An answer's body: it is counted until it ends, and can be cut.
struct Counted {
    running: Arc<Running>,
    cut: Cut,
    /// Wakes `running`, wherever this body is.
    _done: Done,
    call: Call,
    log: CallLog,
    after_cut: u8,
    ended: bool,
}

/// What runs of a call in its component.
struct Running {
    /// Gone when it has ended or was dropped. Locked while it is asked for a frame.
    answer: Mutex<Option<(Body, CallEntry)>>,
    is_cut: AtomicBool,
    reader: AtomicWaker,
    runtime: Handle,
}

impl Counted {
    /// `done` ends when it is cut.
    fn new(body: Body, cut: Cut, mut done: Done, entry: CallEntry, call: Call, log: CallLog) -> Self {
        let running = Arc::new(Running {
            answer: Mutex::new(Some((body, entry))),
            is_cut: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            runtime: Handle::current(),
        });
        let waker = Waker::from(Arc::clone(&running));
        if done.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
        Self { running, cut, _done: done, call, log, after_cut: AFTER_CUT, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        self.running.lock().take();
    }
}

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Body, CallEntry)>> {
        // A panic of the component's is caught at the border; what another has left behind is whole.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drop_unread(&self) {
        tokio::time::sleep(UNREAD).await;
        // A component may keep a thread in there; not ours, too.
        while !self.try_drop() {
            tokio::time::sleep(BUSY).await;
        }
    }

    fn try_drop(&self) -> bool {
        match self.answer.try_lock() {
            Ok(mut answer) => drop(answer.take()),
            Err(TryLockError::Poisoned(poisoned)) => drop(poisoned.into_inner().take()),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }
}

/// It is woken by the cut.
impl Wake for Running {
    fn wake(self: Arc<Self>) {
        if self.is_cut.swap(true, Ordering::AcqRel) {
            return;
        }
        self.reader.wake();
        let running = Arc::clone(&self);
        self.runtime.spawn(async move { running.drop_unread().await });
    }
}

/// A status as the last frame. An error of a body would reset the stream, and its caller would not be told why.
fn in_trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        // Before the flag is looked at: the cut sets it first, and wakes then.
        this.running.reader.register(context.waker());
        let cut = this.running.is_cut.load(Ordering::Acquire);
        let over = cut && this.after_cut == 0;
        let polled = match &mut *this.running.lock() {
            Some((body, _)) => this.call.clone().step(|| Pin::new(body).poll_frame(context)),
            None => Poll::Pending,
        };
        let frame = match polled {
            Poll::Ready(frame) if !over || frame.is_none() => frame,
            Poll::Pending if !cut => return Poll::Pending,
            _ => Some(Err(this.cut.status())),
        };
        this.after_cut -= u8::from(cut && !over);
        if !matches!(frame, Some(Ok(_))) {
            this.end();
        }
        let frame = match frame {
            Some(Err(status)) => Some(in_trailers(&status)),
            frame => frame,
        };
        if let Some(trailers) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref()) {
            this.log.head(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.running.lock().as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use plugin_api::refusal::{Reason, Refusal};

    use super::*;
    use crate::plugin::Ledger;

    fn data() -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(b"data")))
    }

    fn answer<S>(frames: S, cut: &Cut) -> Counted
    where
        S: futures_util::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
    {
        counted(frames, cut, &Ledger::new())
    }

    fn counted<S>(frames: S, cut: &Cut, ledger: &Arc<Ledger>) -> Counted
    where
        S: futures_util::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
    {
        let body = Body::new(StreamBody::new(frames));
        Counted::new(
            body,
            cut.clone(),
            Box::pin(cut.done()),
            ledger.call(false),
            Call::read(&HeaderMap::new()),
            CallLog::default(),
        )
    }

    /// How many frames of data come, and the status in the trailers; an error would be a reset stream, which tells nothing.
    async fn rest_of(mut answer: Counted) -> (usize, Option<Status>) {
        let (mut data, mut status) = (0, None);
        while let Some(frame) = answer.frame().await {
            match frame.expect("no error of the body").into_trailers() {
                Ok(trailers) => status = Status::from_header_map(&trailers),
                Err(_) => data += 1,
            }
        }
        (data, status)
    }

    #[tokio::test]
    async fn a_stream_that_always_has_more_is_cut_with_the_reason() {
        let cut = Cut::default();
        let mut answer = answer(futures_util::stream::repeat_with(data), &cut);
        for _ in 0..10 {
            assert!(matches!(answer.frame().await, Some(Ok(_))));
        }
        cut.cut(Reason::SessionStopping, "enough");
        let (data, status) = rest_of(answer).await;
        let refusal = status.as_ref().and_then(Refusal::from_status).expect("a refusal");
        assert_eq!((data, refusal.reason, refusal.message.as_str()), (2, Reason::SessionStopping, "enough"));
    }

    #[tokio::test]
    async fn an_answer_that_is_there_is_not_cut_off() {
        let cut = Cut::default();
        let whole = answer(futures_util::stream::iter([data(), in_trailers(&Status::ok(""))]), &cut);
        cut.cut(Reason::SessionStopping, "too late");
        let (data, status) = rest_of(whole).await;
        assert_eq!((data, status.map(|status| status.code())), (1, Some(tonic::Code::Ok)));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_says_why() {
        let broken = futures_util::stream::iter([data(), Err(Status::internal("the body panicked"))]);
        let (data, status) = rest_of(answer(broken, &Cut::default())).await;
        let status = status.expect("a status");
        assert_eq!((data, status.code(), status.message()), (1, tonic::Code::Internal, "the body panicked"));
    }

    #[tokio::test]
    async fn who_waits_for_the_next_frame_is_woken_by_the_cut() {
        let cut = Cut::default();
        let waiting = tokio::spawn(rest_of(answer(futures_util::stream::pending(), &cut)));
        tokio::task::yield_now().await;
        cut.cut(Reason::SessionStopping, "enough");
        let (data, status) = waiting.await.expect("no panic");
        assert_eq!((data, status.map(|status| status.code())), (0, Some(tonic::Code::Unavailable)));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_dropped_after_the_cut() {
        let (cut, ledger, alive) = (Cut::default(), Ledger::new(), Arc::new(()));
        let held = Arc::clone(&alive);
        let frames = futures_util::stream::repeat_with(move || {
            let _held = &held;
            data()
        });
        let mut unread = counted(frames, &cut, &ledger);
        assert!(matches!(unread.frame().await, Some(Ok(_))));
        cut.cut(Reason::SessionStopping, "enough");
        // It is not read, and lives on: in a connection whose window is full.
        tokio::time::timeout(UNREAD * 40, ledger.no_calls()).await.expect("the call is not counted any more");
        assert_eq!(Arc::strong_count(&alive), 1, "nor does it run");
        let (data, status) = rest_of(unread).await;
        assert_eq!((data, status.map(|status| status.code())), (0, Some(tonic::Code::Unavailable)));
    }
}

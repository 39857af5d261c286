//! What is sent, kept until the head of its answer is there: a call that nobody has executed can be sent again as it was.
//!
//! The frames that have been read are kept (cheap clones of their bytes) up to a bound; a call that has sent more is not
//! sent again. What ends a call ends its upload, wherever that is.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// How much of a request is kept: every ordinary unary call, and the beginning of a stream. A caller with many large
/// uploads under way holds them in memory anyway.
const KEPT: usize = 1 << 20;

/// A request's body, and what was read of it. Dropped before its call is answered, it ends the upload and the body.
pub(super) struct Tape {
    /// None where there is no body.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    /// Which upload reads. One that was begun before, or has ended, has another number and reads no more.
    turn: AtomicU64,
    /// Wakes who sends, to be told so.
    sender: AtomicWaker,
    // Locked for each frame; there is one reader at a time, but for the moment in which the next one takes its place.
    recording: Mutex<Recording>,
}

struct Recording {
    /// The caller's body; gone when the call is over.
    source: Option<Body>,
    kept: Vec<Kept>,
    bytes: usize,
    /// Another upload may still be begun.
    keeps: bool,
}

enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Ends the upload that it was made for when it is dropped.
pub(super) struct Turn {
    shared: Option<(Arc<Shared>, u64)>,
}

impl Tape {
    /// Of a request that has not been sent.
    pub fn new(body: Body) -> Self {
        let recording = |source| Recording { source: Some(source), kept: Vec::new(), bytes: 0, keeps: true };
        let shared = (!body.is_end_stream()).then(|| {
            let recording = Mutex::new(recording(body));
            Arc::new(Shared { turn: AtomicU64::new(0), sender: AtomicWaker::new(), recording })
        });
        Self { shared }
    }

    /// The whole body, from its beginning; any upload before it ends. None where too much of it has been sent.
    pub fn play(&self) -> Option<(Body, Turn)> {
        let Some(shared) = &self.shared else { return Some((Body::empty(), Turn { shared: None })) };
        if !shared.lock().keeps {
            return None;
        }
        let turn = shared.turn.fetch_add(1, Ordering::AcqRel) + 1;
        shared.sender.wake();
        let upload = Upload { shared: Arc::clone(shared), turn, next: 0 };
        Some((Body::new(upload), Turn { shared: Some((Arc::clone(shared), turn)) }))
    }

    /// Can it be played again?
    pub fn is_whole(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.lock().keeps)
    }

    /// The call will not be sent again.
    pub fn forget(&self) {
        if let Some(shared) = &self.shared {
            shared.lock().keeps = false;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Recording> {
        // A caller's body that panics has left the recording as it was before.
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        // Where the caller's body is just being read, who reads it is told by the end of the turn.
        let Ok(mut recording) = shared.recording.try_lock() else { return };
        if !recording.keeps {
            // It was answered, and its upload goes on; or the end of the turn has taken the body.
            return;
        }
        recording.keeps = false;
        recording.kept = Vec::new();
        // A connection whose window is full holds the upload, and does not ask it.
        let source = recording.source.take();
        shared.turn.fetch_add(1, Ordering::AcqRel);
        drop(recording);
        shared.sender.wake();
        drop(source);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((shared, turn)) = self.shared.take() else { return };
        let ended = shared.turn.compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_err() {
            return;
        }
        // The caller's body may end its own call; then it is dropped with the upload, which is about to be told.
        let source = shared
            .recording
            .try_lock()
            .ok()
            .and_then(|mut recording| if recording.keeps { None } else { recording.source.take() });
        shared.sender.wake();
        drop(source);
    }
}

/// One sending of the body. It ends with an error when its turn is over, so that no upload goes on after its call.
struct Upload {
    shared: Arc<Shared>,
    turn: u64,
    /// Which of the kept frames is sent next.
    next: usize,
}

impl Upload {
    fn is_over(&self) -> bool {
        self.shared.turn.load(Ordering::Acquire) != self.turn
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        this.shared.sender.register(context.waker());
        let shared = Arc::clone(&this.shared);
        let mut recording = shared.lock();
        if this.is_over() {
            return Poll::Ready(Some(Err(Status::cancelled("the call is over"))));
        }
        if let Some(kept) = recording.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(kept.frame())));
        }
        let Some(source) = &mut recording.source else { return Poll::Ready(None) };
        let polled = Pin::new(source).poll_frame(context);
        if let Poll::Ready(Some(frame)) = &polled {
            recording.keep(frame.as_ref().ok());
            this.next = recording.kept.len();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let recording = self.shared.lock();
        self.next >= recording.kept.len() && recording.source.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let recording = self.shared.lock();
        match &recording.source {
            Some(source) if recording.kept.is_empty() => source.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Recording {
    /// Keeps a frame, within the bound; a body that has failed cannot be sent again.
    fn keep(&mut self, frame: Option<&Frame<Bytes>>) {
        let kept = frame.and_then(Kept::of);
        self.bytes += kept.as_ref().map_or(KEPT, Kept::bytes);
        self.keeps &= self.bytes <= KEPT;
        if self.keeps {
            self.kept.extend(kept);
        } else {
            // Whoever sends is at their end.
            self.kept = Vec::new();
        }
    }
}

impl Kept {
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref().map(|data| Self::Data(data.clone()));
        data.or_else(|| frame.trailers_ref().map(|trailers| Self::Trailers(trailers.clone())))
    }

    /// What it counts: many small frames are not free.
    fn bytes(&self) -> usize {
        size_of::<Self>() + if let Self::Data(data) = self { data.len() } else { 0 }
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn tape(sizes: impl IntoIterator<Item = usize, IntoIter: Send + 'static>) -> Tape {
        let frames = sizes.into_iter().map(|size| Ok::<_, Status>(Frame::data(Bytes::from(vec![1; size]))));
        Tape::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
    }

    async fn sizes(body: &mut Body) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.push(frame.expect("its turn").into_data().expect("data").len());
        }
        sizes
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_and_then_the_rest() {
        let tape = tape([1, 2, 3]);
        let (mut first, _turn) = tape.play().expect("nothing was sent");
        assert!(first.frame().await.is_some_and(|frame| frame.is_ok()));
        let (mut second, _turn) = tape.play().expect("it is kept");
        assert!(first.frame().await.is_some_and(|frame| frame.is_err()), "its turn is over");
        assert_eq!(sizes(&mut second).await, [1, 2, 3]);
        assert_eq!(sizes(&mut tape.play().expect("it is kept").0).await, [1, 2, 3]);
    }

    #[tokio::test]
    async fn no_more_is_kept_than_the_bound() {
        let tape = tape([KEPT / 2, KEPT / 2, 7]);
        let (mut all, _turn) = tape.play().expect("nothing was sent");
        assert_eq!(sizes(&mut all).await, [KEPT / 2, KEPT / 2, 7], "it is sent all the same");
        assert!(tape.play().is_none());
        assert_eq!(tape.shared.as_ref().expect("a body").lock().kept.len(), 0, "what cannot be sent again is not kept");
    }

    /// With a body that never says anything, and lives as long as this.
    fn endless(held: &Arc<()>) -> Tape {
        let lives = Arc::clone(held);
        let endless = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        Tape::new(Body::new(StreamBody::new(futures_util::stream::StreamExt::map(endless, move |frame| {
            let _ = &lives;
            frame
        }))))
    }

    #[tokio::test]
    async fn a_call_that_ends_unanswered_leaves_no_body_in_an_upload_that_is_stuck() {
        let held = Arc::new(());
        let tape = endless(&held);
        let (mut stuck, turn) = tape.play().expect("nothing was sent");
        drop(turn);
        assert_eq!(Arc::strong_count(&held), 2, "it may be sent again");
        drop(tape);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(stuck.frame().await.is_some_and(|frame| frame.is_err()), "nor does it end as if it were whole");
    }

    #[tokio::test]
    async fn an_upload_ends_with_its_turn_and_the_body_with_its_call() {
        let held = Arc::new(());
        let tape = endless(&held);
        let (mut upload, turn) = tape.play().expect("nothing was sent");
        let sending = tokio::spawn(async move { upload.frame().await.is_some_and(|frame| frame.is_err()) });
        tape.forget();
        drop(turn);
        assert!(sending.await.expect("no panic"), "it is told");
        assert_eq!(Arc::strong_count(&held), 1, "whether it is polled or not");
    }
}

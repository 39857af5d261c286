//! The calls of one role, by method and status: how long they take, how they are refused, how many wait.
//!
//! On a call's way there is no lock and no allocation for a label: a method's counters are found by its path in a map that
//! is replaced as a whole when a method is seen for the first time.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use plugin_api::refusal::Reason;
use tonic::body::Body;
use tonic::{Code, Status};

use super::histogram::{Counted, Histogram};
use super::reason::reason_of;

/// How many methods of a role are told apart. Whoever calls decides what a path says; the rest is [`OTHER`].
const METHODS: usize = 256;
/// No path is longer by nature.
const LONGEST: usize = 256;
/// OpenTelemetry's name for what is not told apart.
pub const OTHER: &str = "_OTHER";
/// gRPC's codes, 0 to 16.
const CODES: usize = 17;

/// The calls of one role.
pub struct Calls {
    methods: ArcSwap<HashMap<Box<str>, Arc<Method>>>,
    /// Held while another method is added.
    growing: Mutex<()>,
    other: Arc<Method>,
    refusals: Vec<AtomicU64>,
    running: AtomicUsize,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Method {
    by_code: [OnceLock<Box<Histogram>>; CODES],
}

/// One call that is measured. Dropped before its status is known, it was cancelled.
pub struct Measured {
    calls: Arc<Calls>,
    /// The method's counters, or its path where it was not seen before.
    method: Result<Arc<Method>, Box<str>>,
    begun: Instant,
    is_over: bool,
}

/// One call that waits, until it is dropped.
pub struct Waiting<'a>(&'a Calls);

impl Default for Calls {
    fn default() -> Self {
        Self {
            methods: ArcSwap::default(),
            growing: Mutex::default(),
            other: Arc::default(),
            refusals: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Calls {
    /// A call of `path`, such as `/package.Service/Method`, begins.
    pub fn begin(self: &Arc<Self>, path: &str) -> Measured {
        let path = path.strip_prefix('/').unwrap_or(path);
        let methods = self.methods.load();
        let method = match methods.get(path) {
            Some(method) => Ok(Arc::clone(method)),
            None if methods.len() >= METHODS || path.len() > LONGEST => Ok(Arc::clone(&self.other)),
            None => Err(path.into()),
        };
        self.running.fetch_add(1, Ordering::Relaxed);
        Measured { calls: Arc::clone(self), method, begun: Instant::now(), is_over: false }
    }

    /// A call waits from now on.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Calls that have begun and are not over.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Those of them that wait for somebody to call.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How often each reason was given.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Method, code and durations of all calls that are over.
    pub fn durations(&self) -> Vec<(String, Code, Counted)> {
        let methods = self.methods.load();
        let methods = methods.iter().map(|(path, method)| (&**path, method)).chain([(OTHER, &self.other)]);
        let mut durations = Vec::new();
        for (path, method) in methods {
            for (code, histogram) in (0..).zip(&method.by_code) {
                if let Some(histogram) = histogram.get() {
                    durations.push((path.to_owned(), Code::from_i32(code), histogram.counted()));
                }
            }
        }
        durations.sort_by(|one, other| (&one.0, one.1 as i32).cmp(&(&other.0, other.1 as i32)));
        durations
    }

    fn grow(&self, path: &str) -> Arc<Method> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let methods = self.methods.load();
        if let Some(method) = methods.get(path) {
            return Arc::clone(method);
        }
        if methods.len() >= METHODS {
            return Arc::clone(&self.other);
        }
        let (mut more, method) = (HashMap::clone(&methods), Arc::<Method>::default());
        more.insert(path.into(), Arc::clone(&method));
        self.methods.store(Arc::new(more));
        method
    }

    fn refused(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            self.refusals[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Measured {
    /// Measures it to the end of this answer.
    pub fn answer(mut self, answer: Response<Body>) -> Response<Body> {
        // Headers only: the status is among them.
        if answer.headers().contains_key(Status::GRPC_STATUS) {
            self.status(answer.headers());
            return answer;
        }
        answer.map(|body| Body::new(MeasuredBody { body, measured: self }))
    }

    /// It ends with this status, and nothing before it.
    pub fn refuse(mut self, status: Status) -> Response<Body> {
        self.failed(&status);
        status.into_http()
    }

    fn status(&mut self, headers: &HeaderMap) {
        let code = headers.get(Status::GRPC_STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        if is_of_refusals(code)
            && let Some(status) = Status::from_header_map(headers)
        {
            return self.failed(&status);
        }
        self.over(code);
    }

    fn failed(&mut self, status: &Status) {
        if is_of_refusals(status.code())
            && let Some(reason) = reason_of(status)
        {
            self.calls.refused(reason);
        }
        self.over(status.code());
    }

    fn over(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.calls.running.fetch_sub(1, Ordering::Relaxed);
        let method = match &self.method {
            Ok(method) => Arc::clone(method),
            // Whoever calls what is not there must not make a name of it.
            Err(_) if code == Code::Unimplemented => Arc::clone(&self.calls.other),
            Err(path) => self.calls.grow(path),
        };
        if let Some(histogram) = method.by_code.get(code as usize) {
            histogram.get_or_init(Box::default).observe(self.begun.elapsed());
        }
    }
}

/// The codes that refusals have.
fn is_of_refusals(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Cancelled | Code::FailedPrecondition)
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.over(Code::Cancelled);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, to whose end the call is measured.
struct MeasuredBody {
    body: Body,
    measured: Measured,
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.measured.status(trailers);
                }
            }
            Some(Err(status)) => self.measured.failed(status),
            None => self.measured.over(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use plugin_api::refusal::Refusal;

    use super::*;

    fn counted(calls: &Calls) -> Vec<(String, Code, u64)> {
        calls.durations().into_iter().map(|(method, code, counted)| (method, code, counted.count)).collect()
    }

    /// An answer of one message, with this status in its trailers.
    fn answer(status: &Status) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).expect("a status is headers");
        let frames = [Ok::<_, Status>(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
        Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
    }

    #[tokio::test]
    async fn each_end_has_its_code() {
        let calls = Arc::<Calls>::default();
        let refusal = Refusal::new(Reason::SessionGone, "gone").into_status();
        for status in [Status::ok(""), Status::not_found(""), refusal.clone()] {
            drop(calls.begin("/p.S/M").answer(answer(&status)).into_body().collect().await);
        }
        drop(calls.begin("/p.S/M").answer(refusal.into_http()));
        assert_eq!(calls.running(), 0);
        // One whose caller does not wait for its answer, and one that does not wait for its end.
        drop(calls.begin("/p.S/M"));
        let mut begun = calls.begin("/p.S/M").answer(answer(&Status::ok(""))).into_body();
        begun.frame().await.expect("a frame").expect("data");
        assert_eq!(calls.running(), 1);
        drop(begun);
        let of = |code, count| ("p.S/M".to_owned(), code, count);
        let expected = [of(Code::Ok, 1), of(Code::Cancelled, 2), of(Code::NotFound, 1), of(Code::Unavailable, 2)];
        assert_eq!(counted(&calls), expected);
        assert_eq!(calls.refusals().collect::<Vec<_>>(), [(Reason::SessionGone, 2)]);
        assert_eq!(calls.running(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_with_a_refusal_is_counted_as_one() {
        let calls = Arc::<Calls>::default();
        let refusal = Refusal::new(Reason::PeerReplaced, "replaced").into_status();
        let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Err(refusal)];
        let answer = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
        drop(calls.begin("/p.S/M").answer(answer).into_body().collect().await);
        assert_eq!(counted(&calls), [("p.S/M".to_owned(), Code::Unavailable, 1)]);
        assert_eq!(calls.refusals().collect::<Vec<_>>(), [(Reason::PeerReplaced, 1)]);
    }

    #[test]
    fn no_caller_makes_names_without_end() {
        let calls = Arc::<Calls>::default();
        (0..1000)
            .for_each(|n| drop(calls.begin(&format!("/no.Such/{n}")).answer(Status::unimplemented("").into_http())));
        drop(calls.begin(&format!("/{}", "x".repeat(LONGEST + 1))));
        let other = |code, count| (OTHER.to_owned(), code, count);
        assert_eq!(counted(&calls), [other(Code::Cancelled, 1), other(Code::Unimplemented, 1000)]);
        (0..1000).for_each(|n| drop(calls.begin(&format!("/p.S/{n}"))));
        let all = counted(&calls);
        let named: u64 = all.iter().filter(|(method, ..)| method != OTHER).map(|(.., count)| count).sum();
        assert_eq!((all.len(), named), (METHODS + 2, METHODS as u64));
    }
}

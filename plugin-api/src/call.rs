//! The call that is being served: what it hands on to the calls that are made for it.
//!
//! Its deadline bounds them, less what was used; its trace is theirs. It is there while the handler's future and its
//! answer's body are polled, and in tasks of [`crate::Context::spawn`] that a handler starts. In a task of
//! `tokio::spawn` it is not: what outlives the call belongs there, or in [`Call::detached`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::trace::TraceContext;

/// How long a call may last; gRPC's name.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

tokio::task_local! {
    static CURRENT: Option<Call>;
}

/// A call that is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When its caller stops to wait, where it has said so.
    pub deadline: Option<Instant>,
    /// Where it is in its trace: the span is that of the call itself.
    pub trace: Option<TraceContext>,
}

impl Call {
    /// The call that is being served here and now.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// Runs a future as no part of the call that is being served: work that goes on when the call has ended.
    pub fn detached<F: Future>(future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(None, future)
    }

    /// What a call's metadata says of it.
    pub fn read(headers: &HeaderMap) -> Self {
        let timeout = headers.get(TIMEOUT).and_then(|value| parse_timeout(value.to_str().ok()?));
        Self {
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            trace: TraceContext::read(headers),
        }
    }

    /// Serves the call: what the future calls is called for it.
    pub fn serve<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Some(self), future)
    }

    /// Does a step of serving the call.
    pub fn step<T>(self, step: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Some(self), step)
    }

    /// What this call hands on to a call that is made for it. A timeout of its own stays where it is shorter, and so does
    /// a `traceparent` of its own.
    pub(crate) fn hand_on(&self, headers: &mut HeaderMap) {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let own = headers.get(TIMEOUT).map(|value| value.to_str().ok().and_then(parse_timeout));
            match own {
                // What cannot be read is for the host to refuse.
                Some(None) => {}
                Some(Some(own)) if own <= left => {}
                _ => set_timeout(headers, left),
            }
        }
        if let Some(trace) = self.trace.as_ref().filter(|_| !TraceContext::is_in(headers)) {
            trace.write(headers);
        }
    }
}

/// A future of the call that is being served, wherever it runs.
pub fn handed_on<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(Call::current(), future)
}

/// Limits how long a call may last.
pub fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    // The value has at most eight digits; the finest unit that fits, rounded up: nobody gets less time than was given.
    const MOST: u128 = 99_999_999;
    let nanoseconds = timeout.as_nanos();
    let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000)];
    let text = units
        .into_iter()
        .map(|(unit, size)| (unit, nanoseconds.div_ceil(size)))
        .find(|(_, count)| *count <= MOST)
        .map_or_else(|| format!("{MOST}H"), |(unit, count)| format!("{count}{unit}"));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TIMEOUT, value);
    }
}

/// A timeout as gRPC's specification has it: at most eight digits and a unit.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 60 * 60)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A body that is polled as part of the call within which it was made.
pub(crate) struct OfCall {
    call: Option<Call>,
    body: Body,
}

impl OfCall {
    pub fn new(body: Body) -> Self {
        Self { call: Call::current(), body }
    }
}

impl http_body::Body for OfCall {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // Also where it belongs to none: whoever polls it may be serving another.
        CURRENT.sync_scope(this.call.clone(), || Pin::new(&mut this.body).poll_frame(context))
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
    use super::*;

    fn left(headers: &HeaderMap) -> Option<Duration> {
        headers.get(TIMEOUT).and_then(|value| parse_timeout(value.to_str().ok()?))
    }

    fn call(timeout: Option<Duration>) -> Call {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Call { deadline, trace: Some(TraceContext::new()) }
    }

    #[test]
    fn a_call_has_no_more_time_than_the_one_that_it_is_made_for() {
        let second = Duration::from_secs(1);
        for (given, own, expected) in [
            (Some(second), None, second),
            (Some(second), Some(second * 60), second),
            (Some(second * 60), Some(second), second),
            (None, Some(second), second),
            (Some(Duration::ZERO), None, Duration::ZERO),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(own) = own {
                set_timeout(&mut headers, own);
            }
            call(given).hand_on(&mut headers);
            let left = left(&headers).expect("a limit");
            assert!(left <= expected && left + second / 2 > expected, "{given:?} {own:?}: {left:?}");
        }
        let mut headers = HeaderMap::new();
        call(None).hand_on(&mut headers);
        assert_eq!(left(&headers), None);
    }

    #[test]
    fn a_trace_is_handed_on_unless_the_call_has_its_own() {
        let (call, mut headers) = (call(None), HeaderMap::new());
        call.hand_on(&mut headers);
        assert_eq!(TraceContext::read(&headers), call.trace);
        let own = TraceContext::new();
        own.write(&mut headers);
        call.hand_on(&mut headers);
        assert_eq!(TraceContext::read(&headers), Some(own));
    }

    #[tokio::test]
    async fn the_call_is_there_while_it_is_served_and_no_longer() {
        let call = call(None);
        let seen = call.clone().serve(async {
            let spawned = tokio::spawn(handed_on(async { Call::current() })).await.expect("no panic");
            let bare = tokio::spawn(async { Call::current() }).await.expect("no panic");
            (Call::current(), spawned, bare, Call::detached(async { Call::current() }).await)
        });
        assert_eq!(seen.await, (Some(call.clone()), Some(call), None, None));
        assert_eq!(Call::current(), None);
    }
}

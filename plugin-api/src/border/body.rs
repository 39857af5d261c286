//! Bodies across the border: frames (data, trailers, an error) that the receiver polls from the sender.
//!
//! The first frames are fetched ahead, so that a unary body crosses together with its head.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use abi_stable::StableAbi;
use abi_stable::std_types::RVec;
use async_ffi::{ContextExt, FfiContext, FfiPoll};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::runtime::Handle;
use tonic::body::Body;
use tonic::{Code, Status};

use super::bytes::FfiBytes;
use super::future::Guarded;
use super::http::{decode_headers, encode_headers};
use crate::call::OfCall;

/// Enough for a unary message and its trailers.
const FETCHED_AHEAD: usize = 2;

/// One step of a body.
#[repr(C, u8)]
#[derive(StableAbi)]
enum FfiFrame {
    Data(FfiBytes),
    Trailers(RVec<u8>),
    /// A status as its headers have it.
    Error(RVec<u8>),
    End,
}

/// A body of the other side.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiBody {
    /// Frames that were fetched ahead, in reverse order: the next one is the last.
    ahead: RVec<FfiFrame>,
    /// Null where everything was fetched ahead.
    sender: *mut (),
    poll: unsafe extern "C" fn(*mut (), &mut FfiContext<'_>) -> FfiPoll<FfiFrame>,
    drop: unsafe extern "C" fn(*mut ()),
}

// SAFETY: `sender` is a `Guarded<OfCall>`, which is `Send`; there is one owner at a time.
unsafe impl Send for FfiBody {}

impl FfiBody {
    /// Hands a body over; it uses this runtime of the sending side.
    pub(super) fn new(runtime: &Handle, mut body: Body) -> Self {
        let (mut ahead, ended) = fetch_ahead(&mut body);
        ahead.reverse();
        let sender = if ended {
            std::ptr::null_mut()
        } else {
            Box::into_raw(Box::new(Guarded::new(runtime.clone(), OfCall::new(body)))).cast()
        };
        Self { ahead: ahead.into(), sender, poll: poll_sender, drop: drop_sender }
    }

    /// Takes a body over.
    pub(super) fn into_body(mut self) -> Body {
        if self.sender.is_null() && matches!(self.ahead.as_slice(), [FfiFrame::End]) {
            self.ahead.clear();
            return Body::empty();
        }
        Body::new(Received { body: self, ended: false })
    }
}

impl Drop for FfiBody {
    fn drop(&mut self) {
        if !self.sender.is_null() {
            // SAFETY: the function is the one that came with this sender, and this is the only call of it.
            unsafe { (self.drop)(self.sender) }
        }
    }
}

/// What is there at once, and whether that is all of the body.
fn fetch_ahead(body: &mut Body) -> (Vec<FfiFrame>, bool) {
    let mut frames = Vec::with_capacity(FETCHED_AHEAD + 1);
    let mut context = Context::from_waker(Waker::noop());
    while frames.len() < FETCHED_AHEAD && !body.is_end_stream() {
        // A waker that does nothing is enough: the next poll, with the receiver's own, takes its place.
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Pending => return (frames, false),
            Poll::Ready(step) => {
                let frame = FfiFrame::from(step);
                let last = !matches!(frame, FfiFrame::Data(_));
                frames.push(frame);
                if last {
                    if !matches!(frames.last(), Some(FfiFrame::End)) {
                        frames.push(FfiFrame::End);
                    }
                    return (frames, true);
                }
            }
        }
    }
    let ended = body.is_end_stream();
    if ended {
        frames.push(FfiFrame::End);
    }
    (frames, ended)
}

impl From<Option<Result<Frame<Bytes>, Status>>> for FfiFrame {
    fn from(step: Option<Result<Frame<Bytes>, Status>>) -> Self {
        match step {
            None => Self::End,
            Some(Err(status)) => Self::from(status),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Self::Data(data.into()),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => Self::Trailers(encode_headers(&trailers)),
                    Err(_) => Self::from(Status::internal("a body's frame is neither data nor trailers")),
                },
            },
        }
    }
}

impl From<Status> for FfiFrame {
    fn from(status: Status) -> Self {
        let mut headers = http::HeaderMap::new();
        if status.add_header(&mut headers).is_err() {
            headers = http::HeaderMap::new();
        }
        Self::Error(encode_headers(&headers))
    }
}

unsafe extern "C" fn poll_sender(sender: *mut (), context: &mut FfiContext<'_>) -> FfiPoll<FfiFrame> {
    // SAFETY: `sender` was made by `FfiBody::new`; the receiver polls it from one place at a time, before it drops it.
    let sender = unsafe { &mut *sender.cast::<Guarded<OfCall>>() };
    let step = context.with_context(|context| sender.with(|body| body.poll_frame(context)));
    match step {
        Ok(Poll::Pending) => FfiPoll::Pending,
        Ok(Poll::Ready(step)) => FfiPoll::Ready(step.into()),
        Err(panicked) => FfiPoll::Ready(Status::internal(format!("the body {panicked}")).into()),
    }
}

unsafe extern "C" fn drop_sender(sender: *mut ()) {
    // SAFETY: `sender` was made by `Box::into_raw` in `FfiBody::new` and is dropped once. `Guarded` catches panics.
    drop(unsafe { Box::from_raw(sender.cast::<Guarded<OfCall>>()) });
}

/// A body of the other side, as this side's `http_body::Body`.
struct Received {
    body: FfiBody,
    ended: bool,
}

impl Received {
    fn take(&mut self, frame: FfiFrame) -> Option<Result<Frame<Bytes>, Status>> {
        match frame {
            FfiFrame::Data(data) => Some(Ok(Frame::data(data.into()))),
            FfiFrame::Trailers(trailers) => Some(Ok(Frame::trailers(decode_headers(&trailers)))),
            FfiFrame::Error(headers) => {
                self.ended = true;
                let unknown = || Status::new(Code::Unknown, "the other side's error could not be read");
                Some(Err(Status::from_header_map(&decode_headers(&headers)).unwrap_or_else(unknown)))
            }
            FfiFrame::End => {
                self.ended = true;
                None
            }
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(frame) = self.body.ahead.pop() {
            return Poll::Ready(self.take(frame));
        }
        if self.body.sender.is_null() {
            return Poll::Ready(None);
        }
        let (poll, sender) = (self.body.poll, self.body.sender);
        // SAFETY: the function is the one that came with this sender, which lives until `self.body` is dropped.
        match context.with_ffi_context(|context| unsafe { poll(sender, context) }) {
            FfiPoll::Pending => Poll::Pending,
            FfiPoll::Ready(frame) => Poll::Ready(self.take(frame)),
            FfiPoll::Panicked => Poll::Ready(self.take(Status::internal("the body panicked").into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || matches!(self.body.ahead.last(), Some(FfiFrame::End))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::call::Call;
    use crate::trace::TraceContext;

    #[tokio::test]
    async fn a_body_is_no_part_of_the_call_that_reads_it() {
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let current = async move {
            receive.await.expect("it comes");
            let inside = Call::current().is_some();
            Ok::<_, Status>(Frame::data(Bytes::from(inside.to_string())))
        };
        let crossed = FfiBody::new(&Handle::current(), Body::new(StreamBody::new(stream::once(current))));
        send.send(()).expect("it is waited for");
        let reader = Call { deadline: None, trace: Some(TraceContext::new()) };
        let seen = reader.serve(crossed.into_body().collect()).await.expect("no error").to_bytes();
        assert_eq!(seen, "false");
    }

    #[tokio::test]
    async fn a_body_is_part_of_the_call_that_it_answers() {
        let call = Call { deadline: None, trace: Some(TraceContext::new()) };
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let current = async move {
            // Not there when the head crosses.
            receive.await.expect("it comes");
            let current = Call::current().and_then(|call| call.trace).map(|trace| trace.to_string());
            Ok::<_, Status>(Frame::data(Bytes::from(current.unwrap_or_default())))
        };
        let body = Body::new(StreamBody::new(stream::once(current)));
        let crossed = call.clone().serve(async { FfiBody::new(&Handle::current(), body) }).await;
        send.send(()).expect("it is waited for");
        let seen = crossed.into_body().collect().await.expect("no error").to_bytes();
        assert_eq!(Some(String::from_utf8_lossy(&seen).into_owned()), call.trace.map(|trace| trace.to_string()));
    }
}

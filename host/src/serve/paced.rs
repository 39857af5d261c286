//! Connections as they come, with a pause where none can be accepted.
//!
//! tonic asks for the next one as soon as there was an error. A process that has no file descriptor left gets its next error
//! as soon, and would do nothing else.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Sleep;

/// After so long it is tried again: callers wait in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// What is accepted.
pub(super) struct Paced<S> {
    incoming: S,
    pause: Option<Pin<Box<Sleep>>>,
    /// It was said that none can be accepted, and none was since.
    said: bool,
}

impl<S> Paced<S> {
    pub fn new(incoming: S) -> Self {
        Self { incoming, pause: None, said: false }
    }
}

impl<S, T> Stream for Paced<S>
where
    S: Stream<Item = io::Result<T>> + Unpin,
{
    type Item = io::Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(Pin::new(&mut this.incoming).poll_next(context)) {
                Some(Err(error)) if !is_of_one_caller(&error) => {
                    if !std::mem::replace(&mut this.said, true) {
                        tracing::error!(%error, "no connection can be accepted: tried again until it can");
                    }
                    this.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
                next => {
                    this.said &= !matches!(next, Some(Ok(_)));
                    return Poll::Ready(next);
                }
            }
        }
    }
}

/// It says nothing of the next one.
fn is_of_one_caller(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_fails_again_and_again_is_not_asked_without_end() {
        let failed = || Err(io::Error::other("too many open files"));
        let reset = Err(ErrorKind::ConnectionReset.into());
        let mut incoming = Paced::new(stream::iter([failed(), failed(), reset, Ok(7)]));
        let begun = Instant::now();
        assert!(incoming.next().await.is_some_and(|next| next.is_err()));
        assert!(begun.elapsed() >= PAUSE * 2);
        let begun = Instant::now();
        assert!(incoming.next().await.is_some_and(|next| next.is_ok_and(|caller| caller == 7)));
        assert!(begun.elapsed() < PAUSE, "one caller's failure holds up no other");
    }
}

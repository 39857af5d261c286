//! `/api/v1/events`: what happens, as server-sent events (HTML Living Standard, 9.2).
//!
//! First a `table`: how all stands; then each event in order. Who comes again with the header `Last-Event-ID` goes on where
//! it was. Who cannot, or has read too slowly, is given a `table` in place of what is missed, with `why` and how much. An
//! event may tell what the table before it shows already.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::answers::Answers;
use super::feed::{Event, First, Reading, Why};
use super::view::Past;

/// When a reader that was cut off is to come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// A comment goes out after so long without an event, so that readers and what is between know that the way is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers with all events from now on, or from behind the last one that the reader has seen.
pub(super) async fn events(State(answers): State<Answers>, headers: HeaderMap) -> Response {
    let Some(admitted) = answers.view.feed().admit() else {
        let text = "too many read the events already: come again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], text).into_response();
    };
    // A header that is no text is no id of ours.
    let last_id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let reader = Reader::new(answers, admitted, last_id);
    let stream = futures_util::stream::unfold(reader, Reader::next);
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One who reads. It holds nobody up: what it is too slow for is lost to it.
struct Reader {
    answers: Answers,
    receiver: Receiver<Arc<Event>>,
    /// To be given before what the receiver has.
    table: Option<(Why, Option<u64>)>,
    missed: VecDeque<Arc<Event>>,
    /// The number of the event before the receiver's next one.
    last: u64,
    _admitted: OwnedSemaphorePermit,
}

impl Reader {
    fn new(answers: Answers, admitted: OwnedSemaphorePermit, last_id: Option<&str>) -> Self {
        let Reading { first, last, receiver } = answers.view.feed().read(last_id);
        let (table, missed) = match first {
            First::Table(why, missed) => (Some((why, missed)), VecDeque::new()),
            First::Events(events) => (None, events),
        };
        Self { answers, receiver, table, missed, last, _admitted: admitted }
    }

    async fn next(mut self) -> Option<(Result<Sent, Infallible>, Self)> {
        loop {
            if let Some((why, missed)) = self.table.take() {
                return Some((Ok(self.table(why, missed)), self));
            }
            if let Some(event) = self.missed.pop_front() {
                return Some((Ok(self.event(&event)), self));
            }
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                // What was told before the stop has gone out.
                () = self.answers.shutdown.cancelled() => return None,
            };
            match received {
                Ok(event) => {
                    self.last = event.number;
                    return Some((Ok(self.event(&event)), self));
                }
                // What is left of it, too, is in the table.
                Err(RecvError::Lagged(_)) => {
                    let Reading { last, receiver, .. } = self.answers.view.feed().read(None);
                    self.table = Some((Why::Slow, Some(last - self.last)));
                    (self.last, self.receiver) = (last, receiver);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn event(&self, event: &Event) -> Sent {
        Sent::default().id(self.answers.view.feed().id(event.number)).event(event.kind).data(&event.data)
    }

    /// How all stands, in place of `missed` events.
    fn table(&self, why: Why, missed: Option<u64>) -> Sent {
        let view = &self.answers.view;
        let data = json!({
            "why": why,
            "missed": missed,
            "components": view.components(),
            "connections": view.connections(Past::Without),
        });
        let id = view.feed().id(self.last);
        Sent::default().retry(COME_AGAIN).id(id).event("table").data(data.to_string())
    }
}

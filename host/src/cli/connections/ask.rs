//! Asking a host over its admin socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::failure::AskError;

/// An answer's body, with the connection that it comes over.
struct Answer {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

/// Gets a path, within the limit.
pub(super) async fn get(socket: &Path, path: &str, limit: Duration) -> Result<Value, AskError> {
    let asked = async {
        let answer = begin(socket, path).await?;
        let body = answer.body.collect().await.map_err(AskError::Broken)?.to_bytes();
        serde_json::from_slice(&body).map_err(AskError::Json)
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(AskError::Late(limit)))
}

async fn begin(socket: &Path, path: &str) -> Result<Answer, AskError> {
    let stream = UnixStream::connect(socket).await.map_err(AskError::Connect)?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(AskError::Broken)?;
    // Its error is the answer's.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(path).header(HOST, "host").body(Empty::new()).expect("a path and a header");
    let answer = sender.send_request(request).await.map_err(AskError::Broken)?;
    let status = answer.status();
    if !status.is_success() {
        let text = answer.into_body().collect().await.map_err(AskError::Broken)?.to_bytes();
        return Err(AskError::Refused { status, text: String::from_utf8_lossy(&text).trim().to_owned() });
    }
    Ok(Answer { body: answer.into_body(), _connection: connection })
}

/// What happens in a host, as it is told.
pub(super) struct Events {
    answer: Answer,
    text: Vec<u8>,
}

/// One event.
pub(super) struct Event {
    /// What of.
    pub kind: String,
    /// What.
    pub data: Value,
}

impl Events {
    /// Begins to read.
    pub async fn read(socket: &Path, limit: Duration) -> Result<Self, AskError> {
        let begun = tokio::time::timeout(limit, begin(socket, "/api/v1/events")).await;
        Ok(Self { answer: begun.unwrap_or(Err(AskError::Late(limit)))?, text: Vec::new() })
    }

    /// The next one; none once the host has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&event)) {
                    return Some(event);
                }
            }
            let frame = self.answer.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.text.extend_from_slice(data);
            }
        }
    }
}

/// One event of a stream; none for a comment.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.next().map(str::trim_start)
    };
    let data = serde_json::from_str(field("data")?).ok()?;
    Some(Event { kind: field("event")?.to_owned(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_events() {
        assert!(parse(":\n\n").is_none());
        let event = parse("retry:1000\nid: a-1\nevent: peer\ndata: {\"a\":\"b: c\"}\n\n").expect("an event");
        assert_eq!((event.kind.as_str(), event.data["a"].as_str()), ("peer", Some("b: c")));
    }
}

//! The admin listener as a client sees it: plain HTTP/1.0, so that no answer needs more than its bytes.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::eventually::within;

/// An answer of HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// Where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Gets a path.
///
/// # Errors
///
/// The connection's error, or what is wrong with the answer.
pub async fn get(address: &str, path: &str) -> std::io::Result<Answer> {
    request(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

/// Sends a request as it is written, for what a well-behaved client would not send.
///
/// # Errors
///
/// As [`get`].
pub async fn request(address: &str, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    parse(&answer).ok_or_else(|| std::io::Error::other(format!("no answer of HTTP: {answer:?}")))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// How long an event may take at most.
const EVENT: Duration = Duration::from_secs(20);

/// A server-sent event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// What of.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// The events of `/api/v1/events`, as they come.
pub struct Events {
    lines: BufReader<Box<dyn Stream>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Events {
    /// Reads over TCP; behind the event with this id, where there is one.
    ///
    /// # Panics
    ///
    /// Where they are refused.
    pub async fn read(address: &str, last_id: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        Self::begin(Box::new(stream), address, last_id).await.unwrap_or_else(|answer| panic!("no events: {answer:?}"))
    }

    /// The same over a Unix socket.
    ///
    /// # Panics
    ///
    /// Where they are refused.
    pub async fn read_socket(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("it listens");
        Self::begin(Box::new(stream), "host", None).await.unwrap_or_else(|answer| panic!("no events: {answer:?}"))
    }

    /// The same over TCP.
    ///
    /// # Errors
    ///
    /// The answer, where it is no stream of events.
    ///
    /// # Panics
    ///
    /// Where nobody answers.
    pub async fn try_read(address: &str) -> Result<Self, Answer> {
        let stream = TcpStream::connect(address).await.expect("it listens");
        Self::begin(Box::new(stream), address, None).await
    }

    async fn begin(mut stream: Box<dyn Stream>, host: &str, last_id: Option<&str>) -> Result<Self, Answer> {
        let last_id = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        // HTTP/1.0 has no chunks.
        let request = format!("GET /api/v1/events HTTP/1.0\r\nHost: {host}\r\n{last_id}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = within(EVENT, lines.read_line(&mut head)).await.expect("an answer");
            assert!(read > 0, "no answer of HTTP: {head:?}");
        }
        if head.contains("content-type: text/event-stream") {
            return Ok(Self { lines });
        }
        lines.read_to_string(&mut head).await.expect("an answer");
        Err(parse(&head).expect("an answer of HTTP"))
    }

    /// The next one; none where they have ended.
    ///
    /// # Panics
    ///
    /// Where none comes, or what comes is none.
    pub async fn next(&mut self) -> Option<Event> {
        let (mut id, mut kind, mut data) = (None, None, None);
        loop {
            let mut line = String::new();
            if within(EVENT, self.lines.read_line(&mut line)).await.ok()? == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(':') {
                None if kind.is_none() => {}
                None => break,
                Some(("id", text)) => id = Some(text.trim().to_owned()),
                Some(("event", text)) => kind = Some(text.trim().to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text.trim()).expect("data in JSON")),
                Some(("" | "retry", _)) => {}
                Some(other) => panic!("an unknown field: {other:?}"),
            }
        }
        Some(Event { id: id.expect("an id"), kind: kind.expect("a kind"), data: data.expect("data") })
    }

    /// The next one of this kind for which `matches` holds.
    ///
    /// # Panics
    ///
    /// Where they end before it.
    pub async fn find(&mut self, kind: &str, matches: impl Fn(&Value) -> bool) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("they have ended without a {kind}"));
            if event.kind == kind && matches(&event.data) {
                return event;
            }
        }
    }
}

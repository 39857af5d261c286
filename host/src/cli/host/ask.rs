//! Asking a host over its admin socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::failure::AskError;

/// An answer's body, with the connection that it comes over.
pub(in crate::cli) struct Answer {
    body: Incoming,
    /// What has come and was not read.
    text: Vec<u8>,
    _connection: AbortOnDropHandle<()>,
}

/// Gets a path, within the limit.
pub(super) async fn get(socket: &Path, path: &str, limit: Duration) -> Result<Value, AskError> {
    let asked = async { Answer::begin(socket, request(Request::get(path), Bytes::new())).await?.json().await };
    within(limit, asked).await
}

/// The same, or [`AskError::Late`].
pub(super) async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(AskError::Late(limit)))
}

pub(super) fn request(request: request::Builder, body: Bytes) -> Request<Full<Bytes>> {
    request.header(HOST, "host").body(Full::new(body)).expect("a path and a header")
}

impl Answer {
    /// Asks, and reads the head of the answer.
    pub(super) async fn begin(socket: &Path, request: Request<Full<Bytes>>) -> Result<Self, AskError> {
        let stream = UnixStream::connect(socket).await.map_err(AskError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Broken)?;
        // Its error is the answer's.
        let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        let answer = sender.send_request(request).await.map_err(AskError::Broken)?;
        let status = answer.status();
        if !status.is_success() {
            let text = answer.into_body().collect().await.map_err(AskError::Broken)?.to_bytes();
            return Err(AskError::Refused { status, text: told(&text) });
        }
        Ok(Self { body: answer.into_body(), text: Vec::new(), _connection: connection })
    }

    /// All of it.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, AskError> {
        let body = self.body.collect().await.map_err(AskError::Broken)?.to_bytes();
        serde_json::from_slice(&body).map_err(AskError::Json)
    }

    /// What comes next, up to `end` and with it; none once the answer is over.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn until(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>, AskError> {
        loop {
            if let Some(at) = self.text.windows(end.len()).position(|part| part == end) {
                return Ok(Some(self.text.drain(..at + end.len()).collect()));
            }
            let Some(frame) = self.body.frame().await.transpose().map_err(AskError::Broken)? else { return Ok(None) };
            if let Some(data) = frame.data_ref() {
                self.text.extend_from_slice(data);
            }
        }
    }
}

/// The words of a refusal: its `error`, where it is JSON that has one.
fn told(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    error.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        assert_eq!(told(br#"{"error": "no such role", "roles": []}"#), "no such role");
        for other in ["there are:\n/livez", r#"{"cause": 7}"#, ""] {
            assert_eq!(told(format!("{other}\n").as_bytes()), other);
        }
    }
}

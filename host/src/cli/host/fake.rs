//! A host that answers as a test says, at a socket of its own.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;
use tokio_util::task::AbortOnDropHandle;

/// A host with a querynode and the server id 7.
pub(in crate::cli) struct FakeHost {
    /// Where its socket is.
    pub directory: tempfile::TempDir,
    /// Which changes were asked for: path and body.
    pub asked: Asked,
    _task: AbortOnDropHandle<()>,
}

type Asked = Arc<Mutex<Vec<(String, String)>>>;

impl FakeHost {
    /// Changes are answered with this status and these parts of a body.
    pub fn new(status: StatusCode, parts: Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let listener = UnixListener::bind(directory.path().join("7.sock")).expect("a socket");
        let asked = Asked::default();
        let told = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (told, parts) = (told.clone(), parts.clone());
                let answer = service_fn(move |request| answer(request, told.clone(), status, parts.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { directory, asked, _task: AbortOnDropHandle::new(task) }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("7.sock")
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Asked,
    status: StatusCode,
    parts: Vec<String>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let (status, parts) = if head.method == Method::POST {
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).expect("UTF-8");
        asked.lock().expect("no test panics with it").push((head.uri.path().to_owned(), body));
        (status, parts)
    } else {
        let view = json!({ "components": [{ "role": "querynode", "server_id": 7 }] });
        (StatusCode::OK, vec![view.to_string()])
    };
    let frames = parts.into_iter().map(|part| Ok(Frame::data(Bytes::from(part))));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    Ok(Response::builder().status(status).body(body).expect("an answer"))
}

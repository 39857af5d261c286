//! Calls of each kind, and what their answers have to be.

use futures_util::TryStreamExt as _;
use probe_plugin::v1::{CallKind, CallRequest, EchoRequest, MetaRequest, StreamRequest, Write, meta_request, write};
use tests::client::Probe;
use tests::probe::chunk;

use super::text;

pub async fn unary_call(probe: &Probe) -> Result<(), String> {
    let payload = b"payload".to_vec();
    let answer = probe.clone().echo(EchoRequest { payload: payload.clone() }).await.map_err(text)?.into_inner();
    right(answer.payload == payload, &answer)
}

/// It lasts so long that many a swap comes to its switch meanwhile.
pub async fn server_stream(probe: &Probe) -> Result<(), String> {
    let request = StreamRequest { count: 20, size: 1000, interval_ms: 5, ..StreamRequest::default() };
    let answers = probe.clone().server_stream(request).await.map_err(text)?.into_inner();
    let sizes: Vec<_> = answers.map_ok(|chunk| chunk.data.len()).try_collect().await.map_err(text)?;
    right(sizes == [1000; 20], &sizes)
}

pub async fn client_stream(probe: &Probe) -> Result<(), String> {
    let parts = [chunk(b"one"), chunk(b"two")];
    let summary = probe.clone().client_stream(tokio_stream::iter(parts)).await.map_err(text)?.into_inner();
    right((summary.messages, summary.bytes) == (2, 6), &summary)
}

pub async fn bidi_stream(probe: &Probe) -> Result<(), String> {
    let parts = [chunk(b"one"), chunk(b"two"), chunk(b"three")];
    let answers = probe.clone().bidi_stream(tokio_stream::iter(parts.clone())).await.map_err(text)?.into_inner();
    let answers: Vec<_> = answers.try_collect().await.map_err(text)?;
    right(answers == parts, &answers)
}

pub async fn put(probe: &Probe, number: u64) -> Result<(), String> {
    let value = number.to_string().into_bytes();
    let ask = async |what| {
        let answer = probe.clone().meta(MetaRequest { what: Some(what) }).await.map_err(text)?.into_inner();
        if answer.succeeded { Ok(answer.entries) } else { Err(format!("{answer:?}")) }
    };
    let write = Write { key: "load".to_owned(), what: Some(write::What::Put(value.clone())) };
    ask(meta_request::What::Write(write)).await?;
    let entries = ask(meta_request::What::Get("load".to_owned())).await?;
    right(entries.iter().map(|entry| &entry.value).eq([&value]), &entries)
}

pub async fn calls_on(probe: &Probe, request: CallRequest) -> Result<(), String> {
    let bytes = if request.kind() == CallKind::Unary { 1000 } else { 3000 };
    let seen = probe.clone().call(request).await.map_err(text)?.into_inner();
    right((seen.code, seen.bytes) == (0, bytes), &seen)
}

fn right(is_right: bool, answer: &impl std::fmt::Debug) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(format!("wrong: {answer:?}")) }
}

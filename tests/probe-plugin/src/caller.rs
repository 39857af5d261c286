//! Calls to another probe through the context's channel, and what was seen of them.

use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use plugin_api::Context;
use plugin_api::channel::WaitForReady;
use plugin_api::identity::{Role, ServerId};
use plugin_api::refusal::Refusal;
use tonic::metadata::KeyAndValueRef;
use tonic::{Request, Status};

use crate::streams::data;
use crate::v1::ending::How;
use crate::v1::{
    CallKind, CallRequest, CallResponse, Chunk, EchoRequest, Empty, FailRequest, HoldRequest, StreamRequest,
};

/// Makes the call, and tells what it saw. Only a role that is none is an error of its own.
pub async fn call(context: &Context, request: CallRequest) -> Result<CallResponse, Status> {
    let role = Role::new(request.role.as_str()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let begin = Instant::now();
    let mut seen = CallResponse::default();
    if let Err(status) = talk(context, &role, &request, &mut seen).await {
        note(&status, &mut seen);
    }
    seen.elapsed_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(seen)
}

async fn talk(context: &Context, role: &Role, asked: &CallRequest, seen: &mut CallResponse) -> Result<(), Status> {
    let channel = match asked.server_id {
        Some(id) => context.client_of(role, ServerId(id)),
        None => context.client(role),
    };
    let mut client = crate::client(channel, role.as_str());
    match asked.kind() {
        CallKind::Unary => {
            let payload = data(0, asked.size);
            let answer = client.echo(prepare(EchoRequest { payload }, asked)).await?.into_inner();
            (seen.messages, seen.bytes, seen.server_id) = (1, answer.payload.len() as u64, answer.server_id);
            (seen.metadata, seen.generation) = (answer.metadata, answer.generation);
        }
        CallKind::Count => {
            let answer = client.count(prepare(Empty {}, asked)).await?.into_inner();
            (seen.number, seen.generation) = (answer.number, answer.generation);
        }
        CallKind::ServerStream => {
            let StreamShape { count, size } = StreamShape::of(asked);
            let message = StreamRequest { count, size, interval_ms: 0, ending: asked.ending.clone() };
            let answers = client.server_stream(prepare(message, asked)).await?.into_inner();
            drain(answers, seen).await?;
        }
        CallKind::ClientStream => {
            let summary = client.client_stream(prepare(chunks(asked), asked)).await?.into_inner();
            (seen.messages, seen.bytes) = (summary.messages, summary.bytes);
        }
        CallKind::BidiStream => {
            let answers = client.bidi_stream(prepare(chunks(asked), asked)).await?.into_inner();
            drain(answers, seen).await?;
        }
        CallKind::Hold => {
            client.hold(prepare(HoldRequest { key: asked.key.clone(), limit_ms: 0 }, asked)).await?;
        }
        CallKind::Failing => {
            let fail = match asked.ending.clone().and_then(|ending| ending.how) {
                Some(How::Fail(fail)) => fail,
                _ => FailRequest::default(),
            };
            client.fail(prepare(fail, asked)).await?;
        }
    }
    Ok(())
}

struct StreamShape {
    count: u32,
    size: u32,
}

impl StreamShape {
    fn of(asked: &CallRequest) -> Self {
        Self { count: asked.count, size: asked.size }
    }
}

fn prepare<T>(message: T, asked: &CallRequest) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(timeout) = asked.timeout_ms {
        request.set_timeout(Duration::from_millis(timeout));
    }
    if let Some(wait) = asked.wait_ms {
        request.extensions_mut().insert(WaitForReady(Duration::from_millis(wait)));
    }
    request
}

fn chunks(asked: &CallRequest) -> impl Stream<Item = Chunk> + Send + 'static {
    let StreamShape { count, size } = StreamShape::of(asked);
    let ending = asked.ending.clone().map(|ending| Chunk { data: Vec::new(), ending: Some(ending) });
    stream::iter((0..count).map(move |number| Chunk { data: data(number, size), ending: None }))
        .chain(stream::iter(ending))
}

async fn drain(mut answers: tonic::Streaming<Chunk>, seen: &mut CallResponse) -> Result<(), Status> {
    while let Some(chunk) = answers.try_next().await? {
        seen.messages += 1;
        seen.bytes += chunk.data.len() as u64;
    }
    Ok(())
}

fn note(status: &Status, seen: &mut CallResponse) {
    seen.code = status.code() as i32;
    seen.message = status.message().to_owned();
    seen.status_details = status.details().to_vec();
    for entry in status.metadata().iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry {
            seen.trailers.insert(key.to_string(), value.to_str().unwrap_or_default().to_owned());
        }
    }
    if let Some(refusal) = Refusal::from_status(status) {
        seen.reason = refusal.reason.to_string();
        seen.details = refusal.details;
        seen.details.insert("executed".to_owned(), format!("{:?}", refusal.executed).to_lowercase());
    }
}

//! The streams of the probe, and how they end.

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};
use tonic::{Code, Status, Streaming};

use crate::digest::Digest;
use crate::v1::{Chunk, Ending, FailRequest, StreamRequest, Summary, ending::How};

/// A stream of chunks, as tonic takes it.
pub type ChunkStream = BoxStream<'static, Result<Chunk, Status>>;

/// So many chunks, then the ending. All of it happens where the body is polled, a panic too.
pub fn send(request: StreamRequest) -> ChunkStream {
    let next = |(request, sent): (StreamRequest, Option<u32>)| async move {
        let sent = sent?;
        // Also before the ending: a panic takes along what tonic has encoded and not sent yet.
        if sent > 0 && request.interval_ms > 0 {
            tokio::time::sleep(Duration::from_millis(u64::from(request.interval_ms))).await;
        }
        if sent < request.count {
            let chunk = Chunk { data: data(sent, request.size), ending: None };
            return Some((Ok(chunk), (request, Some(sent + 1))));
        }
        end(request.ending.clone()).await.err().map(|status| (Err(status), (request, None)))
    };
    stream::unfold((request, Some(0)), next).boxed()
}

/// The data of the chunk with this number.
pub fn data(number: u32, size: u32) -> Vec<u8> {
    (0..size).map(|at| (number.wrapping_mul(31).wrapping_add(at)).to_le_bytes()[0]).collect()
}

/// Counts chunks until they end or one brings an ending.
pub async fn count(mut chunks: Streaming<Chunk>) -> Result<Summary, Status> {
    let mut summary = Summary::default();
    let mut digest = Digest::default();
    while let Some(chunk) = chunks.try_next().await? {
        if chunk.ending.is_some() {
            end(chunk.ending).await?;
            break;
        }
        summary.messages += 1;
        summary.bytes += chunk.data.len() as u64;
        digest.add(&chunk.data);
    }
    Ok(Summary { digest: digest.0, ..summary })
}

/// Sends each chunk back until they end or one brings an ending.
pub fn echo(chunks: Streaming<Chunk>) -> ChunkStream {
    let next = |chunks: Option<Streaming<Chunk>>| async move {
        let mut chunks = chunks?;
        match chunks.try_next().await {
            Ok(Some(Chunk { ending: Some(ending), .. })) => {
                end(Some(ending)).await.err().map(|status| (Err(status), None))
            }
            Ok(Some(chunk)) => Some((Ok(chunk), Some(chunks))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    };
    stream::unfold(Some(chunks), next).boxed()
}

/// Ends as it was asked to: well, with a status, with a panic, or never.
pub async fn end(ending: Option<Ending>) -> Result<(), Status> {
    match ending.and_then(|ending| ending.how) {
        None | Some(How::Well(_)) => Ok(()),
        Some(How::Fail(fail)) => Err(status(fail)),
        Some(How::Panic(panic)) => panic!("{}", panic.message),
        Some(How::Hang(_)) => std::future::pending().await,
    }
}

/// The status that a test asked for.
pub fn status(fail: FailRequest) -> Status {
    let mut metadata = MetadataMap::new();
    for (key, value) in fail.metadata {
        if let (Ok(key), Ok(value)) = (key.parse::<MetadataKey<Ascii>>(), value.parse()) {
            metadata.insert(key, value);
        }
    }
    Status::with_details_and_metadata(Code::from_i32(fail.code), fail.message, fail.details.into(), metadata)
}

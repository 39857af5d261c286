//! Who is called: it does as little as a service can, so that what carries the calls is what is measured.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::v1::{Messages, Payload, target_server};

/// The service.
#[derive(Clone, Copy, Default)]
pub struct Target;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl target_server::Target for Target {
    type DownStream = BoxStream<'static, Result<Payload, Status>>;
    type BothStream = Streaming<Payload>;

    async fn echo(&self, request: Request<Payload>) -> Answer<Payload> {
        Ok(Response::new(request.into_inner()))
    }

    async fn down(&self, request: Request<Messages>) -> Answer<Self::DownStream> {
        let Messages { count, size } = request.into_inner();
        Ok(Response::new(stream::iter(messages(count, size).map(Ok)).boxed()))
    }

    async fn up(&self, request: Request<Streaming<Payload>>) -> Answer<Messages> {
        let mut received = request.into_inner();
        let mut count = 0;
        while received.message().await?.is_some() {
            count += 1;
        }
        Ok(Response::new(Messages { count, size: 0 }))
    }

    async fn both(&self, request: Request<Streaming<Payload>>) -> Answer<Self::BothStream> {
        Ok(Response::new(request.into_inner()))
    }
}

/// So many messages of this size.
pub fn messages(count: u32, size: u32) -> impl Iterator<Item = Payload> + Send + 'static {
    let data = data(size);
    (0..count).map(move |_| Payload { data: data.clone() })
}

/// The data of one message.
pub fn data(size: u32) -> Bytes {
    vec![b'x'; size as usize].into()
}

//! The calls that the probe serves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use plugin_api::Context;
use plugin_api::identity::Role;
use tonic::metadata::KeyAndValueRef;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::counter::Counter;
use crate::edition::Edition;
use crate::events::{self, Events};
use crate::holds::Holds;
use crate::journal::{Journal, now_us};
use crate::knobs::Method;
use crate::mischief::Mischief;
use crate::streams::{self, ChunkStream};
use crate::tasks::Tasks;
use crate::v1::{self, Chunk, Empty};
use crate::{caller, store};

/// What the component's life and its service share.
#[derive(Default)]
pub struct Shared {
    pub journal: Journal,
    pub on_peer: Events,
    pub watched: Events,
    pub holds: Holds,
    pub tasks: Tasks,
    pub counter: Counter,
    /// How often second editions have taken this component's state over; nobody knows it in a first one.
    pub taken: Mutex<Option<u64>>,
}

/// The service of one probe.
pub struct ProbeService {
    pub context: Context,
    pub edition: Edition,
    pub mischief: Mischief,
    pub shared: Arc<Shared>,
}

/// What calls hand on to the calls that are made for them.
const HANDED_ON: [&str; 3] = ["traceparent", "tracestate", "grpc-timeout"];

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

#[tonic::async_trait]
impl v1::probe_server::Probe for ProbeService {
    type ServerStreamStream = ChunkStream;
    type BidiStreamStream = ChunkStream;
    type MetaWatchStream = BoxStream<'static, Result<v1::MetaEvent, Status>>;

    async fn echo(&self, request: Request<v1::EchoRequest>) -> Answer<v1::EchoResponse> {
        let own = request.metadata().iter().filter_map(|entry| match entry {
            KeyAndValueRef::Ascii(key, value)
                if key.as_str().starts_with("x-") || HANDED_ON.contains(&key.as_str()) =>
            {
                Some((key.to_string(), value.to_str().ok()?.to_owned()))
            }
            _ => None,
        });
        let metadata = own.collect();
        let identity = self.context.identity();
        answer(v1::EchoResponse {
            metadata,
            payload: request.into_inner().payload,
            server_id: identity.server_id.0,
            role: identity.role.to_string(),
            generation: identity.generation,
            version: self.edition.version().to_string(),
        })
    }

    async fn count(&self, _: Request<Empty>) -> Answer<v1::CountResponse> {
        let number = self.shared.counter.next(&self.context.metadata()).await?;
        let generation = self.context.identity().generation;
        let taken_by_second = *self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        answer(v1::CountResponse { number, generation, taken_by_second })
    }

    async fn hold(&self, request: Request<v1::HoldRequest>) -> Answer<v1::HoldResponse> {
        let v1::HoldRequest { key, limit_ms } = request.into_inner();
        let limit = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
        answer(v1::HoldResponse { released: self.shared.holds.hold(&key, limit).await })
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<Empty> {
        self.shared.holds.release(&request.into_inner().key);
        answer(Empty {})
    }

    async fn held(&self, _: Request<Empty>) -> Answer<v1::HeldResponse> {
        answer(self.shared.holds.count())
    }

    async fn server_stream(&self, request: Request<v1::StreamRequest>) -> Answer<ChunkStream> {
        answer(streams::send(request.into_inner()))
    }

    async fn client_stream(&self, request: Request<Streaming<Chunk>>) -> Answer<v1::Summary> {
        answer(streams::count(request.into_inner()).await?)
    }

    async fn bidi_stream(&self, request: Request<Streaming<Chunk>>) -> Answer<ChunkStream> {
        answer(streams::echo(request.into_inner()))
    }

    async fn fail(&self, request: Request<v1::FailRequest>) -> Answer<Empty> {
        Err(streams::status(request.into_inner()))
    }

    async fn panic(&self, request: Request<v1::PanicRequest>) -> Answer<Empty> {
        panic!("{}", request.into_inner().message)
    }

    async fn block(&self, request: Request<v1::BlockRequest>) -> Answer<Empty> {
        // What an author must not do: it holds a worker of the host.
        std::thread::sleep(Duration::from_millis(request.into_inner().ms));
        answer(Empty {})
    }

    async fn call(&self, request: Request<v1::CallRequest>) -> Answer<v1::CallResponse> {
        let (context, request) = (self.context.clone(), request.into_inner());
        if !request.spawned {
            return answer(caller::call(&context, request).await?);
        }
        let spawned = self.context.spawn("call", async move { caller::call(&context, request).await });
        answer(spawned.await.map_err(|ended| Status::aborted(ended.to_string()))??)
    }

    async fn events(&self, _: Request<Empty>) -> Answer<v1::EventsResponse> {
        answer(v1::EventsResponse { on_peer: self.shared.on_peer.seen(), watched: self.shared.watched.seen() })
    }

    async fn peers(&self, request: Request<v1::PeersRequest>) -> Answer<v1::PeersResponse> {
        let role = Role::new(request.into_inner().role).map_err(|error| Status::invalid_argument(error.to_string()))?;
        answer(match self.context.clients(&role) {
            Ok(clients) => v1::PeersResponse {
                peers: clients.iter().map(|client| events::peer(&client.peer)).collect(),
                ..v1::PeersResponse::default()
            },
            Err(error) => v1::PeersResponse {
                code: error.code() as i32,
                message: error.message().to_owned(),
                ..v1::PeersResponse::default()
            },
        })
    }

    async fn meta(&self, request: Request<v1::MetaRequest>) -> Answer<v1::MetaResponse> {
        self.mischief.play(Method::Meta).await.map_err(Status::from_error)?;
        answer(store::ask(&self.context, request.into_inner()).await)
    }

    async fn meta_watch(&self, request: Request<v1::MetaWatchRequest>) -> Answer<Self::MetaWatchStream> {
        answer(store::watch(&self.context, &request.into_inner().prefix)?)
    }

    async fn fence(&self, request: Request<v1::FenceRequest>) -> Answer<v1::FenceResponse> {
        let fence = self.context.fence();
        match request.into_inner().until {
            Some(true) => fence.fenced().await,
            Some(false) => fence.lifted().await,
            None => {}
        }
        answer(v1::FenceResponse { fenced: fence.is_fenced(), at_us: now_us() })
    }

    async fn life(&self, _: Request<Empty>) -> Answer<v1::LifeResponse> {
        let identity = self.context.identity();
        answer(v1::LifeResponse {
            calls: self.shared.journal.calls(),
            cluster: identity.cluster.clone(),
            role: identity.role.to_string(),
            server_id: identity.server_id.0,
            address: identity.address.clone(),
            generation: identity.generation,
        })
    }

    async fn spawn(&self, request: Request<v1::SpawnRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        self.shared.tasks.spawn(&self.context, &request.name, request.kind());
        answer(Empty {})
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Answer<Empty> {
        self.shared.tasks.abort(&request.into_inner().name);
        answer(Empty {})
    }

    async fn tasks(&self, _: Request<Empty>) -> Answer<v1::TasksResponse> {
        answer(v1::TasksResponse { tasks: self.shared.tasks.states().into_iter().collect() })
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Answer<Empty> {
        let v1::LogRequest { level, message, span } = request.into_inner();
        let span = if span.is_empty() { tracing::Span::none() } else { tracing::info_span!("asked", name = span) };
        async {
            match level.as_str() {
                "error" => tracing::error!(answer = 42, "{message}"),
                "warn" => tracing::warn!(answer = 42, "{message}"),
                "info" => tracing::info!(answer = 42, "{message}"),
                "debug" => tracing::debug!(answer = 42, "{message}"),
                _ => tracing::trace!(answer = 42, "{message}"),
            }
        }
        .instrument(span)
        .await;
        answer(Empty {})
    }
}

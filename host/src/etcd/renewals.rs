//! The one stream to a member over which all leases of the host are renewed.
//!
//! `etcd_client` binds a stream to one lease; a host keeps one for each of its sessions. Requests of all leases go into one
//! stream here, and each answer to whoever asked for it.
//!
//! etcd answers the requests of one stream one after the other. A follower passes each on to the leader that it believes in,
//! and waits for that one for seconds: where the leader has died, the first request after it holds up all later ones, long
//! after another leads. So a stream that has not answered for a while is left for a new one.

mod unanswered;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use http::uri::PathAndQuery;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::etcd::channel::TokenChannel;
use crate::etcd::error::Fault;
use crate::etcd::renewals::unanswered::Unanswered;

/// etcd's method, and the two fields that count of its messages.
const METHOD: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// How many renewals may be on their way at once: many times the sessions of a host. A stream that is so far behind is dead.
const MOST_UNANSWERED: usize = 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct KeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeepAliveAnswer {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

type Answer = oneshot::Sender<Result<i64, Fault>>;

/// The renewals that go to one member. The stream is made by the first, and made again after it broke or got stuck.
pub(super) struct Renewals {
    channel: TokenChannel,
    stream: Mutex<Option<Stream>>,
}

/// Shared by who sends and the stream's task. Held for moments only.
#[derive(Clone)]
struct Waiting(Arc<Mutex<Unanswered<Answer>>>);

/// An open stream and the task that owns it.
struct Stream {
    asked: mpsc::Sender<i64>,
    waiting: Waiting,
    _task: AbortOnDropHandle<()>,
}

impl Renewals {
    pub(super) fn over(channel: TokenChannel) -> Self {
        Self { channel, stream: Mutex::new(None) }
    }

    /// Renews a lease; `None` where there is no such lease. A stream on which somebody has waited for `stuck_after` is left,
    /// and whoever waits on it is told so, to ask elsewhere: nothing comes of it soon.
    ///
    /// # Cancel safety
    ///
    /// The answer to a cancelled call is thrown away when it comes: it is never taken for a later call's.
    pub(super) async fn ask(&self, lease_id: i64, stuck_after: Duration) -> Result<Option<Duration>, Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(lease_id, answer, stuck_after)?;
        let seconds = answered.await.map_err(|_| Fault::StreamEnded)??;
        Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }

    fn send(&self, lease_id: i64, answer: Answer, stuck_after: Duration) -> Result<(), Fault> {
        let mut stream = self.stream.lock().expect("nothing panics while it holds the stream");
        let now = Instant::now();
        let open = stream.take().filter(|stream| stream.is_of_use(stuck_after, now));
        let open = stream.insert(open.unwrap_or_else(|| Stream::open(self.channel.clone())));
        // First noted, then sent: the answer must find its asker.
        open.waiting.lock().asked(lease_id, answer, now);
        open.asked.try_send(lease_id).map_err(|_| Fault::StreamEnded)
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Unanswered<Answer>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

impl Stream {
    fn open(channel: TokenChannel) -> Self {
        let (asked, asks) = mpsc::channel(MOST_UNANSWERED);
        let waiting = Waiting(Arc::new(Mutex::new(Unanswered::new())));
        let task = AbortOnDropHandle::new(tokio::spawn(run(channel, asks, waiting.clone())));
        Self { asked, waiting, _task: task }
    }

    fn is_of_use(&self, stuck_after: Duration, now: Instant) -> bool {
        !self.asked.is_closed() && !self.waiting.lock().is_stuck(stuck_after, now)
    }
}

/// Until the stream breaks; whoever waits then is told why.
async fn run(channel: TokenChannel, mut asks: mpsc::Receiver<i64>, waiting: Waiting) {
    let (requests, outgoing) = mpsc::channel(MOST_UNANSWERED);
    let mut answers =
        std::pin::pin!(futures_util::stream::once(open(channel, ReceiverStream::new(outgoing))).try_flatten().fuse());
    let fault = loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(id) = ask else { return };
                if requests.try_send(KeepAliveRequest { id }).is_err() {
                    break Fault::StreamEnded;
                }
            }
            answer = answers.next() => match answer {
                Some(Ok(KeepAliveAnswer { id, ttl })) => {
                    let asker = waiting.lock().answered(id);
                    if let Some(asker) = asker {
                        // Who does not wait any more has no use for it.
                        drop(asker.send(Ok(ttl)));
                    }
                }
                Some(Err(status)) => break Fault::of_status(&status),
                None => break Fault::StreamEnded,
            },
        }
    };
    // First closed, then emptied: nobody may be left in between who waits for a stream that is gone.
    asks.close();
    let askers = waiting.lock().take();
    for asker in askers {
        drop(asker.send(Err(fault.clone())));
    }
}

async fn open(
    channel: TokenChannel,
    requests: ReceiverStream<KeepAliveRequest>,
) -> Result<tonic::Streaming<KeepAliveAnswer>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let mut request = Request::new(requests);
    // A member that is cut off from its cluster must not keep the stream.
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let codec = ProstCodec::<KeepAliveRequest, KeepAliveAnswer>::default();
    let answer = grpc.streaming(request, PathAndQuery::from_static(METHOD), codec).await?;
    Ok(answer.into_inner())
}

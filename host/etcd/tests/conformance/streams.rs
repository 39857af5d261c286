//! A watch stream to each of both: what they tell must be the same, event for event.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use crate::pair::{Answer, Pair};

/// How long an answer may take: etcd looks ten times a second for watches that begin in the past.
const LIMIT: Duration = Duration::from_secs(10);

/// What to watch. The crate of the client does not name the request's own type.
#[derive(Clone, Debug, Default)]
pub struct Create {
    pub key: String,
    pub range_end: String,
    pub start_revision: i64,
    pub watch_id: i64,
    pub filters: Vec<i32>,
    pub prev_kv: bool,
    pub fragment: bool,
}

impl Create {
    fn request(&self) -> PbWatchRequest {
        let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
            create.key = self.key.clone().into();
            create.range_end = self.range_end.clone().into();
            create.start_revision = self.start_revision;
            create.watch_id = self.watch_id;
            create.filters = self.filters.clone();
            create.prev_kv = self.prev_kv;
            create.fragment = self.fragment;
        }
        PbWatchRequest { request_union: Some(union) }
    }
}

/// One stream of one server.
struct Stream {
    sender: Sender<PbWatchRequest>,
    /// etcd opens a stream with its first answer, so that nobody can wait for it before the first request.
    opening: Option<JoinHandle<Streaming<PbWatchResponse>>>,
    answers: Option<Streaming<PbWatchResponse>>,
    /// What was told and not taken yet, by watch.
    events: BTreeMap<i64, Vec<PbEvent>>,
    controls: Vec<PbWatchResponse>,
    fragments: usize,
}

impl Stream {
    async fn open(channel: &Channel) -> Self {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("the server is there");
        let (sender, requests) = tokio::sync::mpsc::channel(16);
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<PbWatchRequest, PbWatchResponse>::default();
        let opening = tokio::spawn(async move {
            let stream = grpc.streaming(Request::new(ReceiverStream::new(requests)), path, codec).await;
            stream.expect("a stream").into_inner()
        });
        Self {
            sender,
            opening: Some(opening),
            answers: None,
            events: BTreeMap::new(),
            controls: Vec::new(),
            fragments: 0,
        }
    }

    async fn read(&mut self) {
        if let Some(opening) = self.opening.take() {
            let opened = timeout(LIMIT, opening).await.expect("the stream opens with its first answer");
            self.answers = Some(opened.expect("it does not panic"));
        }
        let answers = self.answers.as_mut().expect("it was opened");
        let answer = timeout(LIMIT, answers.message()).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("nothing is told any more; so far {:?}", self.events));
        let answer = answer.as_mut().expect("no error").take().expect("it does not end");
        self.fragments += usize::from(answer.fragment);
        if answer.events.is_empty() {
            self.controls.push(answer.alike());
        } else {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            let last = answer.events.last().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
            assert!(revision >= last, "a header of {revision} before an event of {last}");
            self.events.entry(answer.watch_id).or_default().extend(answer.events);
        }
    }

    async fn events(&mut self, count: usize) -> BTreeMap<i64, Vec<PbEvent>> {
        while self.events.values().map(Vec::len).sum::<usize>() < count {
            self.read().await;
        }
        std::mem::take(&mut self.events)
    }

    async fn controls(&mut self, count: usize) -> Vec<PbWatchResponse> {
        while self.controls.len() < count {
            self.read().await;
        }
        std::mem::take(&mut self.controls)
    }
}

/// A stream to each.
pub struct Streams {
    real: Stream,
    ours: Stream,
}

/// Watches these keys on a stream of its own.
pub async fn watch(pair: &Pair, key: &str, range_end: &str, start_revision: i64) -> Streams {
    let mut streams = Streams::open(pair).await;
    let (key, range_end) = (key.to_owned(), range_end.to_owned());
    let created = streams.create(Create { key, range_end, start_revision, ..Create::default() }).await;
    assert!(created.created && !created.canceled, "{created:?}");
    streams
}

impl Streams {
    /// Opens both.
    pub async fn open(pair: &Pair) -> Self {
        let [real, ours] = &pair.channels;
        Self { real: Stream::open(real).await, ours: Stream::open(ours).await }
    }

    async fn send(&mut self, request: PbWatchRequest) {
        for stream in [&self.real, &self.ours] {
            stream.sender.send(request.clone()).await.expect("the stream takes requests");
        }
    }

    /// Asks for a watch; returns what both answer.
    pub async fn create(&mut self, create: Create) -> PbWatchResponse {
        self.send(create.request()).await;
        self.controls(1).await.remove(0)
    }

    /// Cancels a watch that is there.
    pub async fn cancel(&mut self, watch_id: i64) -> PbWatchResponse {
        self.send_cancel(watch_id).await;
        self.controls(1).await.remove(0)
    }

    /// Cancels a watch of which nothing may be known.
    pub async fn send_cancel(&mut self, watch_id: i64) {
        let mut union = PbWatchRequestUnion::CancelRequest(Default::default());
        if let PbWatchRequestUnion::CancelRequest(cancel) = &mut union {
            cancel.watch_id = watch_id;
        }
        self.send(PbWatchRequest { request_union: Some(union) }).await;
    }

    /// Asks how far all watches are.
    pub async fn progress(&mut self) -> PbWatchResponse {
        let union = PbWatchRequestUnion::ProgressRequest(Default::default());
        self.send(PbWatchRequest { request_union: Some(union) }).await;
        self.controls(1).await.remove(0)
    }

    /// The next answers without events: the same in the same order.
    pub async fn controls(&mut self, count: usize) -> Vec<PbWatchResponse> {
        let (real, ours) = (self.real.controls(count).await, self.ours.controls(count).await);
        assert_eq!(ours, real, "left: ours, right: etcd's");
        ours
    }

    /// The next events: for each watch the same in the same order.
    pub async fn events(&mut self, count: usize) -> BTreeMap<i64, Vec<PbEvent>> {
        let (real, ours) = (self.real.events(count).await, self.ours.events(count).await);
        assert_eq!(ours, real, "left: ours, right: etcd's");
        ours
    }

    /// All events up to the put of this value, which every watch tells.
    pub async fn until(&mut self, value: &str) {
        for stream in [&mut self.real, &mut self.ours] {
            let is_last = |event: &PbEvent| event.kv.as_ref().is_some_and(|kv| kv.value == value.as_bytes());
            let ended = |events: &Vec<PbEvent>| events.last().is_some_and(is_last);
            while stream.events.len() < 2 || !stream.events.values().all(ended) {
                stream.read().await;
            }
        }
        assert_eq!(self.ours.events, self.real.events, "left: ours, right: etcd's");
    }

    /// Waits for so many events of ours alone, which stay to be compared; says when they were there.
    pub async fn events_of_ours(&mut self, count: usize) -> Instant {
        while self.ours.events.values().map(Vec::len).sum::<usize>() < count {
            self.ours.read().await;
        }
        Instant::now()
    }

    /// How many answers were pieces that others follow, of either.
    pub fn fragments(&self) -> [usize; 2] {
        [self.real.fragments, self.ours.fragments]
    }
}

//! The host as a component sees it: [`HostSide`] is what a host answers, [`Host`] is what the plugin's side calls.
//! Longer than most files, because each function of the table stands here twice, as it is answered and as it is called: the
//! two must agree.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use abi_stable::std_types::{ROption, RResult, RStr, RString};
use async_ffi::{ContextExt, FfiContext, FfiFuture, FfiPoll};
use async_trait::async_trait;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tonic::body::Body;
use tonic::{Code, Status};

use super::{ChannelV1, FfiReply, FollowV1, HostTableV1, HostV1, TaskV1};
use crate::border::future::{Guarded, Panicked, guard};
use crate::border::http::{FfiRequest, FfiResponse};
use crate::border::log::FfiRecord;
use crate::border::message::{Message, decode, encode};
use crate::channel::Target;
use crate::error::Error;
use crate::identity::Role;
use crate::metadata::{MetadataAnswer, MetadataEvent, MetadataRequest};
use crate::peers::{Peer, PeerEvent};

/// What a host answers to one generation of a component.
#[async_trait]
pub trait HostSide: Send + Sync + 'static {
    /// A channel to a peer.
    fn channel(&self, target: Target) -> Arc<dyn ChannelSide>;
    /// The peers of a role as they are.
    ///
    /// # Errors
    ///
    /// Where the component did not declare the role.
    fn peers(&self, role: &Role) -> Result<Vec<Peer>, Error>;
    /// The peers of a role: the table, then changes.
    ///
    /// # Errors
    ///
    /// Where the component did not declare the role.
    fn watch_peers(&self, role: &Role) -> Result<BoxStream<'static, PeerEvent>, Error>;
    /// Reads or writes metadata.
    ///
    /// # Errors
    ///
    /// As [`crate::metadata::Metadata`] has it.
    ///
    /// # Cancel safety
    ///
    /// A write that is dropped may have been carried out.
    async fn metadata(&self, request: MetadataRequest) -> Result<MetadataAnswer, Error>;
    /// Follows metadata.
    ///
    /// # Errors
    ///
    /// Where the prefix is refused.
    fn watch_metadata(&self, prefix: String) -> Result<BoxStream<'static, MetadataEvent>, Error>;
    /// May the component not act as the holder of its session at this moment?
    fn is_fenced(&self) -> bool;
    /// Ends when [`HostSide::is_fenced`] is this.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    async fn fence_is(&self, fenced: bool);
    /// Runs a task of the component; what is returned aborts it.
    fn spawn(&self, name: &str, task: SpawnedTask) -> Box<dyn Fn() + Send + Sync>;
    /// Takes a log record.
    fn log(&self, record: &FfiRecord<'_>);
}

/// A task of a component, to be polled to its end by the host. An error is the panic that ended it.
pub type SpawnedTask = Pin<Box<dyn Future<Output = Result<(), Panicked>> + Send>>;

/// What a host answers on one channel.
#[async_trait]
pub trait ChannelSide: Send + Sync + 'static {
    /// Carries a call out; a refusal is a response with its status in the headers.
    ///
    /// # Cancel safety
    ///
    /// The call is cancelled with it.
    async fn call(&self, request: Request<Body>) -> Response<Body>;
    /// Ends the calls that run on it, and refuses all others from now on.
    fn stop(&self);
}

struct Answering {
    side: Arc<dyn HostSide>,
    runtime: Handle,
}

struct AnsweringChannel {
    side: Arc<dyn ChannelSide>,
    runtime: Handle,
}

impl HostV1 {
    /// The table of a host; what it answers is polled inside this runtime.
    pub fn new(side: Arc<dyn HostSide>, runtime: Handle) -> Self {
        Self { data: Arc::into_raw(Arc::new(Answering { side, runtime })).cast(), table: &ANSWERING }
    }
}

static ANSWERING: HostTableV1 = HostTableV1 {
    channel,
    peers,
    watch_peers,
    metadata,
    watch_metadata,
    is_fenced,
    fence_is,
    spawn,
    log,
    drop: drop_host,
};

/// # Safety
///
/// `data` comes from `HostV1::new` and has not been dropped.
unsafe fn answering<'a>(data: *const ()) -> &'a Answering {
    // SAFETY: as the function asks for.
    unsafe { &*data.cast::<Answering>() }
}

fn reply<T: serde::Serialize>(result: Result<Result<T, Error>, Panicked>) -> FfiReply {
    match result {
        Ok(Ok(value)) => RResult::ROk(encode(&value)),
        Ok(Err(error)) => RResult::RErr(encode(&error)),
        Err(panicked) => RResult::RErr(encode(&host_panicked(&panicked))),
    }
}

fn host_panicked(panicked: &Panicked) -> Error {
    Error::new(Code::Internal, format!("the host {panicked}"))
}

unsafe extern "C" fn channel(data: *const (), target: Message) -> ChannelV1 {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    let made = guard(|| decode::<Target>(&target).map(|target| answering.side.channel(target)));
    let side: Arc<dyn ChannelSide> = match made {
        Ok(Ok(side)) => side,
        Ok(Err(error)) => Arc::new(BrokenChannel(error)),
        Err(panicked) => Arc::new(BrokenChannel(host_panicked(&panicked))),
    };
    let channel = Arc::new(AnsweringChannel { side, runtime: answering.runtime.clone() });
    ChannelV1 { data: Arc::into_raw(channel).cast(), call, stop, drop: drop_channel }
}

/// A channel that could not be made: each call answers why.
struct BrokenChannel(Error);

#[async_trait]
impl ChannelSide for BrokenChannel {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        Status::from(self.0.clone()).into_http()
    }

    fn stop(&self) {}
}

unsafe extern "C" fn call(data: *const (), request: FfiRequest) -> FfiFuture<FfiResponse> {
    // SAFETY: `data` is this channel's `AnsweringChannel`, and the caller keeps the channel during this call.
    let channel = unsafe { &*data.cast::<AnsweringChannel>() };
    let (side, runtime) = (channel.side.clone(), channel.runtime.clone());
    let answered = Guarded::new(runtime.clone(), async move {
        let response = side.call(request.into_http()).await;
        FfiResponse::new(&Handle::current(), response)
    });
    FfiFuture::new(async move {
        answered.await.unwrap_or_else(|panicked| {
            FfiResponse::new(&runtime, Status::internal(format!("the host {panicked}")).into_http())
        })
    })
}

unsafe extern "C" fn stop(data: *const ()) {
    // SAFETY: as in `call`.
    let channel = unsafe { &*data.cast::<AnsweringChannel>() };
    let _ = guard(|| channel.side.stop());
}

unsafe extern "C" fn drop_channel(data: *const ()) {
    // SAFETY: made by `Arc::into_raw` in `channel`, dropped once.
    let channel = unsafe { Arc::from_raw(data.cast::<AnsweringChannel>()) };
    let _ = guard(|| drop(channel));
}

unsafe extern "C" fn peers(data: *const (), role: Message) -> FfiReply {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    reply(guard(|| decode::<Role>(&role).and_then(|role| answering.side.peers(&role))))
}

unsafe extern "C" fn watch_peers(data: *const (), role: Message) -> RResult<FollowV1, Message> {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    follow(answering, || answering.side.watch_peers(&decode(&role)?))
}

unsafe extern "C" fn watch_metadata(data: *const (), prefix: Message) -> RResult<FollowV1, Message> {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    follow(answering, || answering.side.watch_metadata(decode(&prefix)?))
}

type Messages = BoxStream<'static, Message>;

fn follow<T: serde::Serialize + 'static>(
    answering: &Answering,
    begin: impl FnOnce() -> Result<BoxStream<'static, T>, Error>,
) -> RResult<FollowV1, Message> {
    use futures_util::StreamExt as _;
    let began = guard(|| {
        // A stream may spawn or start timers when it begins.
        let _entered = answering.runtime.enter();
        begin()
    });
    match began {
        Ok(Ok(stream)) => {
            let messages: Messages = stream.map(|event| encode(&event)).boxed();
            let guarded = Box::new(Guarded::new(answering.runtime.clone(), messages));
            RResult::ROk(FollowV1 { data: Box::into_raw(guarded).cast(), poll: poll_follow, drop: drop_follow })
        }
        Ok(Err(error)) => RResult::RErr(encode(&error)),
        Err(panicked) => RResult::RErr(encode(&host_panicked(&panicked))),
    }
}

unsafe extern "C" fn poll_follow(data: *mut (), context: &mut FfiContext<'_>) -> FfiPoll<ROption<Message>> {
    // SAFETY: made in `follow`; polled from one place at a time, before it is dropped.
    let messages = unsafe { &mut *data.cast::<Guarded<Messages>>() };
    match context.with_context(|context| messages.with(|stream| stream.poll_next(context))) {
        Ok(Poll::Pending) => FfiPoll::Pending,
        Ok(Poll::Ready(message)) => FfiPoll::Ready(message.into()),
        // The stream ends: `Guarded` has dropped what panicked, and the panic hook has logged it.
        Err(_) => FfiPoll::Ready(ROption::RNone),
    }
}

unsafe extern "C" fn drop_follow(data: *mut ()) {
    // SAFETY: made by `Box::into_raw` in `follow`, dropped once. `Guarded` catches panics.
    drop(unsafe { Box::from_raw(data.cast::<Guarded<Messages>>()) });
}

unsafe extern "C" fn metadata(data: *const (), request: Message) -> FfiFuture<FfiReply> {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    let side = answering.side.clone();
    let answered = Guarded::new(answering.runtime.clone(), async move { side.metadata(decode(&request)?).await });
    FfiFuture::new(async move { reply(answered.await) })
}

unsafe extern "C" fn is_fenced(data: *const ()) -> bool {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    // Where nobody can tell, nobody may act.
    guard(|| answering.side.is_fenced()).unwrap_or(true)
}

unsafe extern "C" fn fence_is(data: *const (), fenced: bool) -> FfiFuture<()> {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    let side = answering.side.clone();
    let told = Guarded::new(answering.runtime.clone(), async move { side.fence_is(fenced).await });
    FfiFuture::new(async move {
        // As above: a host that panicked tells that it is fenced, and never that it is not.
        if told.await.is_err() && !fenced {
            std::future::pending::<()>().await;
        }
    })
}

type Abort = Box<dyn Fn() + Send + Sync>;

unsafe extern "C" fn spawn(data: *const (), name: RStr<'_>, task: FfiFuture<RResult<(), RString>>) -> TaskV1 {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    let task: SpawnedTask =
        Box::pin(async move { task.await.into_result().map_err(|panic| Panicked(panic.into_string())) });
    let spawned = guard(|| {
        let _entered = answering.runtime.enter();
        answering.side.spawn(name.as_str(), task)
    });
    // A host that panicked has dropped the task: its end is seen on the plugin's side.
    let abort: Box<Abort> = Box::new(spawned.unwrap_or_else(|_| Box::new(|| ())));
    TaskV1 { data: Box::into_raw(abort).cast_const().cast(), abort: abort_task, drop: drop_task }
}

unsafe extern "C" fn abort_task(data: *const ()) {
    // SAFETY: made in `spawn`, not dropped yet.
    let abort = unsafe { &*data.cast::<Abort>() };
    let _ = guard(abort);
}

unsafe extern "C" fn drop_task(data: *const ()) {
    // SAFETY: made by `Box::into_raw` in `spawn`, dropped once.
    let abort = unsafe { Box::from_raw(data.cast_mut().cast::<Abort>()) };
    let _ = guard(|| drop(abort));
}

unsafe extern "C" fn log(data: *const (), record: &FfiRecord<'_>) {
    // SAFETY: `data` is this table's.
    let answering = unsafe { answering(data) };
    let _ = guard(|| answering.side.log(record));
}

unsafe extern "C" fn drop_host(data: *const ()) {
    // SAFETY: made by `Arc::into_raw` in `HostV1::new`, dropped once.
    let answering = unsafe { Arc::from_raw(data.cast::<Answering>()) };
    let _ = guard(|| drop(answering));
}

/// The host, as the plugin's side calls it. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<HostV1>);

/// A host's channel, as the plugin's side calls it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HostChannel(Arc<ChannelV1>);

impl Host {
    /// The caller's side of a host's table.
    pub fn new(host: HostV1) -> Self {
        Self(Arc::new(host))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn channel(&self, target: &Target) -> HostChannel {
        // SAFETY: table and data belong together, and live as long as `self`. So for all calls below.
        HostChannel(Arc::new(unsafe { (self.0.table.channel)(self.0.data, encode(target)) }))
    }

    pub(crate) fn peers(&self, role: &Role) -> Result<Vec<Peer>, Error> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.peers)(self.0.data, encode(role)) })
    }

    pub(crate) fn watch_peers(&self, role: &Role) -> Result<Follow<PeerEvent>, Error> {
        // SAFETY: as above.
        Follow::new(unsafe { (self.0.table.watch_peers)(self.0.data, encode(role)) })
    }

    pub(crate) async fn metadata(&self, request: &MetadataRequest) -> Result<MetadataAnswer, Error> {
        // SAFETY: as above; the future owns what it needs of the host.
        read_reply(unsafe { (self.0.table.metadata)(self.0.data, encode(request)) }.await)
    }

    pub(crate) fn watch_metadata(&self, prefix: &str) -> Result<Follow<MetadataEvent>, Error> {
        // SAFETY: as above.
        Follow::new(unsafe { (self.0.table.watch_metadata)(self.0.data, encode(&prefix)) })
    }

    pub(crate) fn is_fenced(&self) -> bool {
        // SAFETY: as above.
        unsafe { (self.0.table.is_fenced)(self.0.data) }
    }

    pub(crate) fn fence_is(&self, fenced: bool) -> FfiFuture<()> {
        // SAFETY: as above; the future owns what it needs of the host.
        unsafe { (self.0.table.fence_is)(self.0.data, fenced) }
    }

    pub(crate) fn spawn(&self, name: &str, task: FfiFuture<RResult<(), RString>>) -> TaskV1 {
        // SAFETY: as above.
        unsafe { (self.0.table.spawn)(self.0.data, name.into(), task) }
    }

    pub(crate) fn log(&self, record: &FfiRecord<'_>) {
        // SAFETY: as above.
        unsafe { (self.0.table.log)(self.0.data, record) }
    }
}

impl HostChannel {
    pub(crate) fn call(&self, runtime: &Handle, request: Request<Body>) -> FfiFuture<FfiResponse> {
        // SAFETY: function and data came together, and live as long as `self`; the future owns what it needs.
        unsafe { (self.0.call)(self.0.data, FfiRequest::new(runtime, request)) }
    }

    pub(crate) fn stop(&self) {
        // SAFETY: as above.
        unsafe { (self.0.stop)(self.0.data) }
    }
}

impl TaskV1 {
    pub(crate) fn abort(&self) {
        // SAFETY: function and data came together, and live as long as `self`.
        unsafe { (self.abort)(self.data) }
    }
}

fn read_reply<T: DeserializeOwned>(reply: FfiReply) -> Result<T, Error> {
    match reply {
        RResult::ROk(message) => decode(&message),
        RResult::RErr(message) => Err(decode(&message)?),
    }
}

/// A stream of the host's, as the plugin's side polls it.
pub struct Follow<T> {
    stream: FollowV1,
    items: PhantomData<fn() -> T>,
}

impl<T> Follow<T> {
    fn new(answer: RResult<FollowV1, Message>) -> Result<Self, Error> {
        match answer {
            RResult::ROk(stream) => Ok(Self { stream, items: PhantomData }),
            RResult::RErr(message) => Err(decode(&message)?),
        }
    }
}

impl<T: DeserializeOwned> Stream for Follow<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let (poll, data) = (self.stream.poll, self.stream.data);
        // SAFETY: function and data came together, and live as long as `self`, which is borrowed mutably.
        match context.with_ffi_context(|context| unsafe { poll(data, context) }) {
            FfiPoll::Pending => Poll::Pending,
            // A message that cannot be read is a defect of one of the two sides: the stream ends rather than skips it.
            FfiPoll::Ready(message) => Poll::Ready(message.into_option().and_then(|message| decode(&message).ok())),
            FfiPoll::Panicked => Poll::Ready(None),
        }
    }
}

//! The plugin's side of a component: its table of functions, each of which runs guarded inside the plugin's own runtime.

use std::future::Future;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use abi_stable::std_types::RResult;
use async_ffi::FfiFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tower::Service as _;
use tracing::Instrument as _;

use super::{CreateSettings, LifeError, Started, bad_message};
use crate::border::bytes;
use crate::border::future::{Guarded, guard};
use crate::border::http::{FfiRequest, FfiResponse};
use crate::border::message::{Message, decode, encode};
use crate::border::v1::{ComponentTableV1, ComponentV1, FfiReply, Host, SnapshotV1};
use crate::call::Call;
use crate::component::{Component, Deactivation, Resume, Snapshot};
use crate::context::{Context, Shared};
use crate::descriptor::Descriptor;
use crate::error::{BoxError, Error};
use crate::export::logs;
use crate::identity::Identity;
use crate::peers::PeerEvent;
use crate::trace::TraceContext;

/// How long the plugin's own runtime may take to end its threads.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(5);

/// A component in its plugin, with the runtime that its code uses.
struct Exported {
    component: Option<Arc<dyn Component>>,
    settings: CreateSettings,
    package_version: semver::Version,
    host: Host,
    stopping: CancellationToken,
    routes: OnceLock<Routes>,
    span: tracing::Span,
    /// Taken when the component is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl ComponentV1 {
    /// Hands a component out.
    ///
    /// # Errors
    ///
    /// Where its constructor fails, or no thread can be had for its runtime.
    pub fn new(
        settings: CreateSettings,
        package_version: semver::Version,
        host: Host,
        construct: impl FnOnce() -> Result<Arc<dyn Component>, BoxError>,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // Futures are polled on the host's workers; this thread drives timers and sockets, and what is spawned.
            .worker_threads(1)
            .thread_name(settings.thread_name())
            .enable_all()
            .build()
            .map_err(|source| Error::internal(&source))?;
        let handle = runtime.handle().clone();
        let span = if settings.linked {
            tracing::info_span!("component", role = %settings.role, generation = settings.generation)
        } else {
            logs::forward_to(&host, settings.log_level);
            tracing::Span::none()
        };
        // Whole before the author's code runs: where that fails, all of it is ended as with a component that was made. A
        // runtime that is only dropped here, on a worker, panics in its turn or waits for what runs on it.
        let mut exported = Exported {
            component: None,
            settings,
            package_version,
            host,
            stopping: CancellationToken::new(),
            routes: OnceLock::new(),
            span,
            runtime: Some(runtime),
            handle,
        };
        let component = {
            let _entered = exported.handle.enter();
            let _in_span = exported.span.enter();
            construct().map_err(|error| Error::from_boxed(&error))?
        };
        exported.component = Some(component);
        Ok(Self { data: Arc::into_raw(Arc::new(exported)).cast(), table: &EXPORTED })
    }
}

impl Exported {
    /// # Errors
    ///
    /// Never while the host keeps its handle: the component goes with the last of them.
    fn component(&self) -> Result<Arc<dyn Component>, LifeError> {
        let gone = || LifeError::Failed(Error::new(tonic::Code::Internal, "the component has been dropped"));
        self.component.clone().ok_or_else(gone)
    }

    async fn start(&self, identity: Identity) -> Result<Started, LifeError> {
        let shared =
            Shared { identity, host: self.host.clone(), stopping: self.stopping.clone(), runtime: self.handle.clone() };
        let services = failed(self.component()?.start(Context { shared: Arc::new(shared) }).await)?;
        let twice = || LifeError::Failed(Error::new(tonic::Code::Internal, "the component was started twice"));
        self.routes.set(services.routes.prepare()).map_err(|_| twice())?;
        let descriptor_sets = services.descriptor_sets.into_iter().map(serde_bytes::ByteBuf::from).collect();
        Ok(Started { services: services.names, descriptor_sets })
    }

    async fn call(&self, request: FfiRequest) -> FfiResponse {
        let Some(routes) = self.routes.get() else {
            return FfiResponse::new(&self.handle, Status::unavailable("the component is not started").into_http());
        };
        let request = request.into_http();
        let call = Call::read(request.headers());
        let span = self.span_of(&call);
        let answered = async {
            let Ok(response) = routes.clone().call(request).await;
            // Here, so that the body belongs to the call as well.
            FfiResponse::new(&self.handle, response)
        };
        call.serve(answered).instrument(span).await
    }

    /// The logs of a loaded plugin are told by the host which call they belong to.
    fn span_of(&self, call: &Call) -> tracing::Span {
        match &call.trace {
            Some(TraceContext { trace_id, span_id, .. }) if self.settings.linked => {
                tracing::info_span!("call", %trace_id, %span_id)
            }
            _ => tracing::Span::none(),
        }
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        self.stopping.cancel();
        let component = self.component.take();
        let routes = self.routes.take();
        // A panic in the author's drop has been logged by the hook, and ends here.
        let _ = guard(|| {
            let _entered = self.handle.enter();
            drop(routes);
            drop(component);
        });
        if !self.settings.linked {
            logs::stop_forwarding(&self.host);
        }
        if let Some(runtime) = self.runtime.take() {
            end_elsewhere(runtime);
        }
    }
}

/// Ends a runtime on a thread of its own: the last handle may go on a worker, where a runtime must not be waited for.
fn end_elsewhere(runtime: Runtime) {
    let ours = Arc::new(Mutex::new(Some(runtime)));
    let take = |from: &Mutex<Option<Runtime>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = ours.clone();
    let thread = std::thread::Builder::new().name("runtime-end".to_owned());
    let spawned = thread.spawn(move || take(&theirs).map(|runtime| runtime.shutdown_timeout(RUNTIME_SHUTDOWN)));
    if spawned.is_err()
        && let Some(runtime) = take(&ours)
    {
        // No thread can be had: its own ones end when they come to it.
        runtime.shutdown_background();
    }
}

fn failed<T>(result: Result<T, BoxError>) -> Result<T, LifeError> {
    result.map_err(|error| LifeError::Failed(Error::from_boxed(&error)))
}

static EXPORTED: ComponentTableV1 = ComponentTableV1 {
    descriptor,
    start,
    activate,
    on_peer,
    on_stopping,
    deactivate,
    stop,
    snapshot,
    restore,
    call,
    set_log_level,
    lent_buffers,
    drop: drop_component,
};

/// A reference of its own to the component, for a future that outlives the call.
///
/// # Safety
///
/// `data` comes from `ComponentV1::new` and has not been dropped.
unsafe fn exported(data: *const ()) -> Arc<Exported> {
    let data = data.cast::<Exported>();
    // SAFETY: as the function asks for; the count is raised for the `Arc` that is made.
    unsafe {
        Arc::increment_strong_count(data);
        Arc::from_raw(data)
    }
}

fn reply<T: Serialize>(result: Result<T, LifeError>) -> FfiReply {
    match result {
        Ok(value) => RResult::ROk(encode(&value)),
        Err(error) => RResult::RErr(encode(&error)),
    }
}

/// A method of the component's life: reads the argument, runs guarded, writes the result.
fn method<A, T, F>(
    exported: Arc<Exported>,
    argument: Message,
    run: impl FnOnce(Arc<Exported>, A) -> F,
) -> FfiFuture<FfiReply>
where
    A: DeserializeOwned,
    T: Serialize,
    F: Future<Output = Result<T, LifeError>> + Send + 'static,
{
    let argument = match decode::<A>(&argument) {
        Ok(argument) => argument,
        Err(error) => return FfiFuture::new(async move { reply::<()>(Err(bad_message(error))) }),
    };
    let (handle, span) = (exported.handle.clone(), exported.span.clone());
    let guarded = Guarded::new(handle, run(exported, argument).instrument(span));
    FfiFuture::new(async move { reply(guarded.await.map_err(LifeError::from).and_then(|result| result)) })
}

unsafe extern "C" fn descriptor(data: *const ()) -> FfiReply {
    // SAFETY: `data` is this table's. So for all functions below.
    let exported = unsafe { exported(data) };
    let described = guard(|| {
        let _entered = exported.handle.enter();
        let mut descriptor = exported.component()?.descriptor();
        descriptor.version.get_or_insert_with(|| exported.package_version.clone());
        descriptor.role.get_or_insert_with(|| exported.settings.role.clone());
        Ok(descriptor)
    });
    reply(described.map_err(LifeError::from).and_then(|result: Result<Descriptor, LifeError>| result))
}

unsafe extern "C" fn start(data: *const (), identity: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(exported, identity, |exported, identity: Identity| async move { exported.start(identity).await })
}

unsafe extern "C" fn activate(data: *const (), resume: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(
        exported,
        resume,
        |exported, resume: Resume| async move { failed(exported.component()?.activate(resume).await) },
    )
}

unsafe extern "C" fn on_peer(data: *const (), event: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(exported, event, |exported, event: PeerEvent| async move {
        exported.component()?.on_peer(event).await;
        Ok(())
    })
}

unsafe extern "C" fn on_stopping(data: *const (), nothing: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(exported, nothing, |exported, (): ()| async move {
        exported.component()?.on_stopping().await;
        Ok(())
    })
}

unsafe extern "C" fn deactivate(data: *const (), reason: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(exported, reason, |exported, reason: Deactivation| async move {
        exported.component()?.deactivate(reason).await;
        Ok(())
    })
}

unsafe extern "C" fn stop(data: *const (), nothing: Message) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    method(exported, nothing, |exported, (): ()| async move {
        exported.stopping.cancel();
        exported.component()?.stop().await;
        Ok(())
    })
}

unsafe extern "C" fn snapshot(data: *const ()) -> FfiFuture<RResult<SnapshotV1, Message>> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    let (handle, span) = (exported.handle.clone(), exported.span.clone());
    let guarded = Guarded::new(handle, async move { failed(exported.component()?.snapshot().await) }.instrument(span));
    FfiFuture::new(async move {
        match guarded.await.map_err(LifeError::from).and_then(|result| result) {
            Ok(snapshot) => RResult::ROk(snapshot.into()),
            Err(error) => RResult::RErr(encode(&error)),
        }
    })
}

unsafe extern "C" fn restore(data: *const (), snapshot: SnapshotV1) -> FfiFuture<FfiReply> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    let snapshot = Snapshot::from(snapshot);
    let (handle, span) = (exported.handle.clone(), exported.span.clone());
    let guarded =
        Guarded::new(handle, async move { failed(exported.component()?.restore(snapshot).await) }.instrument(span));
    FfiFuture::new(async move { reply(guarded.await.map_err(LifeError::from).and_then(|result| result)) })
}

unsafe extern "C" fn call(data: *const (), request: FfiRequest) -> FfiFuture<FfiResponse> {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    let (handle, span) = (exported.handle.clone(), exported.span.clone());
    let guarded = Guarded::new(handle.clone(), async move { exported.call(request).await }.instrument(span));
    FfiFuture::new(async move {
        guarded.await.unwrap_or_else(|panicked| {
            FfiResponse::new(&handle, Status::internal(format!("the handler {panicked}")).into_http())
        })
    })
}

unsafe extern "C" fn set_log_level(data: *const (), level: u8) {
    // SAFETY: as above.
    let exported = unsafe { exported(data) };
    if !exported.settings.linked {
        let _ = guard(|| logs::set_level(level));
    }
}

unsafe extern "C" fn lent_buffers(_: *const ()) -> usize {
    bytes::lent()
}

unsafe extern "C" fn drop_component(data: *const ()) {
    // SAFETY: made by `Arc::into_raw` in `ComponentV1::new`, dropped once. `Exported::drop` catches the author's panics.
    drop(unsafe { Arc::from_raw(data.cast::<Exported>()) });
}

impl From<Snapshot> for SnapshotV1 {
    fn from(snapshot: Snapshot) -> Self {
        let files: Vec<i32> = snapshot.files.into_iter().map(OwnedFd::into_raw_fd).collect();
        Self { state_version: snapshot.state_version, bytes: snapshot.bytes.into(), files: files.into() }
    }
}

impl From<SnapshotV1> for Snapshot {
    fn from(mut snapshot: SnapshotV1) -> Self {
        let files = std::mem::take(&mut snapshot.files);
        // SAFETY: the sender has given up these descriptors, and nobody else has this message.
        let files = files.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }).collect();
        Self { state_version: snapshot.state_version, bytes: std::mem::take(&mut snapshot.bytes).into_vec(), files }
    }
}

impl Drop for SnapshotV1 {
    fn drop(&mut self) {
        for file in self.files.iter() {
            // SAFETY: nobody has taken these descriptors over: then the list would be empty.
            drop(unsafe { OwnedFd::from_raw_fd(*file) });
        }
    }
}

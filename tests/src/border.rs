//! A component without a host: made from its plugin across the border, and called in this process.
//!
//! Each of its channels leads back to itself, and nothing else of a host is there. For tests of the border alone; all
//! others have real hosts.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{self, Poll};

use abi_stable::library::AbiHeaderRef;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::{Request, Response};
use plugin_api::border::log::FfiRecord;
use plugin_api::border::message::encode;
use plugin_api::border::root::{ENTRY_PREFIX, Entry, RootRef};
use plugin_api::border::v1::component::CreateSettings;
use plugin_api::border::v1::host::{ChannelSide, HostSide, SpawnedTask};
use plugin_api::border::v1::{HostV1, LoadedComponent, NUMBER, PluginV1};
use plugin_api::metadata::{MetadataAnswer, MetadataEvent, MetadataRequest};
use plugin_api::{Error, Identity, Peer, PeerEvent, Reason, Role, ServerId, Target, async_trait};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Code;
use tonic::body::Body;

use crate::binary::plugin_file;

/// A component of one of the two ways to have its code.
pub struct Bordered {
    component: Arc<LoadedComponent>,
    side: Arc<Loopback>,
    role: Role,
}

impl Bordered {
    /// From a crate that is linked into this binary.
    pub fn linked(plugin: &plugin_api::export::Plugin, role: &str, config: &str) -> Self {
        Self::create((plugin.entry)(), true, role, config)
    }

    /// From the shared library of a crate, opened under a name of its own: a path that is open already would give the
    /// same copy, and with it another test's component.
    ///
    /// # Panics
    ///
    /// Where it cannot be opened.
    #[expect(unsafe_code, reason = "a library is loaded")]
    pub fn loaded(name: &str, role: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let path = folder.path().join(format!("lib{name}.so"));
        std::fs::copy(plugin_file(name), &path).expect("a file can be copied");
        // SAFETY: the library is one of this workspace; its constructors are the standard library's. It is never closed.
        let header = unsafe {
            let library = libloading::Library::new(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let entry = *library.get::<Entry>(format!("{ENTRY_PREFIX}{name}").as_str()).expect("the entry symbol");
            std::mem::forget(library);
            entry()
        };
        Self::create(header, false, role, config)
    }

    fn create(header: AbiHeaderRef, linked: bool, role: &str, config: &str) -> Self {
        let role = Role::new(role).expect("a role");
        let side = Arc::new(Loopback::default());
        let host = HostV1::new(side.clone(), Handle::current());
        let settings = CreateSettings { role: role.clone(), generation: 1, log_level: 3, linked };
        let created = (interface(header).create)(config.into(), host, encode(&settings)).into_result();
        let component = Arc::new(LoadedComponent::new(created.unwrap_or_else(|_| panic!("{role} is not made"))));
        side.component.set(Arc::downgrade(&component)).unwrap_or_else(|_| panic!("the side is new"));
        Self { component, side, role }
    }

    /// Starts and activates it.
    pub async fn start(&self) -> &Self {
        self.start_only().await.component.activate(plugin_api::Resume::Fresh).await.expect("it is activated");
        self
    }

    /// Starts it, as a standby is.
    pub async fn start_only(&self) -> &Self {
        let identity = Identity {
            cluster: "none".to_owned(),
            role: self.role.clone(),
            server_id: ServerId(1),
            address: String::new(),
            generation: 1,
        };
        self.component.start(&identity).await.expect("it starts");
        self
    }

    /// The component, to be called as a host does.
    pub fn component(&self) -> &Arc<LoadedComponent> {
        &self.component
    }

    /// The messages that it has logged.
    pub fn logged(&self) -> Vec<String> {
        lock(&self.side.logged).clone()
    }

    /// Its session is not held for certain from now on, or is again.
    pub fn fence(&self, fenced: bool) {
        self.side.fenced.send_replace(fenced);
    }

    /// A channel to it, as a tonic-generated client takes one.
    pub fn channel(&self) -> Direct {
        Direct(self.component.clone())
    }
}

/// The table of interface 1.
#[expect(unsafe_code, reason = "a table is read across the border")]
fn interface(header: AbiHeaderRef) -> &'static PluginV1 {
    let header = header.upgrade().expect("the same format of abi_stable");
    let root = header.init_root_module::<RootRef>().expect("the frozen root module");
    let interface = (root.interface())(NUMBER).into_option().expect("interface 1");
    // SAFETY: interface 1 is a `PluginV1`, compiled from the same source; its table is a static of a library that is never
    // closed.
    unsafe { &*interface.table.cast::<PluginV1>() }
}

/// A `tower` service that calls a component without a wire.
#[derive(Clone)]
pub struct Direct(Arc<LoadedComponent>);

impl tower::Service<Request<Body>> for Direct {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let component = self.0.clone();
        Box::pin(async move { Ok(component.call(&Handle::current(), request).await) })
    }
}

/// The host's side: each channel leads back to the component.
#[derive(Default)]
struct Loopback {
    component: OnceLock<std::sync::Weak<LoadedComponent>>,
    logged: Mutex<Vec<String>>,
    fenced: watch::Sender<bool>,
}

#[async_trait]
impl HostSide for Loopback {
    fn channel(&self, _: Target) -> Arc<dyn ChannelSide> {
        Arc::new(Back(self.component.get().cloned().unwrap_or_default()))
    }

    fn peers(&self, _: &Role) -> Result<Vec<Peer>, Error> {
        Ok(Vec::new())
    }

    fn watch_peers(&self, _: &Role) -> Result<BoxStream<'static, PeerEvent>, Error> {
        Ok(stream::pending().boxed())
    }

    async fn metadata(&self, _: MetadataRequest) -> Result<MetadataAnswer, Error> {
        Err(Error::new(Code::Unavailable, "there is no etcd here").with_reason(Reason::Fenced))
    }

    fn watch_metadata(&self, _: String) -> Result<BoxStream<'static, MetadataEvent>, Error> {
        Ok(stream::pending().boxed())
    }

    fn is_fenced(&self) -> bool {
        self.fenced.borrow().to_owned()
    }

    async fn fence_is(&self, fenced: bool) {
        // It fails where the side is gone, which waits itself.
        let _ = self.fenced.subscribe().wait_for(|now| *now == fenced).await;
    }

    fn spawn(&self, _: &str, task: SpawnedTask) -> Box<dyn Fn() + Send + Sync> {
        let task = tokio::spawn(task);
        Box::new(move || task.abort())
    }

    fn log(&self, record: &FfiRecord<'_>) {
        lock(&self.logged).push(record.message.to_string());
    }
}

struct Back(std::sync::Weak<LoadedComponent>);

#[async_trait]
impl ChannelSide for Back {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let component = self.0.upgrade().expect("a component calls while it is there");
        component.call(&Handle::current(), request).await
    }

    fn stop(&self) {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The host's side of a component: the methods of its life, and its calls.

use abi_stable::std_types::RResult;
use http::{Request, Response};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tonic::body::Body;

use super::{LifeError, Started, bad_message};
use crate::border::http::FfiRequest;
use crate::border::message::{decode, encode};
use crate::border::v1::{ComponentV1, FfiReply};
use crate::component::{Deactivation, Resume, Snapshot};
use crate::descriptor::Descriptor;
use crate::identity::Identity;
use crate::peers::PeerEvent;

/// A component, as its host calls it.
///
/// Every method's future is polled on the host's workers; the plugin's side enters its own runtime and catches panics.
pub struct LoadedComponent(ComponentV1);

impl LoadedComponent {
    /// The caller's side of a component's table.
    pub fn new(component: ComponentV1) -> Self {
        Self(component)
    }

    /// What the component is; role and version are always there.
    ///
    /// # Errors
    ///
    /// Where it panicked.
    pub fn descriptor(&self) -> Result<Descriptor, LifeError> {
        // SAFETY: table and data belong together, and live as long as `self`; futures own what they need. So for all below.
        read_reply(unsafe { (self.0.table.descriptor)(self.0.data) })
    }

    /// [`crate::Component::start`].
    ///
    /// # Errors
    ///
    /// As the component's own; so for all methods below.
    pub async fn start(&self, identity: &Identity) -> Result<Started, LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.start)(self.0.data, encode(identity)) }.await)
    }

    /// [`crate::Component::activate`].
    ///
    /// # Errors
    ///
    /// As the component's own.
    pub async fn activate(&self, resume: Resume) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.activate)(self.0.data, encode(&resume)) }.await)
    }

    /// [`crate::Component::on_peer`].
    ///
    /// # Errors
    ///
    /// Where it panicked; so for the methods below.
    pub async fn on_peer(&self, event: &PeerEvent) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.on_peer)(self.0.data, encode(event)) }.await)
    }

    /// [`crate::Component::on_stopping`].
    ///
    /// # Errors
    ///
    /// Where it panicked.
    pub async fn on_stopping(&self) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.on_stopping)(self.0.data, encode(&())) }.await)
    }

    /// [`crate::Component::deactivate`].
    ///
    /// # Errors
    ///
    /// Where it panicked.
    pub async fn deactivate(&self, reason: Deactivation) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.deactivate)(self.0.data, encode(&reason)) }.await)
    }

    /// [`crate::Component::stop`]; cancels its token first.
    ///
    /// # Errors
    ///
    /// Where it panicked.
    pub async fn stop(&self) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.stop)(self.0.data, encode(&())) }.await)
    }

    /// [`crate::Component::snapshot`].
    ///
    /// # Errors
    ///
    /// As the component's own.
    pub async fn snapshot(&self) -> Result<Snapshot, LifeError> {
        // SAFETY: as above.
        match unsafe { (self.0.table.snapshot)(self.0.data) }.await {
            RResult::ROk(snapshot) => Ok(snapshot.into()),
            RResult::RErr(message) => Err(decode(&message).map_err(bad_message)?),
        }
    }

    /// [`crate::Component::restore`].
    ///
    /// # Errors
    ///
    /// As the component's own.
    pub async fn restore(&self, snapshot: Snapshot) -> Result<(), LifeError> {
        // SAFETY: as above.
        read_reply(unsafe { (self.0.table.restore)(self.0.data, snapshot.into()) }.await)
    }

    /// A call of one of its services. A panic of the handler is an answer with `INTERNAL`.
    ///
    /// `runtime` is the host's own: the request's body is polled inside it.
    pub async fn call(&self, runtime: &Handle, request: Request<Body>) -> Response<Body> {
        // SAFETY: as above.
        unsafe { (self.0.table.call)(self.0.data, FfiRequest::new(runtime, request)) }.await.into_http()
    }

    /// Tells the plugin which levels are worth sending.
    pub fn set_log_level(&self, level: u8) {
        // SAFETY: as above.
        unsafe { (self.0.table.set_log_level)(self.0.data, level) }
    }

    /// Counts the buffers of the plugin's that others still hold; also when the component has been dropped, since it is a
    /// count of its library's.
    pub fn lent_buffers(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let count = self.0.table.lent_buffers;
        // SAFETY: the table says that this function does not look at the data, and libraries are never unmapped.
        move || unsafe { count(std::ptr::null()) }
    }
}

fn read_reply<T: DeserializeOwned>(reply: FfiReply) -> Result<T, LifeError> {
    match reply {
        RResult::ROk(message) => decode(&message).map_err(bad_message),
        RResult::RErr(message) => Err(decode(&message).map_err(bad_message)?),
    }
}

//! The client that a component calls with: an ordinary `tower` service, so that a tonic-generated client takes it.
//!
//! A call ends in one of these ways: the peer answers; the truth table refuses it, at once or after a wait that it asked
//! for; its deadline ends; it is cut, because the peer has gone or because somebody here has stopped it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use plugin_api::channel::Target;
use plugin_api::descriptor::Dependency;
use plugin_api::identity::Role;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use super::ConnectionManager;
use super::call::Call;
use super::dependency::Followed;
use super::refusal::About;
use crate::metrics::Calls;
use crate::wire;

/// A client for one target. Cheap to clone; clones are stopped together.
#[derive(Clone)]
pub struct Client {
    pub(super) manager: ConnectionManager,
    caller: Arc<Role>,
    pub(super) target: Arc<Target>,
    // Shared as a whole: a clone of the token alone takes its lock, and each call has a clone of this.
    pub(super) stopped: Arc<CancellationToken>,
    /// What is counted of its calls.
    pub(super) calls: Arc<Calls>,
}

/// A role that a component declared, as its calls see it.
#[derive(Clone)]
pub(super) struct Declared {
    /// What it declared.
    pub dependency: Arc<Dependency>,
    /// The role's peers.
    pub followed: Arc<Followed>,
    /// Cancelled when the dependency is removed, or the host stops. Shared as a whole, likewise.
    pub ended: Arc<CancellationToken>,
}

impl Client {
    pub(super) fn new(manager: ConnectionManager, caller: Role, target: Target) -> Self {
        let calls = Arc::clone(&manager.measured().of(target.role()).calls);
        Self { manager, caller: Arc::new(caller), target: Arc::new(target), stopped: Arc::default(), calls }
    }

    /// Whom it calls.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Ends its waits and its running calls, streams too, at once; every later call is refused.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// What its refusals tell.
    pub(super) fn about(&self) -> About<'_> {
        About { refused_by: self.manager.label(), target: &self.target }
    }

    async fn run(self, request: Request<Body>) -> Response<Body> {
        let measured = self.calls.begin(request.uri().path());
        match self.answer(request).await {
            Ok(answer) => measured.answer(answer),
            Err(status) => measured.refuse(status),
        }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let started = Instant::now();
        let bad = |error: wire::BadMetadata| Status::invalid_argument(error.to_string());
        let timeout = wire::timeout(request.headers()).map_err(bad)?;
        let wait = wire::wait(request.headers()).map_err(bad)?;
        let Some(declared) = self.manager.declared(&self.caller, self.target.role()) else {
            return Err(self.manager.refuse_undeclared(&self.caller, &self.target).into_status());
        };
        let deadline = timeout.and_then(|timeout| started.checked_add(timeout));
        let wait = wait.unwrap_or(declared.dependency.call_wait);
        Arc::new(Call { client: self, declared, started, deadline }).run(request, wait).await
    }
}

impl tower::Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.clone().run(request);
        Box::pin(async move { Ok(call.await) })
    }
}

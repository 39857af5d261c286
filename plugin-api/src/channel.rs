//! The channel to a peer: an ordinary `tower` service over a link that the host owns.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use async_ffi::FfiFuture;
use http::{HeaderName, HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tonic::body::Body;

use crate::border::http::FfiResponse;
use crate::border::v1::host::HostChannel;
use crate::call::Call;
use crate::identity::{Role, ServerId};

/// The call metadata by which a call asks to wait for a ready peer, in milliseconds.
pub const WAIT_MS: &str = "componenthost-wait-ms";

/// For how long one call waits for a ready peer, as an extension of its request:
/// `request.extensions_mut().insert(WaitForReady(limit))`. It goes before [`Channel::wait`] and the dependency's own default;
/// zero is refused at once. A call without a deadline waits no longer than the host's `connections.wait_cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitForReady(pub Duration);

/// Whom a channel calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The active coordinator of a role; of a node role any peer that is ready, in turn.
    Role(Role),
    /// One peer, by its identity.
    Server(Role, ServerId),
}

impl Target {
    /// The role that is called.
    pub fn role(&self) -> &Role {
        match self {
            Self::Role(role) | Self::Server(role, _) => role,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(role) => role.fmt(formatter),
            Self::Server(role, server_id) => write!(formatter, "{role}-{server_id}"),
        }
    }
}

/// A way to call a peer, for a tonic-generated client: `RootCoordClient::new(context.client(&role))`. Cheap to clone.
///
/// It connects nothing and never waits by itself: the host owns the link. A call to a peer that is not there is answered
/// at once with a status that carries a [`crate::Refusal`]; a running one is cut with such a status when the peer's session
/// goes. A call's own deadline (`Request::set_timeout`) is kept; within a call that is being served, so is what is left of
/// that one's ([`Call`]).
#[derive(Clone)]
pub struct Channel {
    host: HostChannel,
    runtime: Handle,
    wait: Option<Duration>,
}

impl Channel {
    pub(crate) fn new(host: HostChannel, runtime: Handle) -> Self {
        Self { host, runtime, wait: None }
    }

    /// The same channel, whose calls wait at most so long for a ready peer in place of being refused at once.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = Some(limit);
        self
    }

    /// Ends all calls that run on this channel and its clones, with `CANCELLED`, and refuses all others from now on.
    pub fn stop(&self) {
        self.host.stop();
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        let own = request.extensions().get::<WaitForReady>().map(|WaitForReady(wait)| *wait);
        if let Some(wait) = own.or(self.wait) {
            let name = HeaderName::from_static(WAIT_MS);
            let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            request.headers_mut().entry(name).or_insert_with(|| HeaderValue::from(milliseconds));
        }
        if let Some(call) = Call::current() {
            call.hand_on(request.headers_mut());
        }
        ResponseFuture(self.host.call(&self.runtime, request))
    }
}

/// The answer that [`Channel`] is waiting for.
pub struct ResponseFuture(FfiFuture<FfiResponse>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|response| Ok(response.into_http()))
    }
}

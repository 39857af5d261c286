//! The client that a component calls with: an ordinary `tower` service, so that a tonic-generated client takes it.
//!
//! A call ends in one of these ways: the peer answers; the truth table refuses it, at once or after a wait that it asked
//! for; its deadline ends; it is cut, because the peer has gone or because somebody here has stopped it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use plugin_api::channel::Target;
use plugin_api::descriptor::Dependency;
use plugin_api::error::chain;
use plugin_api::identity::Role;
use plugin_api::refusal::{Executed, Reason, Refusal, key};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use super::body::{Download, End, Running, Upload};
use super::dependency::{Followed, PeerView, RoleView};
use super::link::{Link, LinkError, SendFailure};
use super::peer::Says;
use super::refusal::{About, Verdict, bounded, own_refusal, verdict};
use super::{ConnectionManager, ConnectionsConfig};
use crate::metrics::Calls;
use crate::wire::{self, Addressee};

/// For so long every call waits for a new link while the old one goes away.
const MOMENT: Duration = Duration::from_millis(250);

/// A client for one target. Cheap to clone; clones are stopped together.
#[derive(Clone)]
pub struct Client {
    manager: ConnectionManager,
    caller: Role,
    target: Arc<Target>,
    stopped: CancellationToken,
    /// What is counted of its calls.
    calls: Arc<Calls>,
}

/// A role that a component declared, as its calls see it.
#[derive(Clone)]
pub(super) struct Declared {
    /// What it declared.
    pub dependency: Arc<Dependency>,
    /// The role's peers.
    pub followed: Arc<Followed>,
    /// Cancelled when the dependency is removed, or the host stops.
    pub ended: CancellationToken,
}

/// One call.
struct Call {
    client: Client,
    declared: Declared,
    started: Instant,
    deadline: Option<Instant>,
}

impl Client {
    pub(super) fn new(manager: ConnectionManager, caller: Role, target: Target) -> Self {
        let calls = Arc::clone(&manager.measured().of(target.role()).calls);
        Self { manager, caller, target: Arc::new(target), stopped: CancellationToken::new(), calls }
    }

    /// Whom it calls.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Ends its waits and its running calls, streams too, at once; every later call is refused.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    fn about(&self) -> About<'_> {
        About { refused_by: self.manager.label(), target: &self.target }
    }

    async fn run(self, request: Request<Body>) -> Response<Body> {
        let measured = self.calls.begin(request.uri().path());
        measured.answer(self.answer(request).await.unwrap_or_else(Status::into_http))
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
        Call { client: self, declared, started, deadline }.run(request, wait).await
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

/// What is to be done with a call now.
enum Choice {
    Send(Arc<PeerView>, Arc<Link>),
    Wait(Refusal),
    Moment(Refusal),
    Refuse(Refusal),
}

impl Call {
    async fn run(self, mut request: Request<Body>, wait: Duration) -> Result<Response<Body>, Status> {
        let mut stopped = self.stopped(Executed::No);
        let mut views = self.declared.followed.watch();
        let limit = self.wait_limit(wait);
        // Every call that finds a link on its way out waits so long for the next one, once.
        let mut moment_ends = None;
        loop {
            if let Some(status) = poll_now(&mut stopped) {
                return Err(status);
            }
            let view = Arc::clone(&views.borrow_and_update());
            let (refusal, until) = match self.choose(&view) {
                Choice::Refuse(refusal) => return Err(refusal.into_status()),
                Choice::Wait(refusal) => (refusal, limit),
                Choice::Moment(refusal) => {
                    let ends = *moment_ends.get_or_insert_with(|| Instant::now() + MOMENT);
                    (refusal, Some(limit.map_or(ends, |limit| limit.max(ends))))
                }
                Choice::Send(peer, link) => match self.send(&view, &peer, &link, request).await? {
                    Sent::Answered(response) => return Ok(response),
                    Sent::Returned(returned) if moment_ends.is_none() => {
                        // The link's end is not in the view yet: nothing was sent, so it may be sent again.
                        request = *returned;
                        let ends = *moment_ends.insert(Instant::now() + MOMENT);
                        (self.link_lost(&view, &peer, "the link takes no more calls"), Some(ends))
                    }
                    Sent::Returned(_) => {
                        return Err(self.link_lost(&view, &peer, "the link takes no more calls").into_status());
                    }
                },
            };
            let Some(until) = until else { return Err(refusal.into_status()) };
            let _waiting = self.client.calls.wait();
            tokio::select! {
                biased;
                status = &mut stopped => return Err(status),
                changed = views.changed() => if changed.is_err() { return Err(refusal.into_status()) },
                () = tokio::time::sleep_until(until.into()) => {
                    let asked = limit.is_some_and(|limit| limit <= Instant::now());
                    return Err(if asked { self.waited(refusal) } else { refusal }.into_status());
                }
            }
        }
    }

    /// Until when it waits, where it waits at all: as long as it asked for, and without a deadline of its own no longer
    /// than the cap.
    fn wait_limit(&self, wait: Duration) -> Option<Instant> {
        let wait = if self.deadline.is_some() { wait } else { wait.min(self.config().wait_cap) };
        (!wait.is_zero()).then(|| self.started.checked_add(wait)).flatten()
    }

    fn choose(&self, view: &RoleView) -> Choice {
        let about = self.client.about();
        let chosen = match &*self.client.target {
            Target::Role(_) => self.declared.followed.choose(view, self.declared.dependency.kind),
            Target::Server(_, server_id) => view.peers.get(server_id).cloned(),
        };
        let by_role = matches!(&*self.client.target, Target::Role(_));
        let Some(peer) = chosen else {
            let refusal = about.refuse_absent(view);
            // A call to a role waits for whoever comes; a call to one peer waits for it, but not once it has gone.
            let waits = by_role || refusal.reason == Reason::NoSuchPeer;
            return if waits { Choice::Wait(refusal) } else { Choice::Refuse(refusal) };
        };
        match (verdict(&peer.state), &peer.link) {
            (Verdict::Call, Some(link)) => Choice::Send(Arc::clone(&peer), Arc::clone(link)),
            (Verdict::Call | Verdict::Moment, _) => Choice::Moment(about.refuse_for(Reason::Connecting, view, &peer)),
            (Verdict::Wait(reason), _) => Choice::Wait(about.refuse_for(reason, view, &peer)),
            // Another holder may come while this one is on its way out.
            (Verdict::Refuse(reason), _) if by_role && reason != Reason::IdentityMismatch => {
                Choice::Wait(about.refuse_for(reason, view, &peer))
            }
            (Verdict::Refuse(reason), _) => Choice::Refuse(about.refuse_for(reason, view, &peer)),
        }
    }

    async fn send(
        &self,
        view: &Arc<RoleView>,
        peer: &Arc<PeerView>,
        link: &Link,
        request: Request<Body>,
    ) -> Result<Sent, Status> {
        let over = CancellationToken::new();
        let running = Running::begin(Arc::clone(&peer.shared), over.clone());
        let mut end = self.end(peer);
        let sent = Instant::now();
        let answer = tokio::select! {
            biased;
            status = &mut end => return Err(status),
            answer = link.send(self.address(request, peer, &over)) => answer,
        };
        match answer {
            Ok(response) => {
                self.look_at(peer, &response, sent);
                let broken = self.broken(view, peer);
                Ok(Sent::Answered(response.map(|body| Download::wrap(body, running, end, broken))))
            }
            Err(SendFailure::NotSent(request)) => Ok(Sent::Returned(request)),
            Err(SendFailure::Reset(error) | SendFailure::Broken(error) | SendFailure::NotTaken(error)) => {
                // The link of a peer that goes may break a moment before its cut is seen: the cut says more.
                let status = poll_now(&mut end);
                Err(status.unwrap_or_else(|| self.broken(view, peer)(error)))
            }
        }
    }

    /// Has the peer itself refused the call? Then the driver is told how it stands.
    fn look_at<B>(&self, peer: &PeerView, response: &Response<B>, sent: Instant) {
        if let Some(refusal) = own_refusal(response, self.client.target.role(), peer.entry.server_id())
            && let Some(says) = Says::in_refusal(&refusal)
        {
            peer.shared.refused(peer.entry.server_id(), says, sent);
        }
    }

    /// The request as it goes to this peer: whom it means, and how long it has left.
    fn address(&self, request: Request<Body>, peer: &PeerView, over: &CancellationToken) -> Request<Body> {
        let mut request = request.map(|body| Upload::wrap(body, over));
        let headers = request.headers_mut();
        headers.remove(wire::metadata::WAIT_MS);
        let addressee = Addressee {
            cluster: Some(self.client.manager.cluster().to_owned()),
            server_id: Some(peer.entry.server_id()),
            role: Some(self.client.target.role().clone()),
        };
        addressee.write(headers);
        if let Some(deadline) = self.deadline {
            wire::set_timeout(headers, deadline.saturating_duration_since(Instant::now()));
        }
        headers.entry(USER_AGENT).or_insert(AGENT);
        request
    }

    /// What ends this call while it runs at this peer.
    fn end(&self, peer: &PeerView) -> End {
        let mut stopped = self.stopped(Executed::Unknown);
        let cut = peer.shared.cut.clone().cancelled_owned();
        let (client, followed) = (self.client.clone(), Arc::clone(&self.declared.followed));
        let peer = peer.clone();
        Box::pin(async move {
            tokio::select! {
                biased;
                status = &mut stopped => status,
                () = cut => cut_refusal(&client, &followed.view(), peer).into_status(),
            }
        })
    }

    /// What ends this call wherever it is: a stop, or its deadline.
    fn stopped(&self, executed: Executed) -> End {
        let (client, ended) = (self.client.clone(), self.declared.ended.clone());
        let (deadline, started) = (self.deadline, self.started);
        Box::pin(async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = client.stopped.cancelled() => {}
                () = until(deadline) => {
                    let took = humantime::format_duration(deadline.unwrap_or(started).duration_since(started));
                    let target = &client.target;
                    return Status::deadline_exceeded(format!("the call to {target} did not end within {took}"));
                }
            }
            let (reason, message) = if client.manager.is_stopped() {
                (Reason::HostStopping, "the host is stopping")
            } else if ended.is_cancelled() {
                (Reason::DependencyRemoved, "the dependency has been removed")
            } else {
                (Reason::ClientStopped, "the client has been stopped")
            };
            Refusal { executed, ..client.about().refuse(reason, message) }.into_status()
        })
    }

    /// What an error of the link is for the caller: the end of the link, or of this call alone.
    fn broken(
        &self,
        view: &Arc<RoleView>,
        peer: &Arc<PeerView>,
    ) -> impl Fn(LinkError) -> Status + Send + Unpin + use<> {
        let (client, view, peer) = (self.client.clone(), Arc::clone(view), Arc::clone(peer));
        move |error| match SendFailure::of(error) {
            SendFailure::Reset(error) => error.into(),
            SendFailure::Broken(error) => {
                let refusal = client.about().refuse_for(Reason::LinkLost, &view, &peer).maybe_executed();
                refusal.with(key::LAST_ERROR, bounded(&chain(&error))).into_status()
            }
            SendFailure::NotTaken(error) => {
                let refusal = client.about().refuse_for(Reason::LinkLost, &view, &peer);
                refusal.with(key::LAST_ERROR, bounded(&chain(&error))).into_status()
            }
            SendFailure::NotSent(_) => Status::internal("an error of a link holds no request"),
        }
    }

    fn link_lost(&self, view: &RoleView, peer: &PeerView, error: &str) -> Refusal {
        self.client.about().refuse_for(Reason::LinkLost, view, peer).with(key::LAST_ERROR, error)
    }

    fn waited(&self, last: Refusal) -> Refusal {
        self.client.about().refuse_waited(self.started.elapsed(), last)
    }

    fn config(&self) -> &ConnectionsConfig {
        self.client.manager.config()
    }
}

/// What came of a call that was given to a link.
enum Sent {
    Answered(Response<Body>),
    /// The link took it no more: nothing was sent.
    Returned(Box<Request<Body>>),
}

/// Who answers for this host to servers that log their callers.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("componenthost/", env!("CARGO_PKG_VERSION")));

/// The refusal of a call that ran when its peer went.
fn cut_refusal(client: &Client, now: &RoleView, peer: PeerView) -> Refusal {
    use super::peer::{Departure, LinkState, Session};
    let gone = now.gone.get(&peer.entry.server_id());
    let departure = gone.map_or(Departure::Deleted, |gone| gone.departure);
    let since = gone.map_or_else(Instant::now, |gone| gone.since);
    let state = super::peer::PeerState { session: Session::Gone(departure), link: LinkState::Closed, since };
    let peer = PeerView { state, ..peer };
    client.about().refuse_for(departure.reason(), now, &peer).maybe_executed()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The status, where the call has ended already. The waker is of no use: whoever asks goes on by itself.
fn poll_now(end: &mut End) -> Option<Status> {
    match end.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(status) => Some(status),
        Poll::Pending => None,
    }
}

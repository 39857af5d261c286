//! One sending of a call to one peer: what goes out with it, what ends it, and what came of it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response, request};
use plugin_api::error::chain;
use plugin_api::refusal::{Executed, Reason, Refusal, key};
use tonic::Status;
use tonic::body::Body;

use super::Call;
use super::refusals::Refused;
use crate::connections::body::{Download, End, Running};
use crate::connections::client::Client;
use crate::connections::dependency::{PeerView, RoleView};
use crate::connections::link::{Link, LinkError, SendFailure};
use crate::connections::peer::{Departure, LinkState, PeerState, Says, Session};
use crate::connections::refusal::{bounded, own_refusal};
use crate::connections::tape::Tape;
use crate::wire;

/// Who answers for this host to servers that log their callers.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("componenthost/", env!("CARGO_PKG_VERSION")));

/// What came of a call that was given to a link.
pub(super) enum Sent {
    /// The head of the answer is there.
    Answered(Response<Body>),
    /// The peer itself has refused it, and no handler has seen it.
    Refused(Refused),
    /// The link did not take it, or the peer did not: no handler has seen it. Why.
    Returned(Refusal),
}

impl Call {
    /// Sends it to this peer. An error ends the call for good.
    pub(super) async fn send(
        self: &Arc<Self>,
        view: &Arc<RoleView>,
        peer: &Arc<PeerView>,
        link: &Link,
        head: &request::Parts,
        tape: &Tape,
    ) -> Result<Sent, Status> {
        let Some((body, upload)) = tape.play() else {
            return Ok(Sent::Returned(self.link_lost(view, peer, "too much of it was sent to send it again")));
        };
        let request = self.address(head, body, peer);
        let running = Running::begin(Arc::clone(&peer.shared), upload);
        if peer.shared.cut.is_cancelled() {
            // It went since the view was read: nothing is sent, and the next view, which came before the cut, says who is there.
            let now = self.declared.followed.view();
            return Ok(Sent::Returned(cut_refusal(&self.client, &now, peer)));
        }
        let mut end = self.end(peer);
        let at = Instant::now();
        let answer = tokio::select! {
            biased;
            status = &mut end => return Err(status),
            answer = link.send(request) => answer,
        };
        match answer {
            Ok(response) => {
                let refusal = own_refusal(&response, self.client.target.role(), peer.entry.server_id());
                if refusal.is_none() {
                    tape.forget();
                }
                let broken = self.broken(view, peer);
                let response = response.map(|body| Download::wrap(body, running, end, broken));
                let Some(refusal) = refusal else { return Ok(Sent::Answered(response)) };
                // The driver learns how the peer stands.
                if let Some(says) = Says::in_refusal(&refusal) {
                    peer.shared.refused(peer.entry.server_id(), says, at);
                }
                Ok(Sent::Refused(Refused { refusal, response, peer: Arc::clone(&peer.shared), at }))
            }
            Err(SendFailure::NotSent) => Ok(Sent::Returned(self.link_lost(view, peer, "the link takes no more calls"))),
            Err(SendFailure::NotTaken(error)) => Ok(Sent::Returned(self.link_lost(view, peer, &chain(&error)))),
            Err(SendFailure::Reset(error) | SendFailure::Broken(error)) => {
                // The link of a peer that goes may break a moment before its cut is seen: the cut says more.
                let status = poll_now(&mut end);
                Err(status.unwrap_or_else(|| self.broken(view, peer)(error)))
            }
        }
    }

    /// The request as it goes to this peer: whom it means, and how long it has left.
    fn address(&self, head: &request::Parts, body: Body, peer: &PeerView) -> Request<Body> {
        let mut request = Request::new(body);
        request.method_mut().clone_from(&head.method);
        request.uri_mut().clone_from(&head.uri);
        request.headers_mut().clone_from(&head.headers);
        let headers = request.headers_mut();
        headers.remove(wire::metadata::WAIT_MS);
        peer.shared.addressee.write(headers);
        if let Some(deadline) = self.deadline {
            wire::set_timeout(headers, deadline.saturating_duration_since(Instant::now()));
        }
        headers.entry(USER_AGENT).or_insert(AGENT);
        request
    }

    /// What ends this call while it runs at this peer.
    fn end(self: &Arc<Self>, peer: &Arc<PeerView>) -> End {
        let (call, peer) = (Arc::clone(self), Arc::clone(peer));
        Box::pin(async move {
            tokio::select! {
                biased;
                status = call.stopped(Executed::Unknown) => status,
                () = peer.shared.cut.cancelled() => {
                    let refusal = || cut_refusal(&call.client, &call.declared.followed.view(), &peer);
                    let make = || refusal().maybe_executed().into_status();
                    peer.shared.cut_status.get(&call.client.target, make)
                }
            }
        })
    }

    /// What ends this call wherever it is: a stop, or its deadline.
    pub(super) async fn stopped(&self, executed: Executed) -> Status {
        tokio::select! {
            biased;
            () = self.declared.ended.cancelled() => self.refuse_stopped(executed),
            () = self.client.stopped.cancelled() => self.refuse_stopped(executed),
            () = until(self.deadline) => self.too_late(),
        }
    }

    /// The same, where it has ended the call already.
    pub(super) fn stopped_before(&self, executed: Executed) -> Option<Status> {
        if self.declared.ended.is_cancelled() || self.client.stopped.is_cancelled() {
            return Some(self.refuse_stopped(executed));
        }
        self.deadline.is_some_and(|deadline| deadline <= Instant::now()).then(|| self.too_late())
    }

    fn refuse_stopped(&self, executed: Executed) -> Status {
        let (reason, message) = if self.client.manager.is_stopped() {
            (Reason::HostStopping, "the host is stopping")
        } else if self.declared.ended.is_cancelled() {
            (Reason::DependencyRemoved, "the dependency has been removed")
        } else {
            (Reason::ClientStopped, "the client has been stopped")
        };
        Refusal { executed, ..self.client.about().refuse(reason, message) }.into_status()
    }

    fn too_late(&self) -> Status {
        let took = humantime::format_duration(self.deadline.unwrap_or(self.started).duration_since(self.started));
        Status::deadline_exceeded(format!("the call to {} did not end within {took}", self.client.target))
    }

    /// What an error of the link is for the caller: the end of the link, or of this call alone.
    fn broken(
        self: &Arc<Self>,
        view: &Arc<RoleView>,
        peer: &Arc<PeerView>,
    ) -> impl Fn(LinkError) -> Status + Send + Unpin + use<> {
        let (call, view, peer) = (Arc::clone(self), Arc::clone(view), Arc::clone(peer));
        move |error| match SendFailure::of(error) {
            SendFailure::Reset(error) => error.into(),
            SendFailure::Broken(error) => {
                // The links of a peer that goes end a moment before its calls are told.
                let now = call.declared.followed.view();
                if now.peers.get(&peer.entry.server_id()).is_none_or(|now| !Arc::ptr_eq(&now.shared, &peer.shared)) {
                    return cut_refusal(&call.client, &now, &peer).maybe_executed().into_status();
                }
                let refusal = call.client.about().refuse_for(Reason::LinkLost, &view, &peer).maybe_executed();
                refusal.with(key::LAST_ERROR, bounded(&chain(&error))).into_status()
            }
            SendFailure::NotTaken(error) => {
                let refusal = call.client.about().refuse_for(Reason::LinkLost, &view, &peer);
                refusal.with(key::LAST_ERROR, bounded(&chain(&error))).into_status()
            }
            SendFailure::NotSent => Status::internal("an error of a link holds no request"),
        }
    }

    fn link_lost(&self, view: &RoleView, peer: &PeerView, error: &str) -> Refusal {
        self.client.about().refuse_for(Reason::LinkLost, view, peer).with(key::LAST_ERROR, bounded(error))
    }
}

/// The refusal of a call to a peer that has gone meanwhile.
fn cut_refusal(client: &Client, now: &RoleView, peer: &PeerView) -> Refusal {
    let gone = now.gone.get(&peer.entry.server_id());
    let departure = gone.map_or(Departure::Deleted, |gone| gone.departure);
    let since = gone.map_or_else(Instant::now, |gone| gone.since);
    let state = PeerState { session: Session::Gone(departure), link: LinkState::Closed, since };
    let peer = PeerView { state, ..peer.clone() };
    client.about().refuse_for(departure.reason(), now, &peer)
}

/// The status, where the call has ended already. The waker is of no use: whoever asks goes on by itself.
fn poll_now(end: &mut End) -> Option<Status> {
    match end.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(status) => Some(status),
        Poll::Pending => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

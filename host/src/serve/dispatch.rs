//! The way of a call from the listener to a component: who is meant, how does it stand, then across the border.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use plugin_api::identity::{Role, ServerId};
use plugin_api::refusal::{Reason, Refusal, key};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::cut::Cut;
use super::served::{Member, Served, Table};
use crate::lifecycle::State;
use crate::plugin::CallEntry;
use crate::wire::Addressee;

/// Who this host is, for the check of each call.
#[derive(Clone, Debug)]
pub struct Own {
    /// The cluster's name.
    pub cluster: String,
    /// The host's id.
    pub server_id: ServerId,
    /// Made up anew by each process.
    pub boot_id: String,
}

/// Routes calls by the name of their gRPC service. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch {
    own: Arc<Own>,
    served: Served,
}

impl Dispatch {
    /// Routes to these components.
    pub fn new(own: Arc<Own>, served: Served) -> Self {
        Self { own, served }
    }

    /// Answers a call.
    ///
    /// # Cancel safety
    ///
    /// The call is cancelled with it, in the component too.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        let table = self.served.table();
        let service = service_of(request.uri().path());
        if service.starts_with("grpc.reflection.") {
            return match table.reflection.clone() {
                Some(mut routes) => {
                    let Ok(response) = routes.call(request).await;
                    response
                }
                None => Status::unavailable("no component has started yet: there is nothing to reflect").into_http(),
            };
        }
        match self.choose(&table, service, &request) {
            Ok((generation, cut)) => answer(generation, cut, request).await,
            Err(status) => (*status).into_http(),
        }
    }

    /// Who answers, or why nobody does.
    fn choose(
        &self,
        table: &Table,
        service: &str,
        request: &Request<Body>,
    ) -> Result<(crate::plugin::Generation, Cut), Box<Status>> {
        let meant = Addressee::read(request.headers())
            .map_err(|source| Box::new(Status::invalid_argument(source.to_string())))?;
        self.check_identity(table, &meant).map_err(boxed)?;
        let Some((role, member)) = find(table, service, meant.role.as_ref()) else {
            return Err(Box::new(self.unknown_service(table, service)));
        };
        self.check_state(role, member).map_err(boxed)?;
        match &member.serving {
            Some(serving) if serving.services.iter().any(|known| known == service) => {
                Ok((serving.generation.clone(), serving.cut.clone()))
            }
            _ => Err(Box::new(self.unknown_service(table, service))),
        }
    }

    fn refuse(&self, reason: Reason, role: &Role, message: String) -> Refusal {
        let id = self.own.server_id;
        Refusal::new(reason, message)
            .with(key::ROLE, role)
            .with(key::SERVER_ID, id)
            .with(key::TARGET, format_args!("{role}-{id}"))
            .with(key::REFUSED_BY, format_args!("{role}-{id}"))
    }

    /// Each part that the call names must be this host's.
    fn check_identity(&self, table: &Table, meant: &Addressee) -> Result<(), Refusal> {
        let own = &self.own;
        let wrong = if meant.cluster.as_ref().is_some_and(|cluster| *cluster != own.cluster) {
            "cluster"
        } else if meant.server_id.is_some_and(|id| id != own.server_id) {
            "server id"
        } else if meant.role.as_ref().is_some_and(|role| !table.members.contains_key(role)) {
            "role"
        } else {
            return Ok(());
        };
        let roles: Vec<&str> = table.members.keys().map(Role::as_str).collect();
        let unnamed = || "-".to_owned();
        let message = format!(
            "another {wrong} was meant: cluster {}, server id {}, role {}; here is cluster {}, server id {}, roles {}",
            meant.cluster.clone().unwrap_or_else(unnamed),
            meant.server_id.map_or_else(unnamed, |id| id.to_string()),
            meant.role.as_ref().map_or_else(unnamed, Role::to_string),
            own.cluster,
            own.server_id,
            roles.join(", "),
        );
        let target = [meant.role.as_ref().map(Role::to_string), meant.server_id.map(|id| id.to_string())];
        let target: Vec<String> = target.into_iter().flatten().collect();
        Err(Refusal::new(Reason::IdentityMismatch, message)
            .with(key::TARGET, target.join("-"))
            .with(key::REFUSED_BY, format_args!("{}-{}", roles.join("+"), own.server_id))
            .with(key::SERVER_ID, own.server_id))
    }

    /// A component serves in Healthy, and in Stopping until its drain begins.
    fn check_state(&self, role: &Role, member: &Member) -> Result<(), Refusal> {
        let status = member.status.borrow();
        let code = status.state.code();
        let (reason, message) = match &status.state {
            State::Healthy | State::Stopping { draining: false } => return Ok(()),
            State::Stopping { draining: true } => (Reason::SessionStopping, format!("{role} is stopping")),
            State::StandBy => (Reason::Standby, format!("{role} is in standby")),
            State::Initializing { step } => {
                (Reason::NotHealthy, format!("{role} is {code}, in step {} of 5 ({})", step.number(), step.name()))
            }
            State::Abnormal { cause, next_try: None } => {
                (Reason::Quarantined, format!("{role} failed too often and is held in quarantine; last: {cause}"))
            }
            State::Abnormal { cause, .. } => (Reason::NotHealthy, format!("{role} is {code}: {cause}")),
        };
        let since = status.since.elapsed().as_millis();
        Err(self.refuse(reason, role, message).with(key::STATE_CODE, code).with(key::SINCE_MS, since))
    }

    fn unknown_service(&self, table: &Table, service: &str) -> Status {
        // A component that has not started yet has not said what it serves: this may be its own.
        let starting = table.members.iter().find(|(_, member)| member.serving.is_none());
        match starting {
            Some((role, member)) => match self.check_state(role, member) {
                Err(refusal) => refusal.into_status(),
                Ok(()) => Status::unavailable(format!("{role} is just starting")),
            },
            None => {
                let known: Vec<&str> = table.services.keys().map(String::as_str).collect();
                Status::unimplemented(format!(
                    "no component of this host serves '{service}'; served: {}",
                    known.join(", ")
                ))
            }
        }
    }
}

fn boxed(refusal: Refusal) -> Box<Status> {
    Box::new(refusal.into_status())
}

fn service_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// The component that serves this, or else the one that the call names.
fn find<'a>(table: &'a Table, service: &str, meant: Option<&'a Role>) -> Option<(&'a Role, &'a Member)> {
    let role = table.services.get(service).or(meant)?;
    table.members.get_key_value(role)
}

async fn answer(generation: crate::plugin::Generation, cut: Cut, request: Request<Body>) -> Response<Body> {
    tokio::select! {
        biased;
        (response, entry) = generation.call(request) => {
            response.map(|body| Body::new(Counted { body, done: Box::pin(cut.done()), cut, ended: false, _entry: entry }))
        }
        () = cut.done() => cut.status().into_http(),
    }
}

/// An answer's body: it is counted until it ends, and can be cut.
struct Counted {
    body: Body,
    cut: Cut,
    done: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    _entry: CallEntry,
}

impl Counted {
    /// Ends with the status in trailers: an error of a body would reset the stream, and its caller would not be told why.
    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        let written = status.add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // First: a stream that always has more to say would never be cut.
        if self.done.as_mut().poll(context).is_ready() {
            let status = self.cut.status();
            return self.end_with(&status);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Err(status)) => self.end_with(&status),
            frame => {
                self.ended = frame.is_none();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

impl Service<Request<axum::body::Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        let dispatch = self.clone();
        Box::pin(async move { Ok(Self::call(&dispatch, request.map(Body::new)).await) })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::plugin::Ledger;

    fn answer(body: Body, cut: &Cut) -> Counted {
        Counted { body, done: Box::pin(cut.done()), cut: cut.clone(), ended: false, _entry: Ledger::new().call() }
    }

    /// The status in the trailers that the next frame is; an error here would be a reset stream, which tells nothing.
    async fn status_in_trailers(answer: &mut Counted) -> Status {
        let frame = answer.frame().await.expect("a frame").expect("no error of the body");
        let trailers = frame.into_trailers().expect("trailers");
        assert!(answer.frame().await.is_none(), "said once");
        Status::from_header_map(&trailers).expect("a status")
    }

    #[tokio::test]
    async fn a_stream_that_always_has_more_is_cut_with_the_reason() {
        let more = || Ok::<_, Status>(Frame::data(Bytes::from_static(b"more")));
        let cut = Cut::default();
        let mut answer = answer(Body::new(StreamBody::new(futures_util::stream::repeat_with(more))), &cut);
        assert!(matches!(answer.frame().await, Some(Ok(_))));
        cut.cut(Reason::SessionStopping, "enough");
        let status = status_in_trailers(&mut answer).await;
        let refusal = Refusal::from_status(&status).expect("a refusal");
        assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::SessionStopping, "enough"));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_says_why() {
        let broken = futures_util::stream::iter([Err::<Frame<Bytes>, _>(Status::internal("the body panicked"))]);
        let mut answer = answer(Body::new(StreamBody::new(broken)), &Cut::default());
        let status = status_in_trailers(&mut answer).await;
        assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "the body panicked"));
    }
}

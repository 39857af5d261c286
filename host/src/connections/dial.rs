//! One dial: from the address to the proof that the right peer answers, under one deadline.
//!
//! TCP, TLS, HTTP/2 and the answer to `GetIdentity` must all come in time: a peer that accepts and stays silent is not
//! connected. When to dial, and what its outcome means, is the state machine's business.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use plugin_api::error::chain;
use plugin_api::identity::{Role, ServerId};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::{Code, Status};

use super::ConnectionsConfig;
use super::driver::Surroundings;
use super::frames::Traffic;
use super::link::{Link, LinkEnd, SendFailure};
use super::local::LocalCalls;
use super::peer::Standing;
use super::pool;
use super::refusal::bounded;
use crate::wire::v1::host_client::HostClient;
use crate::wire::v1::{GetIdentityRequest, GetIdentityResponse};

/// A dial that has been silent for so long costs nothing but its socket: it makes room for the next one, so that peers
/// that do not answer cannot keep others from being dialled.
const SHARE_OF_A_START: Duration = Duration::from_millis(250);

/// Who is to answer.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The cluster.
    pub cluster: String,
    /// The role.
    pub role: Role,
    /// The host process.
    pub server_id: ServerId,
    /// It must say who it is: a foreign server will not do.
    pub identity_required: bool,
}

/// A link that was opened, with its end.
pub struct Opened {
    /// To send on.
    pub link: Arc<Link>,
    /// To wait for its end.
    pub end: LinkEnd,
    /// Closes the link, unless it is disarmed: a dial that is cancelled leaves nothing behind.
    pub abandoned: DropGuard,
}

/// How a dial came out.
pub enum Dialled {
    /// The right one.
    Answered {
        /// The link.
        opened: Opened,
        /// What it says of its role; a foreign server cannot say who it is.
        standing: Option<Standing>,
    },
    /// Somebody else.
    Mismatch(String),
    /// No TLS, or not with this one: another try would end alike.
    TlsFailed(String),
    /// Nobody, in time.
    Failed(String),
}

/// Where a peer is.
pub enum Place {
    /// `host:port`.
    Address(String),
    /// In the very host that calls.
    Here(LocalCalls),
}

/// Goes to a place and asks who is there.
pub async fn dial(
    place: Place,
    expected: Expected,
    close: CancellationToken,
    limit: Duration,
    surroundings: Surroundings,
    traffic: Arc<Traffic>,
) -> Dialled {
    // The semaphore is never closed; without a permit the dial would only be one more than was asked for.
    let mut permit = match place {
        Place::Address(_) => surroundings.starts.clone().acquire_owned().await.ok(),
        Place::Here(_) => None,
    };
    let attempt = async {
        let abandoned = close.clone().drop_guard();
        let (link, end) = match place {
            Place::Here(calls) => Link::local(calls, close),
            Place::Address(address) => {
                let Surroundings { config, security, .. } = &surroundings;
                match Link::open(&address, &expected.role, close, config, security, traffic).await {
                    Ok(opened) => opened,
                    Err(error) if error.is_of_tls() => return Dialled::TlsFailed(chain(&error)),
                    Err(error) => return Dialled::Failed(chain(&error)),
                }
            }
        };
        prove(Opened { link: Arc::new(link), end, abandoned }, &expected, Duration::ZERO).await
    };
    let attempt = tokio::time::timeout(limit, attempt);
    tokio::pin!(attempt);
    let outcome = tokio::select! {
        outcome = &mut attempt => outcome,
        () = tokio::time::sleep(SHARE_OF_A_START) => {
            permit.take();
            attempt.await
        }
    };
    outcome.unwrap_or_else(|_| Dialled::Failed(format!("it did not prove itself within {limit:?}")))
}

/// How a link that is ready comes by further connections: each is proved as the first was.
pub fn further(
    address: String,
    expected: Expected,
    close: CancellationToken,
    surroundings: Surroundings,
    traffic: Arc<Traffic>,
) -> pool::Dial {
    Box::new(move || {
        let (place, limit) = (Place::Address(address.clone()), surroundings.config.connect_timeout);
        let close = close.child_token();
        let attempt = dial(place, expected.clone(), close, limit, surroundings.clone(), Arc::clone(&traffic));
        Box::pin(async move {
            match attempt.await {
                // How its role stands is the link's business: who it is was proved.
                Dialled::Answered { opened, .. } => {
                    let parts = opened.link.first().zip(opened.end.into_first());
                    opened.abandoned.disarm();
                    parts.ok_or_else(|| "it ended at once".to_owned())
                }
                Dialled::Mismatch(error) | Dialled::TlsFailed(error) | Dialled::Failed(error) => Err(error),
            }
        })
    })
}

/// Asks again over a link that is there; the peer may hold its answer until its role is to be called.
pub async fn ask_again(opened: Opened, expected: Expected, delay: Duration, config: Arc<ConnectionsConfig>) -> Dialled {
    tokio::time::sleep(delay).await;
    let hold = config.connect_timeout;
    // The peer holds its answer for as long as one dial may take; the answer itself has the same time once more.
    let limit = hold * 2;
    tokio::time::timeout(limit, prove(opened, &expected, hold))
        .await
        .unwrap_or_else(|_| Dialled::Failed(format!("it did not say again who it is within {limit:?}")))
}

/// Asks over a link that is proved whether the peer is still there.
///
/// # Errors
///
/// Why it is not, for people.
pub async fn ask_whether_there(link: Arc<Link>, expected: Expected, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, ask(link, &expected, Duration::ZERO)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Unproved::Mismatch(error) | Unproved::Failed(error))) => Err(error),
        Err(_) => Err(format!("it did not say who it is within {limit:?}")),
    }
}

/// Asks over a link that is proved how the peer stands, which says that it does not serve; it may hold its answer until it
/// does. Not before `earliest`: one that does not hold it, or says this now and that then, is not pestered.
///
/// # Errors
///
/// Who answered instead, or nobody.
pub async fn ask_whether_serving(
    link: Arc<Link>,
    expected: Expected,
    earliest: Instant,
    config: Arc<ConnectionsConfig>,
) -> Result<Option<Standing>, Unproved> {
    tokio::time::sleep_until(earliest.into()).await;
    let hold = config.connect_timeout;
    let limit = hold * 2;
    tokio::time::timeout(limit, ask(link, &expected, hold))
        .await
        .unwrap_or_else(|_| Err(Unproved::Failed(format!("it did not say again who it is within {limit:?}"))))
}

/// What was asked over a link is no proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// Somebody else answered.
    Mismatch(String),
    /// Nobody did, in time.
    Failed(String),
}

async fn ask(link: Arc<Link>, expected: &Expected, hold: Duration) -> Result<Option<Standing>, Unproved> {
    let wait_ms = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
    let request = GetIdentityRequest { wait_ms, role: expected.role.to_string() };
    match HostClient::new(LinkService(link)).get_identity(request).await {
        Ok(answer) => standing(expected, answer.get_ref()).map(Some).map_err(Unproved::Mismatch),
        Err(status) if status.code() == Code::Unimplemented && expected.identity_required => {
            let text =
                "a foreign server answers, which cannot say who it is, and connections.require_identity wants it to";
            Err(Unproved::Mismatch(text.to_owned()))
        }
        // A foreign server that cannot say who it is has answered all the same.
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => {
            let said = bounded(status.message());
            Err(Unproved::Failed(format!("it does not say who it is: {:?}: {said}", status.code())))
        }
    }
}

async fn prove(mut opened: Opened, expected: &Expected, hold: Duration) -> Dialled {
    let answer = tokio::select! {
        answer = ask(Arc::clone(&opened.link), expected, hold) => answer,
        ended = opened.end.ended() => {
            return failed(&opened, format!("the link ended before its proof: {ended}"));
        }
    };
    match answer {
        Ok(standing) => Dialled::Answered { opened, standing },
        Err(Unproved::Mismatch(error)) => Dialled::Mismatch(error),
        Err(Unproved::Failed(error)) => failed(&opened, error),
    }
}

/// A link that has ended before its proof: a certificate of ours is refused only after the handshake.
fn failed(opened: &Opened, error: String) -> Dialled {
    match opened.end.fault() {
        Some(fault) => Dialled::TlsFailed(format!("no TLS connection ([tls]): {fault}")),
        None => Dialled::Failed(error),
    }
}

/// What the answer says of the role that was expected there, or who answered instead.
fn standing(expected: &Expected, answer: &GetIdentityResponse) -> Result<Standing, String> {
    let Expected { cluster, role, server_id, .. } = expected;
    if answer.cluster != *cluster {
        return Err(format!("the cluster '{}' answers, '{cluster}' was meant", bounded(&answer.cluster)));
    }
    if answer.server_id != server_id.0 {
        return Err(format!("server {} answers, {server_id} was meant", answer.server_id));
    }
    let played = answer.roles.iter().find(|played| played.role == role.as_str());
    played
        .map(|played| Standing { code: played.state_code().into(), fenced: played.fenced })
        .ok_or_else(|| format!("server {server_id} answers, but does not play the role {role}"))
}

/// The tower service over a bare link, for the host's own questions.
#[derive(Clone)]
struct LinkService(Arc<Link>);

impl tower::Service<Request<Body>> for LinkService {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.0.send(request);
        Box::pin(async move {
            match sent.await {
                Ok(response) => Ok(response.map(Body::new)),
                Err(SendFailure::NotSent) => Err(Status::unavailable("the link takes no calls")),
                Err(SendFailure::Broken(error) | SendFailure::NotTaken(error) | SendFailure::Reset(error)) => {
                    Err(Status::unavailable(chain(&error)))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::state::StateCode;

    use super::*;
    use crate::wire::v1;

    fn answer(cluster: &str, server_id: i64, role: &str, code: v1::StateCode) -> GetIdentityResponse {
        GetIdentityResponse {
            cluster: cluster.to_owned(),
            server_id,
            boot_id: String::new(),
            roles: vec![v1::RoleState { role: role.to_owned(), state_code: code.into(), ..Default::default() }],
        }
    }

    #[test]
    fn only_the_one_who_was_meant_is_proof() {
        let role = Role::new("querynode").expect("a role");
        let expected = Expected { cluster: "blue".to_owned(), role, server_id: ServerId(7), identity_required: false };
        let healthy = v1::StateCode::Healthy;
        let own = standing(&expected, &answer("blue", 7, "querynode", healthy));
        assert_eq!(own, Ok(Standing { code: StateCode::Healthy, fenced: false }));
        for (cluster, server_id, role) in [("red", 7, "querynode"), ("blue", 8, "querynode"), ("blue", 7, "rootcoord")]
        {
            assert!(
                standing(&expected, &answer(cluster, server_id, role, healthy)).is_err(),
                "{cluster} {server_id} {role}"
            );
        }
    }
}

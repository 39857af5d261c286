//! The owner of one component: brings it up, waits for its failure or the stop, clears away, and tries again.
//!
//! The five steps themselves are in `startup`; when to try again is in [`policy`]; the way back is in `shutdown`.

pub mod policy;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::Deactivation;
use plugin_api::descriptor::Descriptor;
use plugin_api::error::Error;
use plugin_api::identity::Role;
use plugin_api::refusal::Reason;
use plugin_api::state::StateCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::ComponentConfig;
use crate::lifecycle::{Lifecycle, State, Step};
use crate::metadata::MetadataStore;
use crate::plugin::{Generation, Library};
use crate::serve::{Cut, Served};
use crate::session::{Holder, Session, SessionStatus};
use crate::startup::{Parts, StepFailed, five_steps};
use policy::{Decision, Policy};

/// How long a quarantined component may take to give up its session.
const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// One component of this host, with what it is made of. Lives as long as the host.
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its section of the configuration.
    pub config: ComponentConfig,
    /// Its code.
    pub library: Library,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// What others are shown of it.
    shown: Mutex<Shown>,
}

/// What others are shown of a component.
#[derive(Clone, Default)]
pub struct Shown {
    /// What it says of itself; `None` before it was made.
    pub descriptor: Option<Descriptor>,
    /// Its registration, as long as it is there. Not owned.
    pub session: Weak<Session>,
}

impl Member {
    /// A component that has not been started yet.
    pub fn new(role: Role, config: ComponentConfig, library: Library, lifecycle: Lifecycle) -> Self {
        Self { role, config, library, lifecycle, shown: Mutex::default() }
    }

    /// What others are shown of it.
    pub fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows what the component says of itself.
    pub fn show_descriptor(&self, descriptor: Descriptor) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).descriptor = Some(descriptor);
    }

    /// Shows its registration.
    pub fn show_session(&self, session: &Arc<Session>) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).session = Arc::downgrade(session);
    }
}

/// A component on its way up or alive: what has to be undone when it ends. Owned by one task at a time.
#[derive(Default)]
pub struct Alive {
    /// The component, once it is made.
    pub generation: Option<Generation>,
    /// `activate` was called, and `deactivate` was not.
    pub activated: bool,
    /// Tells the component of its peers, one event at a time.
    pub notices: Option<AbortOnDropHandle<()>>,
    /// Failures in its background come in here.
    pub failures: Failures,
    /// The role's metadata, written under the session.
    pub metadata: Option<MetadataStore>,
    /// Cuts the calls that still run.
    pub cut: Cut,
    /// Its registration. It outlives a restart.
    pub session: Option<Arc<Session>>,
}

/// Both ends of the failures of one component's background. Unbounded: each task and the notices send one at most.
pub struct Failures {
    sender: mpsc::UnboundedSender<LifeError>,
    receiver: mpsc::UnboundedReceiver<LifeError>,
}

impl Default for Failures {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Failures {
    /// Where they are sent.
    pub fn sender(&self) -> mpsc::UnboundedSender<LifeError> {
        self.sender.clone()
    }

    async fn next(&mut self) -> LifeError {
        match self.receiver.recv().await {
            Some(failure) => failure,
            // `self` has a sender.
            None => std::future::pending().await,
        }
    }
}

/// Runs a component until `stop`; gives back what is to be ended by `shutdown`.
///
/// # Cancel safety
///
/// Not to be cancelled but by `stop`: the component would be dropped without its last methods.
pub async fn run(member: Arc<Member>, parts: Arc<Parts>, stop: CancellationToken) -> Alive {
    let mut alive = Alive::default();
    let mut policy = Policy::new(parts.config.supervision.clone());
    loop {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => return alive,
            ended = one_life(&member, &parts, &mut alive) => ended,
        };
        let decision = match &ended {
            Ended::Failed(_) => policy.failed(Instant::now()),
            // No fault of its own: it waits for the key in step 4, as at its first start.
            Ended::Replaced(_) => Decision::Restart(Duration::ZERO),
        };
        become_abnormal(&member, &ended.cause(), decision);
        clear_away(&member, &parts.served, &mut alive, ended.deactivation()).await;
        match decision {
            Decision::Restart(after) => {
                tokio::select! {
                    () = stop.cancelled() => return alive,
                    () = tokio::time::sleep(after) => {}
                }
            }
            Decision::Quarantine => {
                // Given up, so that a standby can take over.
                if let Some(session) = alive.session.take() {
                    session.revoke(REVOKE_LIMIT).await;
                }
                stop.cancelled().await;
                return alive;
            }
        }
        if member.lifecycle.transition(State::Initializing { step: Step::Initializing }).is_err() {
            // Only a stop leaves no way back to the first step.
            return alive;
        }
    }
}

/// Why a component's life ended before the stop.
enum Ended {
    Failed(StepFailed),
    /// Another process holds its session.
    Replaced(Holder),
}

impl Ended {
    fn cause(&self) -> String {
        match self {
            Self::Failed(failed) => plugin_api::error::chain(failed),
            Self::Replaced(holder) => format!("its session is held by {holder}"),
        }
    }

    fn deactivation(&self) -> Deactivation {
        match self {
            Self::Failed(_) => Deactivation::Stop,
            Self::Replaced(_) => Deactivation::Replaced,
        }
    }
}

/// From the first step to an end.
async fn one_life(member: &Member, parts: &Parts, alive: &mut Alive) -> Ended {
    if let Err(failed) = five_steps(member, parts, alive).await {
        return Ended::Failed(failed);
    }
    let session = alive.session.clone();
    tokio::select! {
        failure = alive.failures.next() => Ended::Failed(StepFailed::later(failure)),
        holder = replaced(session) => Ended::Replaced(holder),
    }
}

/// Returns when another process holds the session.
async fn replaced(session: Option<Arc<Session>>) -> Holder {
    let Some(session) = session else { return std::future::pending().await };
    let mut status = session.status();
    let held_by_other = |status: &SessionStatus| matches!(status, SessionStatus::HeldByOther { .. });
    if let Ok(SessionStatus::HeldByOther { holder, .. }) = status.wait_for(held_by_other).await.as_deref() {
        return holder.clone();
    }
    // The session's keeper has gone, which it does on the way out only.
    std::future::pending().await
}

fn become_abnormal(member: &Member, cause: &str, decision: Decision) {
    let role = &member.role;
    let next_try = match decision {
        Decision::Restart(after) => {
            let again_in = humantime::format_duration(after);
            tracing::error!(%role, cause, %again_in, "the component failed and is started again");
            Some(Instant::now() + after)
        }
        Decision::Quarantine => {
            tracing::error!(%role, cause, "the component failed too often: it is held in quarantine");
            None
        }
    };
    if let Err(forbidden) = member.lifecycle.transition(State::Abnormal { cause: cause.to_owned(), next_try }) {
        tracing::debug!(%role, %forbidden, "the component failed on its way out");
    }
}

/// Ends what is alive of a component but its session; each of its methods has its own limit.
///
/// # Cancel safety
///
/// What is left is dropped, without the component's last methods.
pub async fn clear_away(member: &Member, served: &Served, alive: &mut Alive, reason: Deactivation) {
    served.end(&member.role);
    alive.notices = None;
    if let Some(generation) = &alive.generation {
        let (config, component) = (&member.config, generation.component());
        if std::mem::take(&mut alive.activated) {
            let done = within(config.deactivate_timeout, "deactivate", component.deactivate(reason)).await;
            log_failure(&member.role, done);
        }
        // A host that stops has let them end before, and has cut what was left.
        let stopping = member.lifecycle.status().state.code() == StateCode::Stopping;
        if !stopping && tokio::time::timeout(config.stop_timeout, generation.no_calls()).await.is_err() {
            alive.cut.cut(Reason::NotHealthy, "the component has failed, and ends before this call does");
        }
        let done = within(config.stop_timeout, "stop", component.stop()).await;
        log_failure(&member.role, done);
        if tokio::time::timeout(config.stop_timeout, generation.end_tasks()).await.is_err() {
            let left = generation.ledger().tasks;
            tracing::warn!(role = %member.role, ?left, "tasks of the component block and could not be ended");
        }
    }
    alive.cut = Cut::default();
    alive.generation = None;
    // Of the component that has gone; the next one's are its own.
    alive.failures = Failures::default();
}

/// A method of a component's life, within its limit.
///
/// # Errors
///
/// The method's own, or that it took too long.
pub async fn within<T>(
    limit: Duration,
    method: &'static str,
    call: impl Future<Output = Result<T, LifeError>>,
) -> Result<T, LifeError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        let text = format!("took more than {limit} ([component] {method}_timeout)");
        Err(LifeError::Failed(Error::new(tonic::Code::DeadlineExceeded, text)))
    })
}

fn log_failure(role: &Role, done: Result<(), LifeError>) {
    if let Err(error) = done {
        tracing::warn!(%role, %error, "the component did not end well");
    }
}

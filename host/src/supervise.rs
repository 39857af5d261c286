//! The owner of one component: brings it up, tells it how its session stands, waits for its failure or the stop, clears away,
//! and tries again.
//!
//! The five steps themselves are in `startup`; what it is told of its session is decided in [`tenure`]; when to try again, in
//! [`policy`]; the way back is in `shutdown`.

mod alive;
pub mod commands;
mod down;
pub mod driver;
pub mod generations;
mod giving_up;
mod life;
mod member;
mod notices;
pub mod policy;
pub mod swap;
pub mod tenure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::{Deactivation, Resume};
use plugin_api::descriptor::Kind;
use plugin_api::error::Error;
use plugin_api::identity::Role;
use plugin_api::refusal::Reason;
use plugin_api::state::StateCode;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use alive::Alive;
pub use life::{Failures, Life};
pub use member::{Member, Shown};

use crate::lifecycle::{State, Step};
use crate::plugin::Generation;
use crate::serve::Served;
use crate::startup::{Parts, StepFailed, five_steps};
use down::Waited;
use giving_up::{GivingUp, REVOKE_LIMIT};
use policy::{Decision, Policy};
use swap::probation;

/// Runs a component until `stop`; gives back what is to be ended by `shutdown`.
///
/// # Cancel safety
///
/// Not to be cancelled but by `stop`: the component would be dropped without its last methods.
pub async fn run(member: Arc<Member>, parts: Arc<Parts>, stop: CancellationToken) -> Alive {
    let mut alive = Alive { commands: member.commands(), ..Alive::default() };
    let mut policy = Policy::new(parts.config.supervision.clone());
    loop {
        let ended = one_life(&member, &parts, &mut alive, &stop).await;
        // What was on probation stays, however it ended: the former generation has no part in it.
        probation::commit(&member, &parts, &mut alive, &probation::Over::LifeEnded);
        let decision = match &ended {
            Ended::Stopped => return alive,
            Ended::Deleted => {
                parts.ask_for_stop(deleted(&alive));
                stop.cancelled().await;
                return alive;
            }
            // Another try would fail in the same way: it is for an operator.
            Ended::Failed(failed) if failed.is_final() => Decision::Quarantine,
            Ended::Failed(_) => policy.failed(Instant::now()),
            // No fault of its own. A node's key is nobody else's for long: it waits for it, as at its first start.
            Ended::Replaced { .. } if is_node(&member) => Decision::Restart(Duration::ZERO),
            Ended::Replaced { .. } => Decision::Quarantine,
            Ended::Restarted(_) => Decision::Restart(Duration::ZERO),
        };
        become_abnormal(&member, &ended, decision);
        if let Decision::Restart(_) = decision
            && alive.giving_up.is_none()
        {
            let kept = parts.config.session.ttl;
            alive.giving_up = alive.session.clone().map(|session| GivingUp::after(kept, session, &parts.control));
        }
        clear_away(&member, &parts.served, &mut alive, ended.deactivation()).await;
        if decision == Decision::Quarantine {
            // So that a standby can take over.
            give_up_session(&mut alive, REVOKE_LIMIT).await;
            // It calls nobody any more.
            for dependency in member.shown().descriptor.map(|descriptor| descriptor.dependencies).unwrap_or_default() {
                parts.connections.remove_dependency(&member.role, &dependency.role).await;
            }
        }
        if let Ended::Restarted(answer) = ended {
            policy = Policy::new(parts.config.supervision.clone());
            // Whoever asked may have gone.
            let _ = answer.send(());
        } else {
            match down::wait(&member, &parts, &mut alive, decision, &stop).await {
                Waited::Stopped => return alive,
                Waited::Over => {}
                Waited::Asked => policy = Policy::new(parts.config.supervision.clone()),
            }
        }
        if member.lifecycle.transition(State::Initializing { step: Step::Initializing }).is_err() {
            // Only a stop leaves no way back to the first step.
            return alive;
        }
    }
}

/// Why a component's life ended.
pub enum Ended {
    /// A step, or a method of it, failed.
    Failed(StepFailed),
    /// Another process holds its session, and it is not to stand by.
    Replaced {
        /// Who, for people.
        holder: String,
    },
    /// Its session's key was deleted, and that is to stop the host. The component is as it was.
    Deleted,
    /// An operator wants it to begin anew. The component is as it was.
    Restarted(oneshot::Sender<()>),
    /// The host stops. The component is as it was.
    Stopped,
}

impl Ended {
    fn cause(&self, role: &Role) -> String {
        match self {
            Self::Failed(failed) => plugin_api::error::chain(failed),
            Self::Replaced { holder } => {
                format!(
                    "replaced: its session is held by {holder}, and it does not stand by (component.{role}.standby)"
                )
            }
            Self::Deleted => "its session's key was deleted".to_owned(),
            Self::Restarted(_) => "an operator has asked for a restart".to_owned(),
            Self::Stopped => "the host stops".to_owned(),
        }
    }

    fn deactivation(&self) -> Deactivation {
        match self {
            Self::Replaced { .. } => Deactivation::Replaced,
            Self::Failed(_) | Self::Deleted | Self::Restarted(_) | Self::Stopped => Deactivation::Stop,
        }
    }
}

/// From the first step to an end.
async fn one_life(member: &Member, parts: &Parts, alive: &mut Alive, stop: &CancellationToken) -> Ended {
    let started = tokio::select! {
        biased;
        () = stop.cancelled() => return Ended::Stopped,
        started = five_steps(member, parts, alive) => started,
    };
    down::told(member, alive, started.as_ref().err());
    match started {
        Ok(()) => driver::keep(member, parts, alive, stop).await,
        Err(failed) if failed.is_deleted() => Ended::Deleted,
        Err(failed) => Ended::Failed(failed),
    }
}

fn is_node(member: &Member) -> bool {
    member.shown().descriptor.is_some_and(|descriptor| descriptor.kind == Kind::Node)
}

fn deleted(alive: &Alive) -> String {
    let key = alive.session.as_ref().map(|session| session.view().key).unwrap_or_default();
    format!("somebody deleted the session key {key}, and session.on_deleted is \"stop\"")
}

/// Gives the registration up, within a limit.
///
/// # Cancel safety
///
/// A lease that was not revoked runs out by itself.
pub async fn give_up_session(alive: &mut Alive, limit: Duration) {
    if let Some(giving_up) = alive.giving_up.take() {
        giving_up.stop().await;
    }
    if let Some(session) = alive.session.take() {
        session.revoke(limit).await;
    }
}

fn become_abnormal(member: &Member, ended: &Ended, decision: Decision) {
    let (role, cause) = (&member.role, ended.cause(&member.role));
    let next_try = match decision {
        Decision::Restart(after) if matches!(ended, Ended::Restarted(_)) => {
            tracing::info!(%role, cause, "the component is started again");
            Some(Instant::now() + after)
        }
        Decision::Restart(after) => {
            let again_in = humantime::format_duration(after);
            tracing::error!(%role, cause, %again_in, "the component failed and is started again");
            Some(Instant::now() + after)
        }
        Decision::Quarantine => {
            tracing::error!(%role, cause, "the component is held in quarantine: it failed too often, or would fail for ever");
            None
        }
    };
    if let Err(forbidden) = member.lifecycle.transition(State::Abnormal { cause, next_try }) {
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
    alive.life.end_notices(member.config.deactivate_timeout).await;
    let activated = alive.tenure.take().is_some_and(|mut tenure| tenure.end());
    let life = &mut alive.life;
    if let Some(generation) = &life.generation {
        let config = &member.config;
        if activated {
            log_failure(&member.role, deactivate(generation, config.deactivate_timeout, reason).await);
        }
        life.withdraw_permit();
        // A host that stops has let them end before, and has cut what was left.
        let stopping = member.lifecycle.status().state.code() == StateCode::Stopping;
        if !stopping && tokio::time::timeout(config.stop_timeout, generation.no_calls()).await.is_err() {
            life.cut.cut(Reason::NotHealthy, "the component has failed, and ends before this call does");
        }
        end_generation(&member.role, generation, config.stop_timeout).await;
    }
    // What comes next is another life.
    alive.life = Life::default();
    let stopping = member.lifecycle.status().state.code() == StateCode::Stopping;
    if let Some(retiring) = alive.retiring.take_if(|_| stopping) {
        retiring.hurry.cancel();
        // Its own limits are shorter than that of the stop, which is there beside.
        let _ = retiring.task.await;
    }
}

/// The last method of a component, and the end of its tasks; each has this limit.
///
/// # Cancel safety
///
/// What is left is dropped with the component.
pub async fn end_generation(role: &Role, generation: &Generation, limit: Duration) {
    let done = within(generation, limit, "stop", |one| async move { one.component().stop().await }).await;
    log_failure(role, done);
    if tokio::time::timeout(limit, generation.end_tasks()).await.is_err() {
        let left = generation.ledger().tasks;
        tracing::warn!(%role, ?left, "tasks of the component block and could not be ended");
    }
}

/// The component's `activate`, within its limit.
///
/// # Errors
///
/// As [`within`].
pub async fn activate(generation: &Generation, limit: Duration, resume: Resume) -> Result<(), LifeError> {
    within(generation, limit, "activate", move |one| async move { one.component().activate(resume).await }).await
}

/// The component's `deactivate`, within its limit.
///
/// # Errors
///
/// As [`within`].
pub async fn deactivate(generation: &Generation, limit: Duration, reason: Deactivation) -> Result<(), LifeError> {
    let call = move |one: Generation| async move { one.component().deactivate(reason).await };
    within(generation, limit, "deactivate", call).await
}

/// A method of a component's life, within its limit. It runs in a task of its own: one that keeps its thread keeps neither the
/// limit from being noticed, nor what its caller looks at beside.
///
/// # Errors
///
/// The method's own, or that it took too long.
///
/// # Cancel safety
///
/// The method is dropped at its next point of waiting; the next one is called only then.
pub async fn within<T, F>(
    generation: &Generation,
    limit: Duration,
    method: &'static str,
    call: impl FnOnce(Generation) -> F + Send + 'static,
) -> Result<T, LifeError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, LifeError>> + Send,
{
    let done = tokio::time::timeout(limit, generation.in_turn(call)).await;
    done.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        let key = match method {
            "snapshot" | "restore" => "swap.hand_over_timeout".to_owned(),
            _ => format!("[component] {method}_timeout"),
        };
        let text = format!("took more than {limit} ({key})");
        Err(LifeError::Failed(Error::new(tonic::Code::DeadlineExceeded, text)))
    })
}

fn log_failure(role: &Role, done: Result<(), LifeError>) {
    if let Err(error) = done {
        tracing::warn!(%role, %error, "the component did not end well");
    }
}

//! Does what [`Tenure`] says: activates, deactivates and fences one component as its session comes and goes.
//!
//! Called by the owner of the component only, in step 4 of its start ([`first`]) and from its last step on ([`keep`]). Each
//! method of the component has its own limit, and one that fails turns the component Abnormal.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::{Deactivation, Resume};
use plugin_api::error::chain;
use plugin_api::identity::Role;
use plugin_api::peers::Registration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::commands::Command;
use super::swap::probation;
use super::tenure::{Action, Rules, Seen, Tenure};
use super::{Alive, Ended, Member, activate, alive, deactivate, notices};
use crate::lifecycle::{Forbidden, State, Step, StepReport};
use crate::plugin::Generation;
use crate::session::{BootTime, Holder, Session, SessionGuard, SessionStatus};
use crate::startup::{Parts, StepError, StepFailed};

/// How a component stands at the end of step 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was activated.
    Active,
    /// Another is active.
    StandBy {
        /// Who, for people.
        holder: String,
    },
}

/// A session, followed by the owner of its component.
pub struct Followed {
    session: Arc<Session>,
    status: watch::Receiver<SessionStatus>,
    guard: SessionGuard,
}

impl Followed {
    /// Follows it from now on.
    pub fn new(session: Arc<Session>) -> Self {
        Self { status: session.status(), guard: session.guard(), session }
    }

    /// How it is seen now.
    pub(super) fn seen(&mut self) -> Seen {
        let status = self.status.borrow_and_update();
        let who = |holder: &Holder| Holder { lease_left: None, ..holder.clone() }.to_string();
        match &*status {
            SessionStatus::Held(held) if BootTime::now() < held.deadline => {
                Seen::Active { registration: held.registration }
            }
            SessionStatus::Registering { .. } | SessionStatus::Held(_) | SessionStatus::Lost { .. } => Seen::Uncertain,
            SessionStatus::HeldByOther { holder, .. } => Seen::Other { holder: who(holder) },
            SessionStatus::StandBy(standby) => Seen::Other { holder: who(&standby.holder) },
            SessionStatus::Deleted { .. } => Seen::Deleted,
            SessionStatus::Revoked => Seen::Revoked,
        }
    }

    /// For the permit of whoever works under it.
    pub(super) fn guard(&self) -> SessionGuard {
        self.session.guard()
    }

    /// Returns when something else may be seen, the deadline's end among it.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            changed = self.status.changed() => if changed.is_err() {
                // The keeper has gone, with the host.
                std::future::pending::<()>().await;
            },
            _ = self.guard.certainty_changed() => {}
        }
    }
}

/// A component with all that its tenure needs.
pub(super) struct Held<'a> {
    pub(super) member: &'a Member,
    pub(super) parts: &'a Parts,
    pub(super) alive: &'a mut Alive,
    pub(super) generation: Generation,
    pub(super) followed: Followed,
}

/// Step 4: until the component is activated, or stands by. It takes as long as another has the key and the component is not to
/// stand by, or etcd does not answer.
///
/// # Errors
///
/// [`StepError`] where `activate` fails or the session was given up.
///
/// # Cancel safety
///
/// What was done is in `alive`.
pub async fn first(
    member: &Member,
    parts: &Parts,
    alive: &mut Alive,
    generation: &Generation,
    again: bool,
    mut followed: Followed,
) -> Result<Standing, StepError> {
    let rules = Rules {
        kind: generation.descriptor().kind,
        policy: member.config.lease_policy(generation.descriptor()),
        standby: member.config.standby,
    };
    let tenure = alive.tenure.insert(Tenure::new(rules, again));
    loop {
        let seen = followed.seen();
        match tenure.next(&seen) {
            Action::Activate { resume, registration } => {
                let mut held = Held { member, parts, alive, generation: generation.clone(), followed };
                let life = |source| StepError::Life { method: "activate", source };
                held.activate(resume, registration).await.map_err(life)?;
                return Ok(Standing::Active);
            }
            Action::StandBy { holder } => return Ok(Standing::StandBy { holder }),
            Action::Deleted => return Err(StepError::Deleted),
            _ if seen == Seen::Revoked => return Err(StepError::Revoked),
            // It has not been told anything yet: there is nothing else to do.
            _ => followed.changed().await,
        }
    }
}

/// From the last step on: until the component fails, its session ends its life, or the host stops.
///
/// # Cancel safety
///
/// Not to be cancelled but by `stop`: a `deactivate` would be dropped.
pub async fn keep(member: &Member, parts: &Parts, alive: &mut Alive, stop: &CancellationToken) -> Ended {
    let (Some(session), Some(generation)) = (alive.session.clone(), alive.life.generation.clone()) else {
        // Both were made in the start; there is no other way here.
        return Ended::Stopped;
    };
    let followed = Followed::new(session);
    Held { member, parts, alive, generation, followed }.keep(stop).await
}

impl Held<'_> {
    async fn keep(&mut self, stop: &CancellationToken) -> Ended {
        loop {
            let seen = self.followed.seen();
            // Does what it knows hold, where it fails now?
            let mut knows = true;
            let action = match &mut self.alive.tenure {
                Some(tenure) => tenure.next(&seen),
                None => Action::Wait,
            };
            let done = match action {
                Action::Wait => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ended::Stopped,
                        failure = self.alive.life.failures.next() => Err(StepFailed::later("in its background", failure)),
                        () = self.followed.changed() => Ok(()),
                        over = probation::over(&mut self.alive.probation) => {
                            probation::commit(self.member, self.parts, self.alive, &over);
                            Ok(())
                        }
                        command = alive::asked(&mut self.alive.commands) => match self.obey(command, stop).await {
                            Ok(()) => Ok(()),
                            Err(ended) => return ended,
                        },
                    }
                }
                Action::Activate { resume, registration } => {
                    knows = matches!(resume, Resume::Kept | Resume::Restored);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ended::Stopped,
                        done = self.activate(resume, registration) => done.map_err(|error| StepFailed::later("activate", error)),
                    }
                }
                Action::Deactivate(reason) => {
                    self.deactivate(reason).await.map_err(|error| StepFailed::later("deactivate", error))
                }
                Action::GoOn { registration } => {
                    self.permit(registration);
                    let create_revision = registration.create_revision;
                    tracing::info!(role = %self.role(), create_revision, "registered anew: the component goes on");
                    Ok(())
                }
                Action::Fence => {
                    tracing::warn!(role = %self.role(), "fenced: new calls are refused until the session is certain again");
                    self.member.lifecycle.fence(true);
                    Ok(())
                }
                Action::Lift => {
                    tracing::info!(role = %self.role(), "the fence is lifted: calls are answered again");
                    self.member.lifecycle.fence(false);
                    Ok(())
                }
                Action::StandBy { .. } | Action::TakeOver => {
                    let changed = match action {
                        Action::StandBy { holder } => self.stand_by(holder).await,
                        _ => self.take_over(),
                    };
                    if let Err(forbidden) = changed {
                        // Only a stop leaves no way: it has the component next.
                        tracing::debug!(role = %self.role(), %forbidden, "the session has changed on the way out");
                        stop.cancelled().await;
                        return Ended::Stopped;
                    }
                    Ok(())
                }
                Action::Replaced { holder } => return Ended::Replaced { holder },
                Action::Deleted => return Ended::Deleted,
            };
            match done {
                Ok(()) => {}
                Err(failed) if self.alive.probation.is_some() => {
                    if let Err(ended) = self.roll_back(chain(&failed), knows).await {
                        return ended;
                    }
                }
                Err(failed) => return Ended::Failed(failed),
            }
        }
    }

    async fn obey(&mut self, command: Command, stop: &CancellationToken) -> Result<(), Ended> {
        match command {
            Command::Swap(slot) => match slot.take() {
                Some(candidate) => self.swap(*candidate, stop).await,
                // Whoever asked has waited too long.
                None => Ok(()),
            },
            // Whoever asked has gone, and may have asked again.
            Command::Restart(answer) if answer.is_closed() => Ok(()),
            Command::Restart(answer) => Err(Ended::Restarted(answer)),
        }
    }

    fn role(&self) -> &Role {
        &self.member.role
    }

    fn permit(&self, registration: Registration) {
        if let Some(metadata) = &self.alive.life.metadata {
            metadata.permit().give(self.followed.session.guard(), registration);
        }
    }

    pub(super) async fn activate(&mut self, resume: Resume, registration: Registration) -> Result<(), LifeError> {
        tracing::info!(role = %self.role(), ?resume, create_revision = registration.create_revision, "activating");
        self.permit(registration);
        activate(&self.generation, self.member.config.activate_timeout, resume).await?;
        let life = &mut self.alive.life;
        if life.notices.is_none() {
            life.notices = Some(notices::tell(self.member, self.parts, &self.generation, &life.failures));
        }
        Ok(())
    }

    async fn deactivate(&mut self, reason: Deactivation) -> Result<(), LifeError> {
        tracing::info!(role = %self.role(), ?reason, "deactivating");
        let limit = self.member.config.deactivate_timeout;
        let done = deactivate(&self.generation, limit, reason).await;
        self.alive.life.withdraw_permit();
        if reason == Deactivation::Replaced {
            // As in `stand_by`.
            self.alive.life.end_notices(limit).await;
        }
        done
    }

    async fn stand_by(&mut self, holder: String) -> Result<(), Forbidden> {
        match self.member.lifecycle.status().state {
            State::StandBy { .. } => tracing::info!(role = %self.role(), active = holder, "standing by for another"),
            _ => tracing::warn!(role = %self.role(), active = holder, "another is active: standing by"),
        }
        let detail = format!("standing by for {holder}");
        self.arrive(State::StandBy { holder }, detail)?;
        // When it is active again it is told of its peers anew.
        self.alive.life.end_notices(self.member.config.deactivate_timeout).await;
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), Forbidden> {
        let waited = self.member.lifecycle.status().since.elapsed();
        let waited = humantime::format_duration(Duration::from_secs(waited.as_secs()));
        tracing::info!(role = %self.role(), %waited, "took over");
        self.arrive(State::Healthy, format!("serving; took over after {waited} in standby"))
    }

    /// The last step, made again.
    fn arrive(&self, at: State, detail: String) -> Result<(), Forbidden> {
        let report = StepReport { step: Step::Healthy, detail, took: Duration::ZERO, failed: false };
        self.member.lifecycle.arrive(at, report)
    }
}

//! The phases of an exchange, from the gate to the switch: each does one thing more to the two generations. What was done is
//! in the [`Progress`], so that it can be undone; what ends them halfway is decided by the owner.

use std::time::Duration;

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::{Deactivation, Resume, Snapshot};
use plugin_api::identity::Role;
use plugin_api::peers::Registration;
use tokio_util::task::AbortOnDropHandle;

use super::error::is_unimplemented;
use super::undo::Progress;
use super::{Reporter, SwapError};
use crate::plugin::Generation;
use crate::serve::{Hold, Misfit, Serving};
use crate::session::SessionGuard;
use crate::startup::{Parts, renew_dependencies, start_component};
use crate::supervise::tenure::Tenure;
use crate::supervise::{Life, Member, activate, deactivate, notices, within};
use crate::swap::{Phase, StateMode};

/// What a component does by itself ends: true where it has. One that keeps a thread is waited for at most so long.
pub(super) async fn end_background(role: &Role, generation: &Generation, limit: Duration) -> bool {
    let ended = tokio::time::timeout(limit, generation.end_background()).await.is_ok();
    if !ended {
        let left = generation.ledger().tasks;
        tracing::warn!(%role, generation = generation.number(), ?left, "tasks of the component block and go on");
    }
    ended
}

/// The state of a component, within this limit.
pub(super) async fn snapshot_of(generation: &Generation, limit: Duration) -> Result<Snapshot, LifeError> {
    within(generation, limit, "snapshot", |one| async move { one.component().snapshot().await }).await
}

/// A component takes another's state, within this limit.
pub(super) async fn restored(generation: &Generation, limit: Duration, state: Snapshot) -> Result<(), LifeError> {
    within(generation, limit, "restore", |one| async move { one.component().restore(state).await }).await
}

/// Two generations on their way to change places.
pub(super) struct Exchange<'a> {
    pub(super) member: &'a Member,
    pub(super) parts: &'a Parts,
    pub(super) hold: &'a Hold,
    pub(super) former: &'a Generation,
    pub(super) former_notices: &'a mut Option<AbortOnDropHandle<()>>,
    pub(super) tenure: &'a mut Option<Tenure>,
    pub(super) guard: SessionGuard,
    pub(super) new: &'a mut Life,
    pub(super) generation: &'a Generation,
    pub(super) state: StateMode,
    pub(super) progress: &'a mut Progress,
    pub(super) reporter: &'a mut Reporter,
}

/// The routes have changed.
pub(super) struct Switched {
    /// The new generation was given the former one's state.
    pub(super) handed_over: bool,
    /// It could be activated again.
    pub(super) former_is_well: bool,
    /// It does nothing by itself any more, as far as that can be known.
    pub(super) former_ended: bool,
    /// What was odd, for people.
    pub(super) remark: String,
}

impl Exchange<'_> {
    pub(super) async fn run(mut self) -> Result<Switched, SwapError> {
        self.gate().await?;
        let handed_over = self.hand_over().await?;
        let serving = self.warm().await?;
        self.switch(handed_over, serving).await
    }

    /// From here on calls of gated methods are held; those that run end.
    async fn gate(&mut self) -> Result<(), SwapError> {
        self.reporter.begin(Phase::Gate);
        let limit = self.parts.config.swap.gate_timeout;
        let running = self.former.gated_calls();
        self.hold.put_up();
        if tokio::time::timeout(limit, self.former.no_gated_calls()).await.is_err() {
            return Err(SwapError::GatedCallsRun { calls: self.former.gated_calls(), limit });
        }
        let gated = self.former.descriptor().gated.len();
        self.reporter.done(format!("{gated} methods are gated; {running} calls of them ran, and have ended"));
        Ok(())
    }

    /// The state goes from one to the other; or not, where that was asked for.
    async fn hand_over(&mut self) -> Result<bool, SwapError> {
        self.reporter.begin(Phase::HandOver);
        if self.state == StateMode::Fresh {
            self.reporter.done("the state is dropped, as was asked for".to_owned());
            return Ok(false);
        }
        let limit = self.parts.config.swap.hand_over_timeout;
        self.progress.paused = true;
        let snapshot = match snapshot_of(self.former, limit).await {
            Err(error) if self.state == StateMode::Try && is_unimplemented(&error) => {
                self.reporter.done("the component gives no state: the new one begins without".to_owned());
                return Ok(false);
            }
            snapshot => snapshot.map_err(SwapError::of_snapshot)?,
        };
        let (version, bytes, files) = (snapshot.state_version, snapshot.bytes.len(), snapshot.files.len());
        if let Err(error) = restored(self.generation, limit, snapshot).await {
            if self.state == StateMode::Try && is_unimplemented(&error) {
                self.reporter.done("the new one takes no state, and begins without".to_owned());
                return Ok(false);
            }
            return Err(SwapError::New { method: "restore", source: error });
        }
        self.reporter.done(format!("state version {version}: {bytes} bytes, {files} files"));
        Ok(true)
    }

    /// The new one starts, over the links that are there; only what it depends on beside is dialled.
    async fn warm(&mut self) -> Result<Serving, SwapError> {
        self.reporter.begin(Phase::Warm);
        let new = &self.generation.descriptor().dependencies;
        let added: Vec<_> =
            new.iter().filter(|one| !self.former.descriptor().dependencies.contains(one)).cloned().collect();
        renew_dependencies(self.member, self.parts, &added);
        let started = start_component(self.member, self.parts, self.new, self.generation).await;
        let serving = started.map_err(|source| SwapError::New { method: "start", source })?;
        self.parts.served.check(&self.member.role, &serving.services)?;
        let added: Vec<&str> = added.iter().map(|dependency| dependency.role.as_str()).collect();
        let links =
            if added.is_empty() { "the same links".to_owned() } else { format!("linked: {}", added.join(", ")) };
        self.reporter.done(format!("serves {}; {links}", serving.services.join(", ")));
        Ok(serving)
    }

    /// The former one stops to work, the new one begins, and calls go there. A component that is not active is told nothing
    /// now: it is activated when its turn comes.
    async fn switch(mut self, handed_over: bool, serving: Serving) -> Result<Switched, SwapError> {
        self.reporter.begin(Phase::Switch);
        let mut switched = Switched { handed_over, former_is_well: true, former_ended: true, remark: String::new() };
        match self.progress.active_under {
            Some(under) => {
                self.deactivate_former(&mut switched).await;
                let resume = if handed_over { Resume::Restored } else { Resume::TakenOver };
                self.activate_new(resume, under).await?;
            }
            None => {
                // One that is fenced is told of its peers all the same.
                self.quiet_former().await;
                if let Some(tenure) = self.tenure.as_mut().filter(|_| !handed_over) {
                    tenure.forget();
                }
            }
        }
        let certain = self.new.certain(self.member.config.lease_policy(self.generation.descriptor()));
        self.parts.served.begin(&self.member.role, serving, certain).map_err(Misfit::from)?;
        Ok(switched)
    }

    /// Its work ends; how well, is noted.
    async fn deactivate_former(&mut self, switched: &mut Switched) {
        let (role, limit) = (&self.member.role, self.member.config.deactivate_timeout);
        self.progress.former_deactivated = true;
        if let Some(tenure) = self.tenure {
            tenure.swap_out();
        }
        let done = deactivate(self.former, limit, Deactivation::SwappedOut).await;
        switched.former_is_well = done.is_ok();
        switched.former_ended = self.quiet_former().await && done.is_ok();
        if let Err(error) = &done {
            tracing::warn!(%role, %error, "the former generation did not end its work well");
            switched.remark =
                format!("the former one did not end its work well (deactivate: {error}), and is not kept; ");
        }
    }

    /// What the former one does by itself ends: true where it has.
    async fn quiet_former(&mut self) -> bool {
        let limit = self.member.config.deactivate_timeout;
        if let Some(notices) = self.former_notices.take() {
            notices.abort();
            // What it ends with is of no interest.
            let _ = tokio::time::timeout(limit, notices).await;
        }
        end_background(&self.member.role, self.former, limit).await
    }

    async fn activate_new(&mut self, resume: Resume, under: Registration) -> Result<(), SwapError> {
        if let Some(metadata) = &self.new.metadata {
            metadata.permit().give(self.guard.clone(), under);
        }
        self.progress.new_activated = true;
        let done = activate(self.generation, self.member.config.activate_timeout, resume).await;
        done.map_err(|source| SwapError::New { method: "activate", source })?;
        self.new.notices = Some(notices::tell(self.member, self.parts, self.generation, &self.new.failures));
        if let Some(tenure) = self.tenure {
            tenure.swap_in(under);
        }
        Ok(())
    }
}

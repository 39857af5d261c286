//! The exchange of two generations, by the component's owner: gate, hand over, warm, switch. Until the routes change calls go
//! to the former one, and whatever goes wrong leaves it as it was.

use std::time::Duration;

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::{Deactivation, Resume};
use plugin_api::error::chain;
use plugin_api::identity::Role;
use plugin_api::peers::Registration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::error::is_unimplemented;
use super::probation::Probation;
use super::retire::{self, End, Retire, Retiring, Unused};
use super::undo::{Progress, Undo};
use super::{Candidate, Reporter, SwapError, Turn};
use crate::plugin::Generation;
use crate::plugin::swap::{Outcome, Phase, StateMode};
use crate::serve::{Hold, Serving};
use crate::session::SessionGuard;
use crate::startup::{Parts, StepFailed, renew_dependencies, start_component};
use crate::supervise::driver::{Followed, Held};
use crate::supervise::generations::Stand;
use crate::supervise::life::Failures;
use crate::supervise::tenure::{Seen, Tenure};
use crate::supervise::{Ended, Life, Member, log_failure, notices, within};

impl Held<'_> {
    /// Puts a candidate in the place of the generation that serves; or leaves everything as it was.
    ///
    /// # Errors
    ///
    /// Where the component's own life ends with it.
    ///
    /// # Cancel safety
    ///
    /// Not to be cancelled but by `stop`: the former generation would stay deactivated.
    pub(in crate::supervise) async fn swap(
        &mut self,
        candidate: Candidate,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let Candidate { life: mut new, state, probation, note, mut reporter, turn } = candidate;
        reporter.done(String::new());
        let (Some(hold), Some(generation)) = (self.parts.served.hold(&self.member.role), new.generation.clone()) else {
            // Both were there when the candidate was made; there is no other way here.
            return Ok(());
        };
        let mut progress = Progress { active_under: self.active_under(), ..Progress::default() };
        let exchanged = self.exchange(&hold, &mut new, &generation, state, &mut progress, &mut reporter, stop).await;
        match exchanged {
            Ok(switched) => {
                let former = self.take_place(new, generation);
                let held = hold.lift();
                let number = self.generation.number();
                let longest = held.longest;
                reporter.done(format!(
                    "{}calls go to generation {number}; {} were held, {longest:.1?} at most",
                    switched.remark, held.calls
                ));
                reporter.begin(Phase::Probation);
                let former_is_well = switched.former_is_well;
                let handed_over = switched.handed_over;
                self.alive.probation =
                    Some(Probation::begin(former, probation, handed_over, former_is_well, note, reporter, turn));
                Ok(())
            }
            Err(error) => {
                reporter.failed(chain(&error));
                let undone = self.undo(&mut new, &generation, progress, &error).await;
                hold.lift();
                self.refuse(new, reporter, turn, error, undone)
            }
        }
    }

    /// All that can go wrong without a trace. What has been done is in `progress`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is owned by somebody else: what is left of them is undone elsewhere"
    )]
    async fn exchange(
        &mut self,
        hold: &Hold,
        new: &mut Life,
        generation: &Generation,
        state: StateMode,
        progress: &mut Progress,
        reporter: &mut Reporter,
        stop: &CancellationToken,
    ) -> Result<Switched, SwapError> {
        let (seen, limit) = (self.followed.seen(), self.parts.config.swap.hold_limit);
        let Life { failures, notices, .. } = &mut self.alive.life;
        let exchange = Exchange {
            member: self.member,
            parts: self.parts,
            hold,
            former: &self.generation,
            former_notices: notices,
            tenure: &mut self.alive.tenure,
            guard: self.followed.guard(),
            new,
            generation,
            state,
            progress,
            reporter,
        };
        tokio::select! {
            biased;
            why = interrupted(failures, &mut self.followed, &seen, stop) => Err(why),
            done = exchange.run() => done,
            () = hold.overheld(limit) => Err(SwapError::HeldTooLong(limit)),
        }
    }

    /// The new generation is the component's from here on; what is returned was before.
    pub(super) fn take_place(&mut self, new: Life, generation: Generation) -> Life {
        let (member, number) = (self.member, generation.number());
        member.generations.stands(self.generation.number(), Stand::Kept);
        member.generations.stands(number, Stand::Serving);
        member.show_descriptor(generation.descriptor().clone());
        member.lifecycle.serves(number);
        if let Some(library) = &new.library {
            member.exchange_library(library.clone());
        }
        self.generation = generation;
        std::mem::replace(&mut self.alive.life, new)
    }

    /// The former generation is told what it needs to go on.
    async fn undo(
        &mut self,
        new: &mut Life,
        generation: &Generation,
        progress: Progress,
        error: &SwapError,
    ) -> Result<(), LifeError> {
        for step in progress.undo() {
            match step {
                Undo::DeactivateNew => self.deactivate_new(new, generation).await,
                // One that has failed has its end before it, and is told of that.
                _ if matches!(error, SwapError::FormerFailed(_)) => {}
                Undo::DeactivateFormer => {
                    if let Some(tenure) = &mut self.alive.tenure {
                        tenure.swap_out();
                    }
                    let limit = self.member.config.deactivate_timeout;
                    let told = self.generation.component().deactivate(Deactivation::SwappedOut);
                    log_failure(&self.member.role, within(limit, "deactivate", told).await);
                }
                Undo::ActivateFormer(resume, under) => self.activate_again(resume, under).await?,
            }
        }
        Ok(())
    }

    /// The new generation has no place any more: what it does by itself ends.
    pub(super) async fn deactivate_new(&mut self, new: &mut Life, generation: &Generation) {
        let (role, limit) = (&self.member.role, self.member.config.deactivate_timeout);
        new.end_notices(limit).await;
        let told = generation.component().deactivate(Deactivation::SwappedOut);
        log_failure(role, within(limit, "deactivate", told).await);
        end_background(role, generation, limit).await;
    }

    /// The generation that has the component's place is activated under the registration that it has.
    pub(super) async fn activate_again(&mut self, resume: Resume, under: Registration) -> Result<(), LifeError> {
        if let Some(tenure) = &mut self.alive.tenure {
            tenure.swap_in(under);
        }
        self.activate(resume, under).await
    }

    /// The end of a swap that has changed nothing; or of the component, where that could not go on.
    fn refuse(
        &mut self,
        new: Life,
        reporter: Reporter,
        turn: Turn,
        error: SwapError,
        undone: Result<(), LifeError>,
    ) -> Result<(), Ended> {
        let mut reason = chain(&error);
        let outcome = if let Err(failure) = &undone {
            reason = format!("{reason}; and then the former one could not go on: its activate: {failure}");
            Outcome::Failed
        } else {
            Outcome::Refused
        };
        let unused = self.unused(new.generation.as_ref(), &self.generation);
        let retire = Retire::of(self.member, self.parts, new);
        self.alive.retiring =
            Some(Retiring::begin(self.parts, retire, reporter, turn, End { outcome, reason, unused }));
        match (error, undone) {
            (SwapError::Stopping, _) => Err(Ended::Stopped),
            (SwapError::FormerFailed(failure), _) => {
                Err(Ended::Failed(StepFailed::later("in its background", failure)))
            }
            (_, Err(failure)) => Err(Ended::Failed(StepFailed::later("activate", failure))),
            (_, Ok(())) => Ok(()),
        }
    }

    /// Lets go of what only one of two generations depends on.
    pub(super) fn unused(&self, ends: Option<&Generation>, stays: &Generation) -> Unused {
        retire::unused(self.member, self.parts, ends, Some(stays))
    }

    fn active_under(&self) -> Option<Registration> {
        self.alive.tenure.as_ref().and_then(Tenure::active_under)
    }
}

/// What ends an exchange that is under way.
async fn interrupted(
    failures: &mut Failures,
    followed: &mut Followed,
    seen: &Seen,
    stop: &CancellationToken,
) -> SwapError {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return SwapError::Stopping,
            failure = failures.next() => return SwapError::FormerFailed(failure),
            () = followed.changed() => if followed.seen() != *seen {
                return SwapError::SessionChanged;
            },
        }
    }
}

/// What a component does by itself ends. One that keeps a thread is waited for at most so long.
async fn end_background(role: &Role, generation: &Generation, limit: Duration) {
    if tokio::time::timeout(limit, generation.end_background()).await.is_err() {
        let left = generation.ledger().tasks;
        tracing::warn!(%role, generation = generation.number(), ?left, "tasks of the component block and go on");
    }
}

/// Two generations on their way to change places.
struct Exchange<'a> {
    member: &'a Member,
    parts: &'a Parts,
    hold: &'a Hold,
    former: &'a Generation,
    former_notices: &'a mut Option<AbortOnDropHandle<()>>,
    tenure: &'a mut Option<Tenure>,
    guard: SessionGuard,
    new: &'a mut Life,
    generation: &'a Generation,
    state: StateMode,
    progress: &'a mut Progress,
    reporter: &'a mut Reporter,
}

/// The routes have changed.
struct Switched {
    /// The new generation was given the former one's state.
    handed_over: bool,
    /// It could be activated again.
    former_is_well: bool,
    /// What was odd, for people.
    remark: String,
}

impl Exchange<'_> {
    async fn run(mut self) -> Result<Switched, SwapError> {
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
        let snapshot = match within(limit, "snapshot", self.former.component().snapshot()).await {
            Err(error) if self.state == StateMode::Try && is_unimplemented(&error) => {
                self.reporter.done("the component gives no state: the new one begins without".to_owned());
                return Ok(false);
            }
            snapshot => snapshot.map_err(SwapError::of_snapshot)?,
        };
        let (version, bytes, files) = (snapshot.state_version, snapshot.bytes.len(), snapshot.files.len());
        let restored = within(limit, "restore", self.generation.component().restore(snapshot)).await;
        if let Err(error) = restored {
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
        let mut switched = Switched { handed_over, former_is_well: true, remark: String::new() };
        match self.progress.active_under {
            Some(under) => {
                switched.former_is_well = self.deactivate_former(&mut switched.remark).await;
                let resume = if handed_over { Resume::Restored } else { Resume::TakenOver };
                self.activate_new(resume, under).await?;
            }
            None if !handed_over => {
                if let Some(tenure) = self.tenure {
                    tenure.forget();
                }
            }
            None => {}
        }
        let certain = self.new.certain(self.member.config.lease_policy(self.generation.descriptor()));
        self.parts.served.begin(&self.member.role, serving, certain)?;
        Ok(switched)
    }

    /// Did it end its work well?
    async fn deactivate_former(&mut self, remark: &mut String) -> bool {
        let (role, limit) = (&self.member.role, self.member.config.deactivate_timeout);
        self.progress.former_deactivated = true;
        if let Some(tenure) = self.tenure {
            tenure.swap_out();
        }
        let told = self.former.component().deactivate(Deactivation::SwappedOut);
        let done = within(limit, "deactivate", told).await;
        if let Some(notices) = self.former_notices.take() {
            notices.abort();
            // What it ends with is of no interest.
            let _ = tokio::time::timeout(limit, notices).await;
        }
        end_background(role, self.former, limit).await;
        if let Err(error) = &done {
            tracing::warn!(%role, %error, "the former generation did not end its work well");
            *remark = format!("the former one did not end its work well (deactivate: {error}), and is not kept; ");
        }
        done.is_ok()
    }

    async fn activate_new(&mut self, resume: Resume, under: Registration) -> Result<(), SwapError> {
        if let Some(metadata) = &self.new.metadata {
            metadata.permit().give(self.guard.clone(), under);
        }
        self.progress.new_activated = true;
        let told = self.generation.component().activate(resume);
        let done = within(self.member.config.activate_timeout, "activate", told).await;
        done.map_err(|source| SwapError::New { method: "activate", source })?;
        self.new.notices = Some(notices::tell(self.member, self.parts, self.generation, &self.new.failures));
        if let Some(tenure) = self.tenure {
            tenure.swap_in(under);
        }
        Ok(())
    }
}

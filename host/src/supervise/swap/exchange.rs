//! The exchange of two generations, by the component's owner: its phases, what ends them halfway, and what is undone then.
//! Until the routes change calls go to the former one, and whatever goes wrong leaves it as it was.

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::{Deactivation, Resume};
use plugin_api::descriptor::LeasePolicy;
use plugin_api::error::chain;
use plugin_api::peers::Registration;
use tokio_util::sync::CancellationToken;

use super::phases::{Exchange, Switched, end_background};
use super::probation::Probation;
use super::retire::{self, End, Retire, Retiring, Unused};
use super::undo::{Progress, Undo};
use super::{Candidate, Reporter, SwapError, Turn};
use crate::metadata::MetadataStore;
use crate::plugin::Generation;
use crate::serve::Hold;
use crate::startup::{StepFailed, renew_dependencies};
use crate::supervise::driver::{Followed, Held};
use crate::supervise::generations::Stand;
use crate::supervise::life::Failures;
use crate::supervise::tenure::{Seen, Tenure};
use crate::supervise::{Ended, Life, deactivate, log_failure};
use crate::swap::{Outcome, Phase, StateMode};

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
                if !switched.former_ended {
                    // What goes on of it may not write beside the new one. Calls go there by now: none is refused for it.
                    former.withdraw_permit();
                }
                // After the routes: whoever is woken by it looks at them.
                self.member.lifecycle.serves(self.generation.number());
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
                // What it writes from here on is refused: so the look at what it has written is the last word.
                new.withdraw_permit();
                progress.new_may_have_written = new.metadata.as_ref().is_some_and(MetadataStore::may_have_written);
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
                    let told = deactivate(&self.generation, limit, Deactivation::SwappedOut);
                    log_failure(&self.member.role, told.await);
                }
                Undo::ActivateFormer(resume, under) => {
                    // What it does by itself it begins anew in `activate`.
                    let limit = self.member.config.deactivate_timeout;
                    end_background(&self.member.role, &self.generation, limit).await;
                    self.activate_again(resume, under).await?;
                }
            }
        }
        Ok(())
    }

    /// The new generation has no place any more: what it does by itself ends.
    pub(super) async fn deactivate_new(&mut self, new: &mut Life, generation: &Generation) {
        let (role, limit) = (&self.member.role, self.member.config.deactivate_timeout);
        new.end_notices(limit).await;
        log_failure(role, deactivate(generation, limit, Deactivation::SwappedOut).await);
        end_background(role, generation, limit).await;
    }

    /// The generation that has the component's place is activated under the registration that it has; or when that is held
    /// again, where it is not now.
    pub(super) async fn activate_again(&mut self, resume: Resume, under: Registration) -> Result<(), LifeError> {
        let policy = self.member.config.lease_policy(self.generation.descriptor());
        let may = match self.followed.seen() {
            Seen::Active { registration } => registration == under,
            // It would be active now, had nobody touched it.
            Seen::Uncertain => policy == LeasePolicy::Serve,
            Seen::Other { .. } | Seen::Deleted | Seen::Revoked => false,
        };
        let Some(tenure) = &mut self.alive.tenure else { return Ok(()) };
        if !may {
            tenure.put_off(matches!(resume, Resume::Kept | Resume::Restored));
            return Ok(());
        }
        tenure.swap_in(under);
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
        } else if matches!(error, SwapError::FormerFailed(_)) {
            Outcome::Failed
        } else {
            Outcome::Refused
        };
        reporter.passing(outcome == Outcome::Refused && error.is_passing());
        let unused = self.settle_dependencies(new.generation.as_ref(), &self.generation);
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

    /// What the one that stays depends on is as it says; what only the other depends on is let go of, at last.
    pub(super) fn settle_dependencies(&self, ends: Option<&Generation>, stays: &Generation) -> Unused {
        let other = ends.map(|ends| ends.descriptor().dependencies.as_slice()).unwrap_or_default();
        let own = &stays.descriptor().dependencies;
        let changed: Vec<_> = own.iter().filter(|dependency| !other.contains(dependency)).cloned().collect();
        renew_dependencies(self.member, self.parts, &changed);
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

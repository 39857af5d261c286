//! Probation: the new generation serves, and the former one is kept, so that it can have its place again.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use plugin_api::border::v1::component::LifeError;
use plugin_api::component::Resume;
use plugin_api::error::chain;

use super::phases::{end_background, restored, snapshot_of};
use super::retire::{End, Retire, Retiring};
use super::{Reporter, Turn};
use crate::plugin::Generation;
use crate::serve::Certain;
use crate::startup::{Parts, StepFailed};
use crate::supervise::driver::Held;
use crate::supervise::tenure::Tenure;
use crate::supervise::{Alive, Ended, Life, Member};
use crate::swap::{Outcome, Phase};

/// A swap that has come to its switch, and is not over.
pub struct Probation {
    former: Life,
    /// `None` is for ever.
    until: Option<Instant>,
    handed_over: bool,
    /// What is to be told at a commit.
    note: String,
    reporter: Reporter,
    turn: Turn,
}

impl Probation {
    pub(super) fn begin(
        former: Life,
        time: Duration,
        handed_over: bool,
        former_is_well: bool,
        note: String,
        reporter: Reporter,
        turn: Turn,
    ) -> Self {
        // One that did not end its work well cannot begin again.
        let time = if former_is_well { time } else { Duration::ZERO };
        Self { former, until: Instant::now().checked_add(time), handed_over, note, reporter, turn }
    }
}

/// Returns when a probation is over: its time, or the former generation has failed, which cannot come back then.
///
/// # Cancel safety
///
/// Nothing is lost.
pub(in crate::supervise) async fn over(probation: &mut Option<Probation>) -> Over {
    let Some(Probation { former, until, .. }) = probation else { return std::future::pending().await };
    let time = async {
        match until {
            Some(until) => tokio::time::sleep_until((*until).into()).await,
            None => std::future::pending().await,
        }
    };
    let left_of_calls = async {
        if let Some(generation) = &former.generation {
            // Its last calls may work on, but not what they leave behind.
            generation.no_calls().await;
            generation.end_left_of_calls().await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        () = time => Over::Time,
        never = left_of_calls => match never {},
        failure = former.failures.next() => Over::FormerFailed(failure),
    }
}

/// Why a probation ends with the new generation in its place.
#[derive(Debug)]
pub(in crate::supervise) enum Over {
    /// Its time is over.
    Time,
    /// The former generation could not come back: it has failed.
    FormerFailed(LifeError),
    /// The component's life has ended, for another reason.
    LifeEnded,
}

/// The new generation stays: the former one's calls end, and then it does. Where there is no probation nothing is done.
pub(in crate::supervise) fn commit(member: &Member, parts: &Parts, alive: &mut Alive, over: &Over) {
    let Some(Probation { former, note, mut reporter, turn, .. }) = alive.probation.take() else { return };
    reporter.done(match over {
        Over::Time => "the new generation is well".to_owned(),
        Over::FormerFailed(failure) => {
            format!("over early: the former generation has failed ({failure}), and cannot come back")
        }
        Over::LifeEnded => "over early: the component ends".to_owned(),
    });
    let stays = alive.life.generation.as_ref();
    let unused = super::retire::unused(member, parts, former.generation.as_ref(), stays);
    let version = stays.and_then(|generation| generation.descriptor().version.clone());
    if let (Some(session), Some(version)) = (&alive.session, version) {
        session.tell_version(version.to_string());
    }
    let end = End { outcome: Outcome::Committed, reason: note, unused };
    alive.retiring = Some(Retiring::begin(parts, Retire::of(member, parts, former), reporter, turn, end));
}

impl Held<'_> {
    /// The new generation has failed: the former one has its place again, with the new one's state where that gives one and
    /// it was true (`knows`).
    ///
    /// # Errors
    ///
    /// Where the former one cannot go on either.
    ///
    /// # Cancel safety
    ///
    /// Not to be cancelled: neither would serve.
    pub(in crate::supervise) async fn roll_back(&mut self, why: String, knows: bool) -> Result<(), Ended> {
        let Some(probation) = self.alive.probation.take() else { return Ok(()) };
        let Probation { mut former, handed_over, mut reporter, turn, .. } = probation;
        let (Some(generation), Some(hold)) = (former.generation.clone(), self.parts.served.hold(&self.member.role))
        else {
            // Both are there as long as the host is.
            return Ok(());
        };
        reporter.failed(why.clone());
        reporter.begin(Phase::RollBack);
        hold.put_up();
        let failed = self.generation.clone();
        // It has failed: calls of it that do not end hold the way back up no longer.
        let ended = tokio::time::timeout(self.parts.config.swap.gate_timeout, failed.no_gated_calls()).await;
        let under = self.alive.tenure.as_mut().and_then(Tenure::swap_out);
        let mut life = std::mem::take(&mut self.alive.life);
        if under.is_some() {
            self.deactivate_new(&mut life, &failed).await;
        } else {
            let limit = self.member.config.deactivate_timeout;
            life.end_notices(limit).await;
            end_background(&self.member.role, &failed, limit).await;
        }
        if ended.is_err() {
            // What they write from here on, the former one would not know of.
            life.withdraw_permit();
        }
        let state = if !handed_over {
            Err("none was handed over".to_owned())
        } else if !knows {
            Err("it had not taken over yet".to_owned())
        } else if ended.is_err() {
            Err(format!("{} calls of gated methods still run on it", failed.gated_calls()))
        } else {
            self.hand_back(&failed, &generation).await
        };
        if state.is_err()
            && let Some(tenure) = self.alive.tenure.as_mut().filter(|_| under.is_none())
        {
            tenure.forget();
        }
        let (serving, certain) = (former.serving.clone(), self.certain(&former, &generation));
        former.notices = None;
        self.alive.life = life;
        let life = self.take_place(former, generation);
        let activated = match under {
            Some(under) => {
                let resume = if state.is_ok() { Resume::Restored } else { Resume::RolledBack };
                self.activate_again(resume, under).await
            }
            None => Ok(()),
        };
        let served = serving.map(|serving| self.parts.served.begin(&self.member.role, serving, certain));
        // After the routes: whoever is woken by it looks at them.
        self.member.lifecycle.serves(self.generation.number());
        let held = hold.lift();
        let state = state.unwrap_or_else(|without| format!("without the new one's state: {without}"));
        let number = self.generation.number();
        let done = format!(
            "calls go to generation {number} again, {state}; {} were held, {:.1?} at most",
            held.calls, held.longest
        );
        let unused = self.settle_dependencies(Some(&failed), &self.generation);
        let is_well = activated.is_ok() && !matches!(served, Some(Err(_)));
        let outcome = if is_well { Outcome::RolledBack } else { Outcome::Failed };
        match &activated {
            Ok(()) => reporter.done(done),
            Err(error) => {
                reporter.failed(format!("the former generation could not go on either: its activate: {error}"))
            }
        }
        let retire = Retire::of(self.member, self.parts, life);
        let end = End { outcome, reason: why, unused };
        self.alive.retiring = Some(Retiring::begin(self.parts, retire, reporter, turn, end));
        if let Some(Err(same)) = served {
            return Err(Ended::Failed(StepFailed::same_service(same)));
        }
        activated.map_err(|error| Ended::Failed(StepFailed::later("activate", error)))
    }

    /// The new generation's state goes back to the former one; or why it does not.
    async fn hand_back(&self, failed: &Generation, former: &Generation) -> Result<String, String> {
        let limit = self.parts.config.swap.hand_over_timeout;
        let snapshot = snapshot_of(failed, limit).await;
        let snapshot = snapshot.map_err(|error| format!("its snapshot: {}", chain(&error)))?;
        let (version, bytes, files) = (snapshot.state_version, snapshot.bytes.len(), snapshot.files.len());
        let restored = restored(former, limit, snapshot).await;
        restored.map_err(|error| format!("the former one's restore: {}", chain(&error)))?;
        Ok(format!("with its state (version {version}: {bytes} bytes, {files} files)"))
    }

    fn certain(&self, life: &Life, generation: &Generation) -> Certain {
        life.certain(self.member.config.lease_policy(generation.descriptor()))
    }
}

//! A component that is down: when it begins again, and what an operator asks of it meanwhile.

use std::sync::Arc;

use plugin_api::error::chain;
use tokio_util::sync::CancellationToken;

use super::alive;
use super::commands::Command;
use super::policy::Decision;
use super::swap::{Candidate, Reporter, Retire, Turn};
use super::{Alive, Member};
use crate::plugin::Library;
use crate::startup::{Parts, StepFailed};
use crate::swap::{Outcome, Phase};

/// Why a component begins again, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The host stops.
    Stopped,
    /// Its time has come.
    Over,
    /// An operator wants it to: what was before counts no more.
    Asked,
}

/// A swap of a component that was down: its new generation is just starting.
pub struct BegunAnew {
    /// What it tries again with where that fails.
    former: Arc<Library>,
    reporter: Reporter,
    turn: Turn,
}

/// Waits as long as was decided; a quarantine ends only where somebody asks for it.
///
/// # Cancel safety
///
/// Nothing is lost but the place in time.
pub(super) async fn wait(
    member: &Member,
    parts: &Parts,
    alive: &mut Alive,
    decision: Decision,
    stop: &CancellationToken,
) -> Waited {
    let time = async {
        match decision {
            Decision::Restart(after) => tokio::time::sleep(after).await,
            Decision::Quarantine => std::future::pending().await,
        }
    };
    let mut time = std::pin::pin!(time);
    loop {
        let command = tokio::select! {
            biased;
            () = stop.cancelled() => return Waited::Stopped,
            command = alive::asked(&mut alive.commands) => command,
            () = &mut time => return Waited::Over,
        };
        match command {
            // It fails where whoever asked has gone, and may have asked again.
            Command::Restart(answer) => {
                if answer.send(()).is_ok() {
                    return Waited::Asked;
                }
            }
            Command::Swap(slot) => {
                if let Some(candidate) = slot.take() {
                    begin_anew(member, parts, alive, *candidate).await;
                    return Waited::Asked;
                }
            }
        }
    }
}

/// There is nothing that serves, and no state: the component begins with the new code. The candidate has done what it was for.
async fn begin_anew(member: &Member, parts: &Parts, alive: &mut Alive, candidate: Candidate) {
    let (library, life, mut reporter, turn) = candidate.into_parts();
    reporter.done("the component is down: it begins with the new file, without a state".to_owned());
    reporter.begin(Phase::Warm);
    Retire::of(member, parts, life).end().await;
    let former = member.library();
    if let Some(library) = library {
        member.exchange_library(library);
    }
    alive.begun_anew = Some(BegunAnew { former, reporter, turn });
}

/// The start that a swap of a component that was down has led to is over.
pub(super) fn told(member: &Member, alive: &mut Alive, failed: Option<&StepFailed>) {
    let Some(BegunAnew { former, mut reporter, turn }) = alive.begun_anew.take() else { return };
    match failed {
        None => {
            let number = member.lifecycle.status().generation;
            reporter.done(format!("generation {number} has come up"));
            reporter.finish(Outcome::Committed, "the component was down, and began with the new file");
        }
        Some(failed) => {
            let why = chain(failed);
            reporter.failed(why.clone());
            // The former code may have been on its way back by itself.
            member.exchange_library(former);
            let reason = format!(
                "the component was down, and did not start with the new file: {why}; it tries again with the former one"
            );
            reporter.finish(Outcome::Failed, reason);
        }
    }
    drop(turn);
}

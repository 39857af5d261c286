//! The end of a generation that another has taken the place of, or that never came to serve: its calls end, then it does. Its
//! library stays mapped, and counts from then on.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use plugin_api::identity::Role;
use plugin_api::refusal::Reason;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Reporter, Turn};
use crate::plugin::{Generation, Traces};
use crate::startup::Parts;
use crate::supervise::generations::{Generations, Stand};
use crate::supervise::{Life, Member, end_generation};
use crate::swap::{Outcome, Phase};

/// How long calls that were cut may take to end.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// How long the threads of a component that has ended may take to end, before it is said what is left.
const LEAVE: Duration = Duration::from_secs(1);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// A generation that is to end.
pub struct Retire {
    role: Role,
    life: Life,
    generations: Generations,
    stop_timeout: Duration,
    drain: Duration,
}

impl Retire {
    /// This one.
    pub fn of(member: &Member, parts: &Parts, life: Life) -> Self {
        Self {
            role: member.role.clone(),
            life,
            generations: member.generations.clone(),
            stop_timeout: member.config.stop_timeout,
            drain: parts.config.swap.drain,
        }
    }

    /// Ends it now, without a drain.
    pub async fn end(self) {
        end(self).await;
    }

    fn stands(&self, stand: Stand) {
        if let Some(generation) = &self.life.generation {
            self.generations.stands(generation.number(), stand);
        }
    }
}

/// A generation whose end is under way, in a task of its own.
pub struct Retiring {
    /// What of it is alive.
    pub traces: Option<Traces>,
    /// Its calls are cut now.
    pub hurry: CancellationToken,
    /// Ends with it.
    pub task: AbortOnDropHandle<()>,
}

impl Retiring {
    /// Ends it, and the swap with this outcome. Its calls may take as long as they are drained; `committed` tells that as
    /// the swap's last phase.
    pub fn begin(parts: &Parts, retire: Retire, mut reporter: Reporter, turn: Turn, end: End) -> Self {
        let hurry = CancellationToken::new();
        let traces = retire.life.generation.as_ref().map(|generation| generation.traces().clone());
        let cut_now = hurry.clone();
        // Its methods run on the workers, as all of a component's code does.
        let task = parts.workers.spawn(async move {
            let End { outcome, reason, unused } = end;
            match outcome {
                Outcome::Committed => {
                    reporter.begin(Phase::Commit);
                    let drained = drain(&retire, &cut_now).await;
                    let left = self::end(retire).await;
                    unused.await;
                    reporter.done(format!("{drained}; {left}"));
                    reporter.finish(outcome, reason);
                }
                // Whoever asked need not wait for the end of what does not serve.
                _ => {
                    reporter.finish(outcome, reason);
                    drain(&retire, &cut_now).await;
                    self::end(retire).await;
                    unused.await;
                }
            }
            drop(turn);
        });
        Self { traces, hurry, task: AbortOnDropHandle::new(task) }
    }
}

/// How a swap ends.
pub struct End {
    /// The outcome.
    pub outcome: Outcome,
    /// Its reason.
    pub reason: String,
    /// Done at last: what only this generation had a use for goes.
    pub unused: Unused,
}

/// Lets go of what nobody has a use for.
pub type Unused = BoxFuture<'static, ()>;

/// Lets go of what the one that ends depends on, and the one that stays does not.
pub(super) fn unused(member: &Member, parts: &Parts, ends: Option<&Generation>, stays: Option<&Generation>) -> Unused {
    let roles = |generation: Option<&Generation>| {
        let dependencies = generation.map(|generation| generation.descriptor().dependencies.as_slice());
        dependencies.unwrap_or_default().iter().map(|dependency| dependency.role.clone()).collect::<BTreeSet<Role>>()
    };
    let only: Vec<Role> = roles(ends).difference(&roles(stays)).cloned().collect();
    let (connections, caller) = (parts.connections.clone(), member.role.clone());
    Box::pin(async move {
        for role in only {
            connections.remove_dependency(&caller, &role).await;
        }
    })
}

/// Its calls end, or are cut at the limit; what they did, for people.
async fn drain(retire: &Retire, cut_now: &CancellationToken) -> String {
    retire.stands(Stand::Draining);
    let Some(generation) = &retire.life.generation else { return String::new() };
    let running = generation.ledger().calls;
    let why_cut = tokio::select! {
        biased;
        () = generation.no_calls() => return format!("{running} calls of generation {} ended", generation.number()),
        () = cut_now.cancelled() => "the component ends before they have".to_owned(),
        () = tokio::time::sleep(retire.drain) => {
            format!("its calls had {} to end (swap.drain)", humantime::format_duration(retire.drain))
        }
    };
    let left = generation.ledger().calls;
    let (role, number) = (&retire.role, generation.number());
    tracing::warn!(%role, generation = number, calls = left, "calls of a generation that was replaced are cut: {why_cut}");
    retire.life.cut.cut(Reason::SwapDrained, format!("generation {number} of {role} was replaced, and {why_cut}"));
    if tokio::time::timeout(CUT_LIMIT, generation.no_calls()).await.is_err() {
        tracing::warn!(%role, generation = number, "calls still run although they were cut: the component keeps a thread");
    }
    format!("{} of {running} calls of generation {number} ended, {left} were cut", running.saturating_sub(left))
}

/// The component ends; what of it is left, for people.
///
/// # Cancel safety
///
/// What is left is dropped, without the component's last methods.
pub(super) async fn end(mut retire: Retire) -> String {
    retire.life.end_notices(retire.stop_timeout).await;
    retire.life.withdraw_permit();
    let Some(generation) = retire.life.generation.take() else { return String::new() };
    end_generation(&retire.role, &generation, retire.stop_timeout).await;
    let (number, traces) = (generation.number(), generation.traces().clone());
    retire.life.serving = None;
    drop(generation);
    // Its threads end on their own, soon after the component was dropped.
    let left = async {
        while traces.view().holders().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let all_gone = tokio::time::timeout(LEAVE, left).await.is_ok();
    retire.generations.stands(number, Stand::Retired);
    match traces.view().holders() {
        Some(left) if !all_gone => format!("left of generation {number}: {left}"),
        _ => format!("nothing is left of generation {number} but its library"),
    }
}

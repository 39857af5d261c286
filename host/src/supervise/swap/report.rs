//! What is told of a swap while it runs: each phase with its time, and at last the outcome. It has one writer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plugin_api::identity::Role;
use tokio::sync::watch;

use super::told::Told;
use crate::swap::{Order, Outcome, Phase, PhaseView, SwapView};

/// The writer. Where it is dropped without an outcome, the host has stopped.
pub struct Reporter {
    role: Role,
    told: Arc<Told>,
    view: watch::Sender<SwapView>,
    /// When the phase that runs began.
    began: Instant,
}

impl Reporter {
    /// Of a swap that was just asked for.
    pub fn new(role: Role, told: Arc<Told>, number: u64, order: Order, from: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let view = SwapView {
            number,
            order,
            asked_at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            from,
            to: None,
            phase: Some(Phase::Wait),
            phases: Vec::new(),
            outcome: None,
            passing: false,
            reason: String::new(),
        };
        Self { role, told, view: watch::Sender::new(view), began: Instant::now() }
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<SwapView> {
        self.view.subscribe()
    }

    /// What was asked for.
    pub fn order(&self) -> Order {
        self.view.borrow().order.clone()
    }

    /// A phase begins.
    pub fn begin(&mut self, phase: Phase) {
        self.began = Instant::now();
        self.view.send_modify(|view| view.phase = Some(phase));
    }

    /// It is this generation that is to be replaced.
    pub fn replaces(&self, from: u64) {
        self.view.send_modify(|view| view.from = from);
    }

    /// The new generation has this number.
    pub fn made(&self, to: u64) {
        self.view.send_modify(|view| view.to = Some(to));
    }

    /// The phase that runs has done this.
    pub fn done(&mut self, detail: String) {
        self.over(detail, false);
    }

    /// The phase that runs has failed.
    pub fn failed(&mut self, why: String) {
        self.over(why, true);
    }

    fn over(&mut self, detail: String, failed: bool) {
        let took = self.began.elapsed();
        let Some(phase) = self.view.borrow().phase else { return };
        let (role, number) = (&self.role, self.view.borrow().number);
        if failed {
            tracing::warn!(%role, swap = number, ?phase, detail, ?took, "a phase of the swap failed");
        } else {
            tracing::info!(%role, swap = number, ?phase, detail, ?took, "a phase of the swap is over");
        }
        self.began = Instant::now();
        let over = PhaseView { phase, took_ms: milliseconds(took), detail, failed };
        self.told.over(number, over.clone());
        self.view.send_modify(|view| {
            view.phase = None;
            view.phases.push(over);
        });
    }

    /// What it is refused for passes by itself, or does not.
    pub fn passing(&self, passes: bool) {
        self.view.send_modify(|view| view.passing = passes);
    }

    /// The end.
    pub fn finish(self, outcome: Outcome, reason: impl Into<String>) {
        self.end(outcome, reason.into());
    }

    fn end(&self, outcome: Outcome, reason: String) {
        let (role, number) = (&self.role, self.view.borrow().number);
        match outcome {
            Outcome::Committed => tracing::info!(%role, swap = number, reason, "the swap is committed"),
            Outcome::Refused => {
                tracing::warn!(%role, swap = number, reason, "the swap is refused: nothing has changed")
            }
            Outcome::RolledBack => tracing::error!(%role, swap = number, reason, "the swap was rolled back"),
            Outcome::Failed => tracing::error!(%role, swap = number, reason, "the swap failed"),
        }
        self.told.end(number, outcome, reason.clone());
        self.view.send_modify(|view| {
            view.phase = None;
            view.outcome = Some(outcome);
            view.reason = reason;
        });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let view = self.view.borrow().clone();
        if view.outcome.is_some() {
            return;
        }
        let switched = view.phases.iter().any(|over| over.phase == Phase::Switch && !over.failed);
        let outcome = if switched { Outcome::Committed } else { Outcome::Refused };
        self.end(outcome, "the host stops".to_owned());
    }
}

/// With microseconds.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporter() -> Reporter {
        let order = Order { plugin: "./lib.so".to_owned(), state: Default::default(), probation: None };
        Reporter::new(Role::new("alpha").expect("a role"), Arc::default(), 1, order, 1)
    }

    #[test]
    fn each_phase_is_told_and_then_the_outcome() {
        let mut reporter = reporter();
        let view = reporter.watch();
        reporter.begin(Phase::Prepare);
        assert_eq!(view.borrow().phase, Some(Phase::Prepare));
        reporter.made(2);
        reporter.done("opened".to_owned());
        reporter.begin(Phase::Gate);
        reporter.failed("a call runs".to_owned());
        reporter.finish(Outcome::Refused, "a call runs");
        let view = view.borrow();
        let phases: Vec<_> = view.phases.iter().map(|over| (over.phase, over.failed, over.detail.as_str())).collect();
        assert_eq!(phases, [(Phase::Prepare, false, "opened"), (Phase::Gate, true, "a call runs")]);
        assert_eq!((view.phase, view.outcome, view.to), (None, Some(Outcome::Refused), Some(2)));
    }

    #[test]
    fn one_that_nobody_ends_was_ended_by_a_stop() {
        for (phases, outcome) in
            [(&[Phase::Prepare][..], Outcome::Refused), (&[Phase::Prepare, Phase::Switch][..], Outcome::Committed)]
        {
            let mut reporter = reporter();
            let view = reporter.watch();
            for phase in phases {
                reporter.begin(*phase);
                reporter.done(String::new());
            }
            drop(reporter);
            assert_eq!(view.borrow().outcome, Some(outcome));
        }
    }
}

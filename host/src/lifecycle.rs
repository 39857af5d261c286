//! How one component stands: its state code, the steps of its start, and the one place that changes them.
//!
//! Leaf module without I/O: `startup` and `supervise` drive it, `serve` and `admin` follow its watch.

use std::time::{Duration, Instant};

use plugin_api::state::StateCode;
use tokio::sync::watch;

/// The steps of a start, the same for every component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The component is made.
    Initializing = 1,
    /// Coordinator dependencies are linked.
    Coordinators = 2,
    /// Node dependencies are linked. Then the component itself is started.
    Nodes = 3,
    /// Its session is registered in etcd, and the component activated.
    Register = 4,
    /// It serves.
    Healthy = 5,
}

impl Step {
    /// From 1 to 5.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Coordinators => "coordinator dependencies",
            Self::Nodes => "node dependencies and start",
            Self::Register => "register and activate",
            Self::Healthy => "healthy",
        }
    }
}

/// A step that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// Which one.
    pub step: Step,
    /// What it did, or why it failed.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
    /// Did it fail?
    pub failed: bool,
}

/// The state of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A step runs. Left for `Initializing` (the next step), `Healthy`, `StandBy`, `Abnormal` or `Stopping`.
    Initializing {
        /// The step.
        step: Step,
    },
    /// It serves. Left for `Abnormal`, `StandBy` or `Stopping`.
    Healthy,
    /// It waits for the active one to go. Left for `Healthy`, `StandBy` (behind another one), `Abnormal` or `Stopping`.
    StandBy {
        /// Who is active, for people.
        holder: String,
    },
    /// It failed. Left for `Initializing` (another try), `Abnormal` (quarantine) or `Stopping`.
    Abnormal {
        /// What failed.
        cause: String,
        /// When it is started again; `None` is quarantine.
        next_try: Option<Instant>,
    },
    /// It will end; never left.
    Stopping {
        /// New calls are refused.
        draining: bool,
    },
}

impl State {
    /// The state's code.
    pub fn code(&self) -> StateCode {
        match self {
            Self::Initializing { .. } => StateCode::Initializing,
            Self::Healthy => StateCode::Healthy,
            Self::StandBy { .. } => StateCode::StandBy,
            Self::Abnormal { .. } => StateCode::Abnormal,
            Self::Stopping { .. } => StateCode::Stopping,
        }
    }
}

/// What a component's watch shows.
#[derive(Clone, Debug)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Since when its calls are refused because its session is not held for certain; a flag beside the state.
    pub fenced: Option<Instant>,
    /// The steps of the last start, as far as it came.
    pub steps: Vec<StepReport>,
    /// How many times it was started again after a failure.
    pub restarts: u32,
    /// Which loaded copy of the plugin it is.
    pub generation: u64,
}

/// A change of state that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a component cannot go from {from:?} to {to:?}")]
pub struct Forbidden {
    from: State,
    to: State,
}

/// The owner of one component's state.
pub struct Lifecycle {
    // The one watch that tells everybody; nobody else writes it.
    status: watch::Sender<Status>,
}

impl Lifecycle {
    /// A component at the first step.
    pub fn new(generation: u64) -> Self {
        let state = State::Initializing { step: Step::Initializing };
        let status = Status { state, since: Instant::now(), fenced: None, steps: Vec::new(), restarts: 0, generation };
        Self { status: watch::Sender::new(status) }
    }

    /// Follows the component.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Its calls are refused from now on, or answered again. The state stays.
    pub fn fence(&self, fenced: bool) {
        self.status.send_if_modified(|status| {
            let differs = status.fenced.is_some() != fenced;
            if differs {
                status.fenced = fenced.then(Instant::now);
            }
            differs
        });
    }

    /// Another generation serves from now on. The state stays.
    pub fn serves(&self, generation: u64) {
        self.status.send_if_modified(|status| std::mem::replace(&mut status.generation, generation) != generation);
    }

    /// Goes to another state.
    ///
    /// # Errors
    ///
    /// [`Forbidden`], with nothing changed, where the way is not allowed.
    pub fn transition(&self, to: State) -> Result<(), Forbidden> {
        self.change(to, None)
    }

    /// Goes to where the last step leads, Healthy or StandBy, with its report in one change. A standby that takes over makes
    /// that step again, and its report goes in the place of the former.
    ///
    /// # Errors
    ///
    /// As [`transition`](Self::transition).
    pub fn arrive(&self, at: State, report: StepReport) -> Result<(), Forbidden> {
        self.change(at, Some(report))
    }

    fn change(&self, to: State, report: Option<StepReport>) -> Result<(), Forbidden> {
        let mut forbidden = None;
        self.status.send_if_modified(|status| {
            if !is_allowed(&status.state, &to) {
                forbidden = Some(Forbidden { from: status.state.clone(), to: to.clone() });
                return false;
            }
            if matches!((&status.state, &to), (State::Abnormal { .. }, State::Initializing { .. })) {
                status.steps.clear();
                status.restarts += 1;
            }
            if status.state.code() != to.code() {
                status.since = Instant::now();
            }
            // Who does not serve has nothing to fence.
            if !matches!(to, State::Healthy | State::Stopping { .. }) {
                status.fenced = None;
            }
            status.state = to.clone();
            if let Some(report) = &report {
                status.steps.retain(|former| former.step != report.step);
                status.steps.push(report.clone());
            }
            true
        });
        forbidden.map_or(Ok(()), Err)
    }

    /// Adds what a step did to the report.
    pub fn report(&self, report: StepReport) {
        self.status.send_modify(|status| status.steps.push(report));
    }
}

/// The rule of the house: who may follow whom.
fn is_allowed(from: &State, to: &State) -> bool {
    use State::{Abnormal, Healthy, Initializing, StandBy, Stopping};
    match (from, to) {
        (Initializing { step: from }, Initializing { step: to }) => from < to,
        (Initializing { .. }, Healthy | StandBy { .. } | Abnormal { .. } | Stopping { .. }) => true,
        (Healthy, StandBy { .. } | Abnormal { .. } | Stopping { .. }) => true,
        (Healthy, Initializing { .. } | Healthy) => false,
        (StandBy { .. }, Healthy | StandBy { .. } | Abnormal { .. } | Stopping { .. }) => true,
        (StandBy { .. }, Initializing { .. }) => false,
        (Abnormal { .. }, Initializing { step }) => *step == Step::Initializing,
        (Abnormal { .. }, Abnormal { .. } | Stopping { .. }) => true,
        (Abnormal { .. }, Healthy | StandBy { .. }) => false,
        (Stopping { draining }, Stopping { draining: to }) => !draining && *to,
        (Stopping { .. }, Initializing { .. } | Healthy | StandBy { .. } | Abnormal { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> Vec<State> {
        vec![
            State::Initializing { step: Step::Initializing },
            State::Initializing { step: Step::Register },
            State::Healthy,
            State::StandBy { holder: "x".to_owned() },
            State::Abnormal { cause: "x".to_owned(), next_try: None },
            State::Stopping { draining: false },
            State::Stopping { draining: true },
        ]
    }

    /// One row for each state that is left, one column for each that is entered, in the order of `states`.
    const ALLOWED: [&str; 7] = ["-xxxxxx", "--xxxxx", "---xxxx", "--xxxxx", "x---xxx", "------x", "-------"];

    #[test]
    fn every_pair_is_decided() {
        for (from, row) in states().into_iter().zip(ALLOWED) {
            for (to, cell) in states().into_iter().zip(row.chars()) {
                let lifecycle = Lifecycle::new(1);
                lifecycle.status.send_modify(|status| status.state = from.clone());
                let result = lifecycle.transition(to.clone());
                assert_eq!(result.is_ok(), cell == 'x', "{from:?} → {to:?}");
                let expected = if result.is_ok() { &to } else { &from };
                assert_eq!(&lifecycle.status().state, expected);
            }
        }
    }

    #[test]
    fn another_try_begins_a_new_report() {
        let lifecycle = Lifecycle::new(1);
        lifecycle.report(StepReport {
            step: Step::Initializing,
            detail: "made".to_owned(),
            took: Duration::from_millis(1),
            failed: false,
        });
        lifecycle.transition(State::Abnormal { cause: "x".to_owned(), next_try: None }).expect("allowed");
        assert_eq!(lifecycle.status().steps.len(), 1);
        lifecycle.transition(State::Initializing { step: Step::Initializing }).expect("allowed");
        let status = lifecycle.status();
        assert_eq!((status.steps.len(), status.restarts), (0, 1));
    }

    #[test]
    fn a_fence_ends_where_nothing_is_served() {
        let lifecycle = Lifecycle::new(1);
        for (to, fenced) in [
            (State::Healthy, true),
            (State::StandBy { holder: "x".to_owned() }, false),
            (State::Healthy, true),
            (State::Stopping { draining: false }, true),
        ] {
            lifecycle.fence(true);
            lifecycle.transition(to.clone()).expect("allowed");
            assert_eq!(lifecycle.status().fenced.is_some(), fenced, "{to:?}");
        }
        lifecycle.fence(false);
        assert_eq!(lifecycle.status().fenced, None);
    }

    #[test]
    fn a_step_that_is_made_again_is_reported_once() {
        let lifecycle = Lifecycle::new(1);
        let report = |detail: &str| StepReport {
            step: Step::Healthy,
            detail: detail.to_owned(),
            took: Duration::ZERO,
            failed: false,
        };
        lifecycle.arrive(State::StandBy { holder: "x".to_owned() }, report("standing by")).expect("allowed");
        lifecycle.arrive(State::Healthy, report("serving")).expect("allowed");
        assert_eq!(lifecycle.status().steps, [report("serving")]);
    }
}

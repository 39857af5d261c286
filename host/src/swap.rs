//! A swap: the running generation of a component is replaced by another one, as a transaction.
//!
//! Here are its words: what is asked for ([`Order`]), its phases, how it ended ([`Outcome`]), and what people are shown of it
//! ([`SwapView`]). No I/O: `supervise` does it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is done about the state of the generation that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateMode {
    /// It is handed over; a component that gives or takes none is not swapped.
    #[default]
    Keep,
    /// It is handed over where the component gives one. For development: one that has no snapshot is replaced all the same.
    Try,
    /// It is dropped: the new generation reads what is in the metadata, and no more.
    Fresh,
}

/// What a swap is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The plugin, as in the configuration: a name, or a path, which has a slash.
    pub plugin: String,
    /// What becomes of the state.
    #[serde(default)]
    pub state: StateMode,
    /// How long the former generation is kept, so that a new one that fails is rolled back; `None` is what is configured.
    #[serde(default, with = "humantime_serde")]
    pub probation: Option<Duration>,
}

/// How far a swap has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Another swap of the component is not over, or the component is just starting.
    Wait,
    /// The file is checked, copied and opened, and a component is made of it.
    Prepare,
    /// Calls of gated methods are held, and those that run end.
    Gate,
    /// The former generation gives its state, and the new one takes it.
    HandOver,
    /// The new generation starts.
    Warm,
    /// The former generation is deactivated, the new one activated; from here on calls go to the new one.
    Switch,
    /// The new generation serves, and the former one is kept.
    Probation,
    /// The former generation's calls end, and it is stopped.
    Commit,
    /// The former generation serves again.
    RollBack,
}

/// How a swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new generation serves.
    Committed,
    /// The former generation serves as if nothing had been.
    Refused,
    /// The new generation had served, and failed: the former one serves again.
    RolledBack,
    /// Neither could serve: the component is Abnormal, and is started again.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Committed, Self::Refused, Self::RolledBack, Self::Failed];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Refused => "refused",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }
}

/// A phase that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseView {
    /// Which one.
    pub phase: Phase,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What it did, or why it failed.
    pub detail: String,
    /// Did it fail?
    pub failed: bool,
}

/// A swap as people are shown it; each state of it has one line more, or the outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwapView {
    /// The component's swaps are counted from 1.
    pub number: u64,
    /// What was asked for.
    pub order: Order,
    /// When, in milliseconds since 1970.
    pub asked_at_ms: u64,
    /// Which generation served when the swap began.
    pub from: u64,
    /// The generation that was made; `None` before that.
    pub to: Option<u64>,
    /// The phase that runs; `None` once it is over.
    pub phase: Option<Phase>,
    /// The phases that are over, in order.
    pub phases: Vec<PhaseView>,
    /// How it ended; `None` before that.
    pub outcome: Option<Outcome>,
    /// It was refused for something that passes by itself, such as a call that runs: the same may succeed a little later.
    #[serde(default)]
    pub passing: bool,
    /// Why it ended otherwise than by a commit; what else is worth knowing where it was one. Empty before its end.
    pub reason: String,
}

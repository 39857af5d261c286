//! The state codes of a component, with Milvus' names and numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a component stands. A fence is a flag beside it, never a code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StateCode {
    /// Steps 1 to 4 of the start run. An operator waits; the admin answer shows the step and what it waits for.
    Initializing,
    /// Started, registered, serving. Nothing to do.
    Healthy,
    /// Its start, its life or its code failed. It is started again by itself, until it is held in quarantine; an
    /// operator reads the cause in the admin answer.
    Abnormal,
    /// Started, and waiting for the active one to go. Nothing to do.
    StandBy,
    /// On its way out: it serves until its work has moved elsewhere or the grace is over.
    Stopping,
}

impl StateCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Initializing, Self::Healthy, Self::Abnormal, Self::StandBy, Self::Stopping];

    /// Milvus' number of this code (`commonpb.StateCode`).
    pub fn number(self) -> i32 {
        match self {
            Self::Initializing => 0,
            Self::Healthy => 1,
            Self::Abnormal => 2,
            Self::StandBy => 3,
            Self::Stopping => 4,
        }
    }

    /// The code with that number, where there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The code's name, as it is shown and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "Initializing",
            Self::Healthy => "Healthy",
            Self::Abnormal => "Abnormal",
            Self::StandBy => "StandBy",
            Self::Stopping => "Stopping",
        }
    }
}

impl fmt::Display for StateCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

//! What a peer says of itself: in the answer who it is, or in the refusal of a call.

use std::fmt;

use plugin_api::refusal::{Reason, Refusal, key};
use plugin_api::state::StateCode;

/// How a peer's role stands, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub code: StateCode,
    /// Its session is not held for certain, and it does not serve without.
    pub fenced: bool,
}

/// Why a peer does not serve, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Says {
    /// `FENCED`, `NOT_HEALTHY`, `QUARANTINED` or `STANDBY`.
    pub reason: Reason,
    /// Its state.
    pub code: StateCode,
}

impl Standing {
    /// Is a link to it proved? `standby`: etcd's table has it as one that waits for the active one to go.
    ///
    /// # Errors
    ///
    /// Why it is not to be called. One that stops is called until it refuses.
    pub fn proves(self, standby: bool) -> Result<(), Says> {
        let reason = match self.code {
            StateCode::Initializing | StateCode::Abnormal => Reason::NotHealthy,
            StateCode::StandBy if !standby => Reason::Standby,
            StateCode::Healthy | StateCode::Stopping if self.fenced => Reason::Fenced,
            StateCode::Healthy | StateCode::Stopping | StateCode::StandBy => return Ok(()),
        };
        Err(Says { reason, code: self.code })
    }
}

impl Says {
    /// One in standby that is to be active.
    pub const STANDBY: Self = Self { reason: Reason::Standby, code: StateCode::StandBy };

    /// What the peer's own refusal of a call says of it; none where it is about this call alone, or it is on its way out.
    pub fn in_refusal(refusal: &Refusal) -> Option<Self> {
        let code = match refusal.reason {
            Reason::Fenced => StateCode::Healthy,
            Reason::NotHealthy | Reason::Quarantined => StateCode::Abnormal,
            Reason::Standby => StateCode::StandBy,
            _ => return None,
        };
        let named = refusal.details.get(key::STATE_CODE);
        let said = StateCode::ALL.iter().find(|code| named.is_some_and(|named| named == code.as_str()));
        Some(Self { reason: refusal.reason, code: said.copied().unwrap_or(code) })
    }
}

impl fmt::Display for Says {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Fenced => formatter.write_str("fenced"),
            Reason::Quarantined => write!(formatter, "{}, in quarantine", self.code),
            _ => self.code.fmt(formatter),
        }
    }
}

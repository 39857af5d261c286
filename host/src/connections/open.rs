//! A connection that is open, as it is counted.

use std::sync::Arc;

use super::link::Ended;
use crate::metrics::{Disconnect, OfRole};

/// It ends once, whoever ends it.
pub(super) struct Open {
    measured: Arc<OfRole>,
    why: Disconnect,
}

impl Open {
    /// Counts it as open.
    pub fn new(measured: &Arc<OfRole>) -> Self {
        measured.links.opened();
        Self { measured: Arc::clone(measured), why: Disconnect::Shutdown }
    }

    /// It has come to its end. Where nobody here has its link any more it has ended for that reason.
    pub fn ended(&mut self, ended: &Ended, is_held: bool) {
        self.why = match ended {
            _ if !is_held => Disconnect::Shutdown,
            Ended::GoingAway(code) => Disconnect::GoAway(*code),
            Ended::Lost(_, why) => *why,
        };
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.measured.links.closed(self.why);
    }
}

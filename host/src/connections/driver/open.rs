//! A link that is open, as it is counted.

use std::sync::{Arc, Weak};

use crate::connections::link::{Ended, Link};
use crate::metrics::{Disconnect, OfRole};

/// It ends once, whoever ends it.
pub(super) struct Open {
    measured: Arc<OfRole>,
    link: Weak<Link>,
    why: Disconnect,
}

impl Open {
    /// Counts the link as open.
    pub fn new(measured: &Arc<OfRole>, link: &Arc<Link>) -> Self {
        measured.links.opened();
        Self { measured: Arc::clone(measured), link: Arc::downgrade(link), why: Disconnect::Shutdown }
    }

    /// It has come to its end.
    pub fn ended(&mut self, ended: &Ended) {
        self.why = match ended {
            // Nobody here has it any more: it has ended for that reason.
            _ if self.link.strong_count() == 0 => Disconnect::Shutdown,
            Ended::GoingAway => Disconnect::GoAway,
            Ended::Lost(_, why) => *why,
        };
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.measured.links.closed(self.why);
    }
}

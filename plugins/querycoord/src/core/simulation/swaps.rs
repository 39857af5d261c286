//! Another generation takes over: what the one knows goes through bytes to the next, and the metadata is read again.

use super::super::{Action, Core, Input, Knowledge};
use super::nodes::failed;
use super::world::{SETTINGS, World};

impl World {
    /// Committed, or refused, so that the old one goes on.
    pub(super) fn swap(&mut self) {
        let is_refused = self.random.u32(0..4) == 0;
        self.say(|| if is_refused { "a swap is refused" } else { "another generation takes over" }.to_owned());
        let before = self.reachable();
        self.core.pause();
        self.end_what_others_find();
        // Loads end; one that was done has been, a write that was not waited for may be carried out later.
        let (now, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|_| self.random.bool());
        self.may_be_carried_out(now);
        let knowledge = serde_json::to_vec(&self.core.knowledge(self.now)).expect("it can be written");
        self.core = if is_refused {
            self.core.again(self.now)
        } else {
            let (mut core, unreadable) = Core::new(SETTINGS, self.metadata.clone());
            assert!(unreadable.is_empty(), "{unreadable:?}");
            core.recall(self.now, serde_json::from_slice::<Knowledge>(&knowledge).expect("it can be read"));
            core
        };
        self.may_be_carried_out(late);
        self.callers_go();
        self.tell_anew();
        self.check_step(&before);
    }

    /// Writes and releases are waited for, mostly.
    fn end_what_others_find(&mut self) {
        let waits = self.random.u32(0..4) > 0;
        let awaited = |(action, _): &(Action, Option<Input>)| {
            matches!(action, Action::Write(_) | Action::Read(_) | Action::Release { .. })
        };
        while waits && let Some(at) = self.under_way.iter().position(awaited) {
            let (action, done) = self.under_way.swap_remove(at);
            let done = done.or_else(|| self.carry_out(&action)).unwrap_or_else(|| failed(&action));
            self.say(|| format!("  <- {done:?}"));
            for action in self.core.step(self.now, done) {
                let Action::Answer(token, done) = action else { panic!("{action:?} is begun in a swap") };
                self.answered(token, *done);
            }
        }
        assert!(!waits || self.core.is_quiet());
    }

    fn may_be_carried_out(&mut self, actions: Vec<(Action, Option<Input>)>) {
        for (action, done) in actions {
            if done.is_none() && self.random.bool() {
                self.carry_out(&action);
            }
        }
    }

    /// At rest another generation finds nothing to do.
    pub(super) fn check_swap_at_rest(&mut self) {
        self.at_rest = true;
        self.swap();
        while self.go_on() {}
        self.check_rest();
    }
}

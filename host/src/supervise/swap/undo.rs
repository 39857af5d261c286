//! How far an exchange of generations has come, and so what has to be undone where it goes no further. Pure.

use plugin_api::component::Resume;
use plugin_api::peers::Registration;

/// What has been done to the two generations before the routes change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The registration under which the former one was active when it began; `None` where it was not.
    pub active_under: Option<Registration>,
    /// The former one was asked for its state, and so has paused.
    pub paused: bool,
    /// The former one was told `deactivate`.
    pub former_deactivated: bool,
    /// The new one was told `activate`.
    pub new_activated: bool,
    /// It has written metadata, or tried to.
    pub new_may_have_written: bool,
}

/// What is done, in this order, so that the former generation serves as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The new one is told `deactivate`.
    DeactivateNew,
    /// The former one is told `deactivate`, so that it can be told `activate`.
    DeactivateFormer,
    /// The former one is told `activate`.
    ActivateFormer(Resume, Registration),
}

impl Progress {
    /// What has to be undone.
    pub fn undo(self) -> Vec<Undo> {
        let mut steps = Vec::new();
        if self.new_activated {
            steps.push(Undo::DeactivateNew);
        }
        // One that was not active was told nothing, and has nothing to go on with.
        let Some(under) = self.active_under else { return steps };
        if self.paused && !self.former_deactivated {
            steps.push(Undo::DeactivateFormer);
        }
        if self.paused || self.former_deactivated {
            // No call has come to the new one. Where it has written nothing either, what the former one knows is true, and it
            // needs no etcd to go on.
            let resume = if self.new_may_have_written { Resume::RolledBack } else { Resume::Kept };
            steps.push(Undo::ActivateFormer(resume, under));
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNDER: Registration = Registration { create_revision: 7, lease_id: 1 };

    fn undo(active: bool, paused: bool, former_deactivated: bool, new_activated: bool) -> Vec<Undo> {
        let active_under = active.then_some(UNDER);
        let new_may_have_written = new_activated;
        Progress { active_under, paused, former_deactivated, new_activated, new_may_have_written }.undo()
    }

    #[test]
    fn the_former_one_is_activated_by_what_was_done_to_it() {
        use Undo::{ActivateFormer, DeactivateFormer, DeactivateNew};
        let (yes, no) = (true, false);
        let kept = ActivateFormer(Resume::Kept, UNDER);
        assert_eq!(undo(yes, no, no, no), []);
        assert_eq!(undo(yes, yes, no, no), [DeactivateFormer, kept]);
        assert_eq!(undo(yes, yes, yes, no), [kept]);
        assert_eq!(undo(yes, no, yes, no), [kept]);
        for paused in [yes, no] {
            assert_eq!(undo(yes, paused, yes, yes), [DeactivateNew, ActivateFormer(Resume::RolledBack, UNDER)]);
        }
    }

    #[test]
    fn what_the_former_one_knows_is_true_unless_the_new_one_has_written() {
        for (new_may_have_written, resume) in [(false, Resume::Kept), (true, Resume::RolledBack)] {
            let progress = Progress {
                active_under: Some(UNDER),
                paused: true,
                former_deactivated: true,
                new_activated: true,
                new_may_have_written,
            };
            assert_eq!(progress.undo(), [Undo::DeactivateNew, Undo::ActivateFormer(resume, UNDER)]);
        }
    }

    #[test]
    fn one_that_was_not_active_is_told_nothing() {
        for paused in [true, false] {
            assert_eq!(undo(false, paused, false, false), []);
        }
    }

    #[test]
    fn activate_and_deactivate_alternate_for_both() {
        for bits in 0..16_u8 {
            let bit = |at: u8| bits & (1 << at) != 0;
            let (active, former_deactivated) = (bit(0), bit(2) && bit(0));
            let (mut former, mut new) = (active && !former_deactivated, bit(3) && former_deactivated);
            for step in undo(active, bit(1), former_deactivated, new) {
                let (which, to) = match step {
                    Undo::DeactivateNew => (&mut new, false),
                    Undo::DeactivateFormer => (&mut former, false),
                    Undo::ActivateFormer(..) => (&mut former, true),
                };
                assert_ne!(*which, to, "{bits:b}");
                *which = to;
            }
            assert_eq!((former, new), (active, false), "{bits:b}");
        }
    }
}

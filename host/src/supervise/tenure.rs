//! A component's tenure: what it is told as its session comes, wavers, goes to another and comes back. Pure: what is seen of
//! the session comes in, one thing to do goes out.
//!
//! Only the latest that is seen matters: a session that wavers faster than the component can be told of it converges. What
//! lay between is known by the registration: under another one an exclusive component may have had a successor, so that
//! nothing it remembers is true any more. An `activate` is always followed by one `deactivate`. The driver is in
//! [`super::driver`].

use plugin_api::component::{Deactivation, Resume};
use plugin_api::descriptor::{Kind, LeasePolicy};
use plugin_api::peers::Registration;

/// What holds for one component throughout its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A coordinator's key is anybody's, a node's its own.
    pub kind: Kind,
    /// What happens while the lease is not certain.
    pub policy: LeasePolicy,
    /// Does a coordinator stand by while another is active?
    pub standby: bool,
}

/// What is seen of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is held for certain.
    Active {
        /// Under this registration of its key. Its create revision alone would not do: an etcd that has lost its data comes
        /// to the same revisions again.
        registration: Registration,
    },
    /// It is not registered, or nobody knows.
    Uncertain,
    /// Another process has the key. Is the own standby key there? That makes no difference here.
    Other {
        /// That process, for people.
        holder: String,
    },
    /// Its key was deleted, and that is to stop the host.
    Deleted,
    /// It was given up on purpose.
    Revoked,
}

/// What is to be done. It counts as done once it is given out: a component whose `activate` fails has been activated all the
/// same, and is deactivated at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something else is seen.
    Wait,
    /// The component is told that it may work.
    Activate {
        /// What it may rely on.
        resume: Resume,
        /// The registration that it is activated under.
        registration: Registration,
    },
    /// The component is told that it may not.
    Deactivate(Deactivation),
    /// It is not told, and works on under this registration of a key that could be nobody else's.
    GoOn {
        /// The key's new registration.
        registration: Registration,
    },
    /// Its calls are refused from now on.
    Fence,
    /// Its calls are answered again.
    Lift,
    /// It waits for another to go, and does not serve.
    StandBy {
        /// Whom it waits for, for people.
        holder: String,
    },
    /// It serves in place of the one that it waited for.
    TakeOver,
    /// Another has its key, and it is not to stand by: its life ends.
    Replaced {
        /// Who has it, for people.
        holder: String,
    },
    /// Its key was deleted, and that is to stop the host.
    Deleted,
}

/// What the component was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Neither in this life.
    Nothing,
    /// `activate`, under this registration. Exits: `Deactivated`.
    Activated(Registration),
    /// `deactivate`, after having been active under this registration. Exits: `Activated`.
    Deactivated(Deactivation, Registration),
}

/// The tenure of one component in one life.
#[derive(Debug)]
pub struct Tenure {
    rules: Rules,
    told: Told,
    /// Has another held the key since the component was made, or was it active in a life before? Then it takes over.
    after_another: bool,
    fenced: bool,
    /// Whom it stands by for.
    behind: Option<String>,
    deleted: bool,
}

impl Tenure {
    /// Of a component that was just made; `again` where it is not the first one under this session.
    pub fn new(rules: Rules, again: bool) -> Self {
        Self { rules, told: Told::Nothing, after_another: again, fenced: false, behind: None, deleted: false }
    }

    /// Was it told `activate`, and not `deactivate`?
    pub fn is_activated(&self) -> bool {
        matches!(self.told, Told::Activated(_))
    }

    /// The registration that it is active under.
    pub fn active_under(&self) -> Option<Registration> {
        match self.told {
            Told::Activated(under) => Some(under),
            Told::Nothing | Told::Deactivated(..) => None,
        }
    }

    /// A swap takes the work from the generation that has it; nothing is done where none has.
    pub fn swap_out(&mut self) -> Option<Registration> {
        let under = self.active_under()?;
        self.told = Told::Deactivated(Deactivation::SwappedOut, under);
        Some(under)
    }

    /// A generation was given the work, under the registration that another had it under.
    pub fn swap_in(&mut self, under: Registration) {
        self.told = Told::Activated(under);
    }

    /// The generation that has the place is to be told `activate` only when the session is held again; is what it knows true
    /// as long as nobody else is active meanwhile?
    pub fn put_off(&mut self, knows: bool) {
        if let Told::Deactivated(_, under) = self.told {
            let reason = if knows { Deactivation::Fenced } else { Deactivation::SwappedOut };
            self.told = Told::Deactivated(reason, under);
        }
    }

    /// The generation that has the place now knows nothing of what the one before did: when it is activated it takes over.
    pub fn forget(&mut self) {
        match self.told {
            Told::Nothing => self.after_another = true,
            Told::Deactivated(_, under) => self.told = Told::Deactivated(Deactivation::SwappedOut, under),
            Told::Activated(_) => {}
        }
    }

    /// The component's life ends: true where it has to be told `deactivate`, once.
    pub fn end(&mut self) -> bool {
        let activated = self.is_activated();
        if let Told::Activated(under) = self.told {
            self.told = Told::Deactivated(Deactivation::Stop, under);
        }
        activated
    }

    /// What is to be done, now that this is seen. Asked again after each, with what is seen then.
    pub fn next(&mut self, seen: &Seen) -> Action {
        match seen {
            Seen::Active { registration } => self.active(*registration),
            Seen::Uncertain => self.uncertain(),
            Seen::Other { holder } => self.replaced(holder),
            Seen::Deleted if !std::mem::replace(&mut self.deleted, true) => Action::Deleted,
            Seen::Deleted | Seen::Revoked => Action::Wait,
        }
    }

    fn active(&mut self, registration: Registration) -> Action {
        let told = self.told;
        match told {
            Told::Activated(under) if under == registration => {
                if std::mem::take(&mut self.fenced) {
                    Action::Lift
                } else if self.behind.take().is_some() {
                    Action::TakeOver
                } else {
                    Action::Wait
                }
            }
            Told::Activated(_) if self.rules.kind == Kind::Node => {
                self.told = Told::Activated(registration);
                Action::GoOn { registration }
            }
            // The gap was not seen, but it was there.
            Told::Activated(_) if self.is_fence_due() => Action::Fence,
            Told::Activated(under) => self.deactivate(Deactivation::Replaced, under),
            Told::Nothing if self.after_another => self.activate(Resume::TakenOver, registration),
            Told::Nothing => self.activate(Resume::Fresh, registration),
            Told::Deactivated(Deactivation::Fenced, under)
                if under == registration || self.rules.kind == Kind::Node =>
            {
                self.activate(Resume::Kept, registration)
            }
            Told::Deactivated(..) => self.activate(Resume::TakenOver, registration),
        }
    }

    fn uncertain(&mut self) -> Action {
        match self.told {
            Told::Activated(under) if self.rules.policy == LeasePolicy::Fence => {
                if self.is_fence_due() {
                    Action::Fence
                } else {
                    self.deactivate(Deactivation::Fenced, under)
                }
            }
            _ => Action::Wait,
        }
    }

    fn replaced(&mut self, holder: &str) -> Action {
        self.after_another = true;
        if self.rules.standby && self.rules.kind == Kind::Coordinator {
            // First its callers are turned away, then it is told.
            if self.behind.as_deref() != Some(holder) {
                self.behind = Some(holder.to_owned());
                self.fenced = false;
                return Action::StandBy { holder: holder.to_owned() };
            }
            match self.told {
                Told::Activated(under) => self.deactivate(Deactivation::Replaced, under),
                Told::Nothing | Told::Deactivated(..) => Action::Wait,
            }
        } else if self.told == Told::Nothing {
            // It waits for the key, as long as it was never its own.
            Action::Wait
        } else {
            Action::Replaced { holder: holder.to_owned() }
        }
    }

    /// Is the fence to be put up now? It is the first thing that happens, before the component is told.
    fn is_fence_due(&mut self) -> bool {
        self.rules.policy == LeasePolicy::Fence && !std::mem::replace(&mut self.fenced, true)
    }

    fn activate(&mut self, resume: Resume, registration: Registration) -> Action {
        self.told = Told::Activated(registration);
        Action::Activate { resume, registration }
    }

    fn deactivate(&mut self, reason: Deactivation, under: Registration) -> Action {
        self.told = Told::Deactivated(reason, under);
        Action::Deactivate(reason)
    }
}

#[cfg(test)]
mod tests;

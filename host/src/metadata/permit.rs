//! Leave to act as the holder of a role's session: given when the component is activated, for one registration of the key.
//!
//! That the session is held is not enough: it may have been another's in between, and the component not know of it yet. So
//! the permit names the registration under which the component was activated, and under any other it is worth nothing.

use std::sync::Arc;

use plugin_api::peers::Registration;
use tokio::sync::watch;

use crate::session::SessionGuard;

/// The leave of one component. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Permit {
    // A watch, so that who waits for the permit to end is told when it is withdrawn.
    given: Arc<watch::Sender<Option<Given>>>,
}

#[derive(Clone)]
struct Given {
    guard: SessionGuard,
    registration: Registration,
}

impl Permit {
    /// Gives leave for as long as this session is held under this registration; in place of what was given before.
    pub fn give(&self, guard: SessionGuard, registration: Registration) {
        self.given.send_replace(Some(Given { guard, registration }));
    }

    /// Takes the leave back.
    pub fn withdraw(&self) {
        self.given.send_replace(None);
    }

    /// May the component act at this very moment? One look at a clock.
    pub fn is_valid(&self) -> bool {
        self.given.borrow().as_ref().is_some_and(Given::is_valid)
    }

    /// The session's key and its create revision where the permit is valid: what a write compares.
    pub fn current(&self) -> Option<(String, i64)> {
        let given = self.given.borrow();
        let given = given.as_ref()?;
        let (key, registration) = given.guard.current()?;
        (registration == given.registration).then_some((key, registration.create_revision))
    }

    /// Returns when [`Permit::is_valid`] is this.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn until(&self, valid: bool) {
        let mut given = self.given.subscribe();
        loop {
            let mut guard = given.borrow_and_update().as_ref().map(|given| given.guard.clone());
            while self.is_valid() != valid {
                tokio::select! {
                    // It cannot fail: `self` has the sender.
                    _ = given.changed() => break,
                    () = changed(guard.as_mut()) => {}
                }
            }
            if self.is_valid() == valid {
                return;
            }
        }
    }
}

impl Given {
    fn is_valid(&self) -> bool {
        self.guard.certain_registration() == Some(self.registration)
    }
}

async fn changed(guard: Option<&mut SessionGuard>) {
    match guard {
        Some(guard) => drop(guard.certainty_changed().await),
        None => std::future::pending().await,
    }
}

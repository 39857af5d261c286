//! Leave to act as the holder of a role's session: given when the component is activated, for one registration of the key.
//!
//! That the session is held is not enough: it may have been another's in between, and the component not know of it yet. So
//! the permit names the registration under which the component was activated, and under any other it is worth nothing.

use std::sync::Arc;

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
    create_revision: i64,
}

impl Permit {
    /// Gives leave for as long as this session is held under the create revision; in place of what was given before.
    pub fn give(&self, guard: SessionGuard, create_revision: i64) {
        self.given.send_replace(Some(Given { guard, create_revision }));
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
        given.guard.current().filter(|(_, create_revision)| *create_revision == given.create_revision)
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
        self.guard.certain_revision() == Some(self.create_revision)
    }
}

async fn changed(guard: Option<&mut SessionGuard>) {
    match guard {
        Some(guard) => drop(guard.certainty_changed().await),
        None => std::future::pending().await,
    }
}

//! Holding calls while a swap hands a component's state over: those of the methods that the component gates.
//!
//! A call is counted by its generation first and looks at the hold then; a swap puts the hold up first and looks at the count
//! then. So each call is either held or waited for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::plugin::CallEntry;

/// The methods that a component gates.
#[derive(Clone, Debug, Default)]
pub struct Gated(Arc<Methods>);

#[derive(Debug)]
enum Methods {
    All,
    Some(BTreeSet<String>),
}

impl Default for Methods {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Gated {
    /// As a descriptor names them: full gRPC paths, or `*`.
    pub fn new(paths: &[String]) -> Self {
        if paths.iter().any(|path| path == "*") {
            return Self(Arc::new(Methods::All));
        }
        Self(Arc::new(Methods::Some(paths.iter().cloned().collect())))
    }

    /// Is this one of them?
    pub fn contains(&self, path: &str) -> bool {
        match &*self.0 {
            Methods::All => true,
            Methods::Some(paths) => paths.contains(path),
        }
    }
}

/// The hold of one component. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Hold {
    // Held calls wait for its end.
    up: Arc<watch::Sender<bool>>,
    // Whoever swaps waits for a call that has waited too long.
    held: Arc<watch::Sender<Held>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    now: usize,
    all: usize,
    /// Since when calls have been held without a break.
    since: Option<Instant>,
}

/// What a hold has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCalls {
    /// How many calls were held.
    pub calls: usize,
    /// For how long at most.
    pub longest: Duration,
}

impl Hold {
    /// Calls of gated methods are held from now on.
    pub fn put_up(&self) {
        self.held.send_modify(|held| held.all = 0);
        self.up.send_replace(true);
    }

    /// They go on.
    pub fn lift(&self) -> HeldCalls {
        let held = *self.held.borrow();
        self.up.send_replace(false);
        HeldCalls { calls: held.all, longest: held.since.map(|since| since.elapsed()).unwrap_or_default() }
    }

    /// Is this call to be held? It has been counted, as it must have been before this is asked.
    pub fn holds(&self, _counted: &CallEntry) -> bool {
        *self.up.borrow()
    }

    /// Waits, as a call, until the hold is lifted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn lifted(&self) {
        let mut up = self.up.subscribe();
        if !*up.borrow_and_update() {
            return;
        }
        let _counted = Waiting::begin(&self.held);
        // It cannot fail: `self` has the sender.
        let _ = up.wait_for(|up| !up).await;
    }

    /// Returns when calls have been held for so long.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn overheld(&self, limit: Duration) {
        let mut held = self.held.subscribe();
        loop {
            let since = held.borrow_and_update().since;
            tokio::select! {
                // As above.
                _ = held.changed() => {}
                () = tokio::time::sleep_until((since.unwrap_or_else(Instant::now) + limit).into()), if since.is_some() => return,
            }
        }
    }
}

/// A call that is held.
struct Waiting<'a>(&'a watch::Sender<Held>);

impl<'a> Waiting<'a> {
    fn begin(held: &'a watch::Sender<Held>) -> Self {
        held.send_modify(|held| {
            held.now += 1;
            held.all += 1;
            held.since.get_or_insert_with(Instant::now);
        });
        Self(held)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| {
            held.now -= 1;
            if held.now == 0 {
                held.since = None;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_gated_by_their_path_or_all() {
        let some = Gated::new(&["/a.B/Put".to_owned()]);
        assert!(some.contains("/a.B/Put") && !some.contains("/a.B/Get") && !some.contains("*"));
        let all = Gated::new(&["/a.B/Put".to_owned(), "*".to_owned()]);
        assert!(all.contains("/a.B/Get"));
        assert!(!Gated::default().contains("/a.B/Put"));
    }

    #[tokio::test]
    async fn calls_are_held_until_it_is_lifted_and_counted() {
        let hold = Hold::default();
        hold.lifted().await;
        hold.put_up();
        let (mut first, mut second) = (Box::pin(hold.lifted()), Box::pin(hold.lifted()));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(second);
        let lifted = hold.lift();
        assert_eq!(lifted.calls, 2);
        first.await;
        hold.put_up();
        assert_eq!(hold.lift(), HeldCalls::default());
    }

    #[tokio::test]
    async fn a_call_that_is_held_too_long_is_told() {
        let (hold, limit) = (Hold::default(), Duration::from_millis(20));
        hold.put_up();
        let mut over = Box::pin(hold.overheld(limit));
        assert!(tokio::time::timeout(limit * 2, &mut over).await.is_err(), "nobody is held");
        let mut call = Box::pin(hold.lifted());
        let began = Instant::now();
        assert!(futures_util::poll!(&mut call).is_pending());
        over.await;
        assert!(began.elapsed() >= limit && *hold.up.borrow());
    }
}

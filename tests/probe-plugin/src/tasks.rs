//! Tasks that the probe spawns by its context, and how they stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plugin_api::Context;
use plugin_api::task::Task;

use crate::v1::TaskKind;

/// The tasks of one probe by name.
#[derive(Clone, Default)]
pub struct Tasks {
    states: Arc<Mutex<BTreeMap<String, &'static str>>>,
    handles: Arc<Mutex<BTreeMap<String, Task<()>>>>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&self, context: &Context, name: &str, kind: TaskKind) {
        let watched = Watched { tasks: self.clone(), name: name.to_owned(), ended: "dropped" };
        watched.set("running");
        let task = context.spawn(name, async move {
            // All of it, so that it is dropped with the future.
            let mut watched = watched;
            match kind {
                TaskKind::Tick => loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                },
                TaskKind::Return => watched.ended = "returned",
                TaskKind::Panicking => panic!("a task panics"),
            }
        });
        lock(&self.handles).insert(name.to_owned(), task);
    }

    /// Aborts a task.
    pub fn abort(&self, name: &str) {
        if let Some(task) = lock(&self.handles).remove(name) {
            task.abort();
        }
    }

    /// How each task stands.
    pub fn states(&self) -> BTreeMap<String, String> {
        lock(&self.states).iter().map(|(name, state)| (name.clone(), (*state).to_owned())).collect()
    }
}

/// Says how a task ended when its future is dropped.
struct Watched {
    tasks: Tasks,
    name: String,
    ended: &'static str,
}

impl Watched {
    fn set(&self, state: &'static str) {
        lock(&self.tasks.states).insert(self.name.clone(), state);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.set(self.ended);
        tracing::info!(task = self.name, state = self.ended, "task ended");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

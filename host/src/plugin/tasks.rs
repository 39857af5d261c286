//! A component's tasks, run on the host's workers, and the streams that it follows: what belongs to a call that is being
//! served, and what goes on by itself.
//!
//! Of two generations of a component only one works in the background, while calls of both may run: so the two kinds end
//! apart.

use std::sync::{Arc, Mutex, PoisonError};

use plugin_api::border::v1::component::LifeError;
use plugin_api::border::v1::host::SpawnedTask;
use plugin_api::call::Call;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::Ledger;

/// The tasks of one generation. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    runtime: Handle,
    ledger: Arc<Ledger>,
    /// What goes on by itself. Exchanged for another when it ends: the component may work again.
    background: Arc<Mutex<Group>>,
    /// What belongs to calls. Exchanged likewise.
    of_calls: Arc<Mutex<Group>>,
    /// Cancelled when all ends for good.
    ended: CancellationToken,
    // A task that panicked is a failure of the component's life. Unbounded: one entry for each task at most.
    failures: mpsc::UnboundedSender<LifeError>,
}

/// Tasks and streams that end together.
#[derive(Clone, Default)]
struct Group {
    // Owns the tasks' ends: `end` waits for all of them.
    tracker: TaskTracker,
    // Ends all at once; each task has a child of it for its own abort.
    stop: CancellationToken,
}

impl Group {
    async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Tasks {
    /// None yet.
    pub fn new(runtime: Handle, ledger: Arc<Ledger>, failures: mpsc::UnboundedSender<LifeError>) -> Self {
        Self {
            runtime,
            ledger,
            background: Arc::default(),
            of_calls: Arc::default(),
            ended: CancellationToken::new(),
            failures,
        }
    }

    /// Runs a task under this name; cancelling what is returned ends it.
    pub fn spawn(&self, name: &str, task: SpawnedTask) -> CancellationToken {
        let group = self.group();
        let abort = group.stop.child_token();
        let (aborted, entry, failures) = (abort.clone(), self.ledger.task(name), self.failures.clone());
        let name = name.to_owned();
        let run = async move {
            let _counted = entry;
            tokio::select! {
                () = aborted.cancelled() => {}
                ended = task => {
                    if let Err(panicked) = ended {
                        // The supervisor may have gone already, with the component.
                        let _ = failures.send(LifeError::Panicked(format!("in the task '{name}': {}", panicked.0)));
                    }
                }
            }
        };
        group.tracker.spawn_on(run, &self.runtime);
        abort
    }

    /// Ends with what is begun here and now: with the calls, where it is begun for one, or else with the background.
    pub fn scope(&self) -> CancellationToken {
        self.group().stop
    }

    /// Ends what goes on by itself, and waits for that. What is begun afterwards runs.
    ///
    /// # Cancel safety
    ///
    /// The tasks end all the same.
    pub async fn end_background(&self) {
        let group = std::mem::take(&mut *lock(&self.background));
        group.end().await;
    }

    /// Ends what belongs to calls, and waits for that: none of them runs any more. What is begun afterwards runs.
    ///
    /// # Cancel safety
    ///
    /// The tasks end all the same.
    pub async fn end_left_of_calls(&self) {
        let group = std::mem::take(&mut *lock(&self.of_calls));
        group.end().await;
    }

    /// Ends all tasks and waits for that. What is begun afterwards ends at once.
    ///
    /// # Cancel safety
    ///
    /// The tasks end all the same.
    pub async fn end(&self) {
        self.ended.cancel();
        let (background, of_calls) = (lock(&self.background).clone(), lock(&self.of_calls).clone());
        tokio::join!(background.end(), of_calls.end());
    }

    /// Cancelled once all has ended for good.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn group(&self) -> Group {
        lock(if Call::current().is_some() { &self.of_calls } else { &self.background }).clone()
    }
}

fn lock(group: &Mutex<Group>) -> std::sync::MutexGuard<'_, Group> {
    // Nothing of others runs while it is locked.
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn tasks() -> (Tasks, Arc<Ledger>) {
        let (ledger, (failures, _)) = (Ledger::new(), mpsc::unbounded_channel());
        (Tasks::new(Handle::current(), ledger.clone(), failures), ledger)
    }

    fn alive(ledger: &Ledger) -> Vec<String> {
        ledger.tasks().into_keys().collect()
    }

    #[tokio::test]
    async fn the_background_ends_without_what_belongs_to_calls_and_may_begin_again() {
        let (tasks, ledger) = tasks();
        let call = Call::read(&HeaderMap::new());
        tasks.spawn("sweep", Box::pin(std::future::pending()));
        let background = tasks.scope();
        let of_call = call.clone().step(|| {
            tasks.spawn("fan out", Box::pin(std::future::pending()));
            tasks.scope()
        });
        tasks.end_background().await;
        assert_eq!(alive(&ledger), ["fan out"]);
        assert!(background.is_cancelled() && !of_call.is_cancelled());
        tasks.spawn("sweep again", Box::pin(std::future::pending()));
        assert_eq!(alive(&ledger), ["fan out", "sweep again"]);
        tasks.end_left_of_calls().await;
        assert_eq!(alive(&ledger), ["sweep again"]);
        assert!(of_call.is_cancelled() && !tasks.ended().is_cancelled());
        assert!(!call.clone().step(|| tasks.scope()).is_cancelled(), "another call may begin something");
        tasks.end().await;
        assert!(alive(&ledger).is_empty() && tasks.ended().is_cancelled());
        for of in [Some(call), None] {
            let spawn = || tasks.spawn("late", Box::pin(std::future::pending()));
            let abort = match of {
                Some(call) => call.step(spawn),
                None => spawn(),
            };
            assert!(abort.is_cancelled(), "what comes after the end ends at once");
        }
    }
}

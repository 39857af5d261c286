//! A component's background tasks, run on the host's workers.

use std::sync::Arc;

use plugin_api::border::v1::component::LifeError;
use plugin_api::border::v1::host::SpawnedTask;
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
    // Owns the tasks' ends: `end` waits for all of them.
    tracker: TaskTracker,
    // Ends all tasks at once; each has a child of it for its own abort.
    stop: CancellationToken,
    // A task that panicked is a failure of the component's life. Unbounded: one entry for each task at most.
    failures: mpsc::UnboundedSender<LifeError>,
}

impl Tasks {
    /// None yet.
    pub fn new(runtime: Handle, ledger: Arc<Ledger>, failures: mpsc::UnboundedSender<LifeError>) -> Self {
        Self { runtime, ledger, tracker: TaskTracker::new(), stop: CancellationToken::new(), failures }
    }

    /// Runs a task under this name; cancelling what is returned ends it.
    pub fn spawn(&self, name: &str, task: SpawnedTask) -> CancellationToken {
        let abort = self.stop.child_token();
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
        self.tracker.spawn_on(run, &self.runtime);
        abort
    }

    /// Ends all tasks and waits for that. What is spawned afterwards ends at once.
    ///
    /// # Cancel safety
    ///
    /// The tasks end all the same.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

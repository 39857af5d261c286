//! What an engine does for a swap: it hands over what it knows, and lets its searches end well when it is not told of anything
//! any more.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use proto::store::Store;
use tonic::Status;

use super::Engine;
use crate::cluster::Cluster;
use crate::core::{Key, Knowledge};
use crate::limit::limited;
use crate::serving::Serving;

/// A search waits so long for what the metadata says at most; then it goes on by what was known.
const RENEWAL: Duration = Duration::from_secs(1);

impl<S: Store, C: Cluster> Engine<S, C> {
    /// What it knows. It does not change any more where it is deactivated and its task has ended.
    pub(crate) fn knowledge(&self) -> Knowledge {
        self.core().knowledge(self.begun.elapsed())
    }

    /// Looks again who holds a collection, after a node has failed a search: of one that is active nothing has to be done, as it
    /// hears of each change. Where it was swapped out another generation moves segments by now, and has written down where
    /// they are before it lets any node release them.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn renew(&self, collection: i64) {
        if self.callers().inputs.is_some() {
            return;
        }
        match limited(RENEWAL, self.read_serving(collection)).await {
            Ok(serving) => {
                // Under this lock: where it is activated meanwhile, that one publishes what it knows after this.
                let callers = self.callers();
                if callers.inputs.is_some() {
                    return;
                }
                let mut published = self.serving.write().unwrap_or_else(PoisonError::into_inner);
                match serving {
                    Some(serving) if published.get(&collection).is_some_and(|known| **known == serving) => {}
                    Some(serving) => drop(published.insert(collection, Arc::new(serving))),
                    None => drop(published.remove(&collection)),
                }
            }
            Err(status) => {
                tracing::debug!(collection, error = status.message(), "who holds a collection now cannot be read");
            }
        }
    }

    /// By the records alone.
    async fn read_serving(&self, collection: i64) -> Result<Option<Serving>, Status> {
        let key = Key::Collection(collection);
        let Some(entry) = self.store.get(&key.to_string()).await? else { return Ok(None) };
        let mut records = vec![(key, entry.value)];
        records.extend(self.records(&Key::segments_of(collection)).await?);
        Ok(self.core().serving_by_records(collection, records))
    }
}

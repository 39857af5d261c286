//! Where segments are and are to be: what is asked of QueryCoord goes in here, and what searches go by comes out.
//!
//! It drives the rules of [`crate::core`]: one task, from `activate` to `deactivate`, is told what happens, one thing after the
//! other, and carries out what follows ([`driver`]). What searches go by is published before a node is told to release
//! anything. Nobody who asks waits for that task but `LoadCollection` and `ReleaseCollection`.
//!
//! A generation that was swapped out is told of nothing any more, and its searches go on: what they go by is read from the
//! metadata then, when a node fails them ([`swap`]).

mod driver;
mod notices;
mod swap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use proto::store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

use crate::cluster::Cluster;
use crate::core::{Core, Done, Input, Key, Knowledge, Settings, Token};
use crate::limit::limited;
use crate::serving::{Overview, Serving};

/// The engine.
pub(crate) struct Engine<S, C> {
    store: Arc<S>,
    cluster: Arc<C>,
    settings: Settings,
    limits: Limits,
    begun: Instant,
    /// None of these locks is held over an `await`.
    core: Mutex<Core>,
    serving: RwLock<BTreeMap<i64, Arc<Serving>>>,
    callers: Mutex<Callers>,
}

/// How long nodes may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// To load a segment.
    pub(crate) load: Duration,
    /// For any other call.
    pub(crate) call: Duration,
}

/// What an engine may rely on when it is activated.
#[derive(Debug)]
pub(crate) enum Known {
    /// The metadata alone.
    Nothing,
    /// What another generation has handed over, as far as the metadata agrees.
    Handed(Knowledge),
    /// All that it knows itself: nobody else was active meanwhile. Nothing is read for it.
    Kept,
}

/// The way to the task, where it runs, and who waits for it.
#[derive(Default)]
struct Callers {
    inputs: Option<mpsc::UnboundedSender<Input>>,
    waiting: BTreeMap<Token, oneshot::Sender<Result<Done, Status>>>,
    next: u64,
    /// It has been active: what it knows is not nothing.
    has_been_active: bool,
}

impl<S: Store, C: Cluster> Engine<S, C> {
    /// One that knows of nothing.
    pub(crate) fn new(store: Arc<S>, cluster: Arc<C>, settings: Settings, limits: Limits) -> Self {
        Self {
            store,
            cluster,
            settings,
            limits,
            begun: Instant::now(),
            core: Mutex::new(Core::new(settings, []).0),
            serving: RwLock::default(),
            callers: Mutex::default(),
        }
    }

    /// Begins with what is known, and else with what the metadata says; the answer is the task that goes on from there.
    pub(crate) async fn activate(
        self: &Arc<Self>,
        known: Known,
    ) -> Result<impl Future<Output = ()> + Send + use<S, C>, Status> {
        self.deactivate();
        let core = match known {
            Known::Kept if self.callers().has_been_active => self.core().again(self.begun.elapsed()),
            Known::Kept | Known::Nothing => self.read_core().await?,
            Known::Handed(knowledge) => {
                let mut core = self.read_core().await?;
                core.recall(self.begun.elapsed(), knowledge);
                core
            }
        };
        *self.core() = core;
        self.publish_all();
        let (sender, inputs) = mpsc::unbounded_channel();
        let mut callers = self.callers();
        (callers.inputs, callers.has_been_active) = (Some(sender), true);
        Ok(driver::run(Arc::clone(self), inputs))
    }

    async fn read_core(&self) -> Result<Core, Status> {
        let mut entries = Vec::new();
        for prefix in Key::PREFIXES {
            entries.extend(self.records(prefix).await?);
        }
        let (core, unreadable) = Core::new(self.settings, entries);
        for error in unreadable {
            tracing::error!(error = plugin_api::error::chain(&error), "a record cannot be understood");
        }
        Ok(core)
    }

    /// The records of the metadata whose keys begin so.
    async fn records(&self, prefix: &str) -> Result<Vec<(Key, Bytes)>, Status> {
        let entries = self.store.range(prefix).await?.into_iter();
        let known = entries.filter_map(|entry| match Key::parse(&entry.key) {
            Some(key) => Some((key, entry.value)),
            None => {
                tracing::warn!(
                    key = entry.key,
                    "a key of the metadata that is no record of this version is left alone"
                );
                None
            }
        });
        Ok(known.collect())
    }

    /// Nothing is done any more: whoever waits is told so. Searches go on by what was known.
    pub(crate) fn deactivate(&self) {
        let mut callers = self.callers();
        callers.inputs = None;
        callers.waiting.clear();
    }

    /// Loads all segments that a collection has now on `replica_number` nodes, 0 for as many as before; the answer says where
    /// they are to be. It goes on where the caller goes away.
    pub(crate) async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Serving>, Status> {
        let root_coord = |status: Status| {
            let text = format!("asking RootCoord for collection '{name}': {}", status.message());
            // The details say more than a text, such as why a call was refused by the host.
            Status::with_details(status.code(), text, status.details().to_vec().into())
        };
        let collection = limited(self.limits.call, self.cluster.collection(name)).await.map_err(root_coord)?;
        let segments = limited(self.limits.call, self.cluster.segments(collection.collection_id)).await;
        let segments = segments.map_err(root_coord)?.iter().map(Into::into).collect();
        let collection = (&collection).into();
        match self.ask(|token| Input::Load { token, collection, segments, replica_number }).await? {
            Done::Loaded(serving) => Ok(serving),
            Done::Released => Err(Status::internal("a load was answered as a release")),
        }
    }

    /// Releases a collection; `name` is for people.
    pub(crate) async fn release(&self, id: i64, name: &str) -> Result<(), Status> {
        self.ask(|token| Input::Release { token, id, name: name.to_owned() }).await.map(|_| ())
    }

    /// What searches of a collection go by now; `None` where no load of it was completed. Never waits.
    pub(crate) fn serving(&self, id: i64) -> Option<Arc<Serving>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A node has answered `NOT_FOUND` for these segments: it is asked what it holds.
    pub(crate) fn not_held(&self, node: i64, segments: &[i64]) {
        tracing::debug!(node, ?segments, "a node does not hold what it should");
        self.tell(Input::NotHeld(node, segments.to_vec()));
    }

    /// How nodes and segments stand for all that is known.
    pub(crate) fn overview(&self) -> Overview {
        let now = self.begun.elapsed();
        self.core().overview(now)
    }

    /// Is a collection loaded, or being loaded?
    pub(crate) fn is_wanted(&self, id: i64) -> bool {
        self.core().is_wanted(id)
    }

    /// The newest loaded collection that had this name when it was loaded.
    pub(crate) fn newest_named(&self, name: &str) -> Option<i64> {
        self.core().newest_named(name)
    }

    async fn ask(&self, input: impl FnOnce(Token) -> Input) -> Result<Done, Status> {
        let inactive =
            || Status::unavailable("this QueryCoord is not active, or not any more: the active one is to be asked");
        let answer = {
            let mut callers = self.callers();
            callers.next += 1;
            let (token, (sender, answer)) = (Token(callers.next), oneshot::channel());
            let inputs = callers.inputs.as_ref().ok_or_else(inactive)?;
            inputs.send(input(token)).map_err(|_| inactive())?;
            callers.waiting.insert(token, sender);
            answer
        };
        answer.await.unwrap_or_else(|_| Err(inactive()))
    }

    fn tell(&self, input: Input) {
        if let Some(inputs) = &self.callers().inputs {
            // Nobody acts any more where the task has ended.
            let _ = inputs.send(input);
        }
    }

    /// Makes anew what searches go by, where that has changed.
    fn publish(&self) {
        let mut core = self.core();
        let changed: Vec<_> = core.take_changed().into_iter().map(|id| (id, core.serving(id))).collect();
        drop(core);
        if changed.is_empty() {
            return;
        }
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        for (id, value) in changed {
            match value {
                Some(value) => drop(serving.insert(id, Arc::new(value))),
                None => drop(serving.remove(&id)),
            }
        }
    }

    /// The same of all collections, in place of what there was: at no moment is one missing that a search is on its way to.
    fn publish_all(&self) {
        let mut core = self.core();
        let all = core.take_changed().into_iter().filter_map(|id| Some((id, Arc::new(core.serving(id)?))));
        let all = all.collect();
        drop(core);
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

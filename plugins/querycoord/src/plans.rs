//! The plans of all loaded collections: what is wanted, kept in the metadata, and what searches go by.
//!
//! A plan is wanted before its segments are loaded, and searches go by it once they are: so a crash between the two leaves
//! nothing that nobody knows of, and a search never asks a node for what it is just loading. Keys: `plan/<collection>`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use plugin_api::{Error, Transaction};
use proto::store::Store;
use tonic::{Code, Status};

use crate::plan::Plan;

const PREFIX: &str = "plan/";

/// The plans. Cheap to read, also while one is being changed.
pub(crate) struct Plans<S> {
    store: Arc<S>,
    /// By collection. Never held over an `await`.
    known: RwLock<BTreeMap<i64, Known>>,
}

struct Known {
    wanted: Arc<Plan>,
    /// The value in the metadata, which the next change compares.
    value: Vec<u8>,
    /// `None` until it was loaded for the first time.
    searched: Option<Arc<Plan>>,
}

/// Why a plan is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlansError {
    /// The metadata cannot be read or written.
    #[error("the plan of collection {collection}")]
    Store { collection: String, source: Error },
    /// What is kept cannot be understood.
    #[error("{key} in the metadata")]
    Record { key: String, source: serde_json::Error },
    /// It is not what this process knew; it has been read again.
    #[error("the plan of collection {collection} has been changed meanwhile")]
    Changed { collection: i64 },
}

impl From<PlansError> for Status {
    fn from(error: PlansError) -> Self {
        let code = match &error {
            PlansError::Store { source, .. } => source.code(),
            PlansError::Record { .. } => Code::DataLoss,
            PlansError::Changed { .. } => Code::Aborted,
        };
        Self::new(code, plugin_api::error::chain(&error))
    }
}

impl<S: Store> Plans<S> {
    /// None, until they are read.
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self { store, known: RwLock::default() }
    }

    /// Reads all plans again. What was wanted but not loaded yet counts as loaded: nodes say what they do not hold.
    pub(crate) async fn read(&self) -> Result<(), PlansError> {
        let unread = |source| PlansError::Store { collection: "all collections".to_owned(), source };
        let mut known = BTreeMap::new();
        for entry in self.store.range(PREFIX).await.map_err(unread)? {
            let decoded = serde_json::from_slice::<Plan>(&entry.value);
            let plan = Arc::new(decoded.map_err(|source| PlansError::Record { key: entry.key.clone(), source })?);
            let searched = Some(Arc::clone(&plan));
            known.insert(plan.collection.id, Known { wanted: plan, value: entry.value.to_vec(), searched });
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Makes this the wanted plan of its collection.
    pub(crate) async fn want(&self, plan: Plan) -> Result<Arc<Plan>, PlansError> {
        let id = plan.collection.id;
        let value = serde_json::to_vec(&plan).expect("a plan has only strings, numbers and lists");
        self.write(id, |transaction, key| transaction.put(key, value.clone())).await?;
        let wanted = Arc::new(plan);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let searched = known.remove(&id).and_then(|before| before.searched);
        known.insert(id, Known { wanted: Arc::clone(&wanted), value, searched });
        Ok(wanted)
    }

    /// The wanted plan of a collection is loaded: searches go by it from now on.
    pub(crate) fn loaded(&self, id: i64) {
        if let Some(known) = self.known.write().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            known.searched = Some(Arc::clone(&known.wanted));
        }
    }

    /// Forgets the plan of a collection.
    pub(crate) async fn forget(&self, id: i64) -> Result<(), PlansError> {
        self.write(id, |transaction, key| transaction.delete(key)).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    /// The wanted plan of a collection.
    pub(crate) fn wanted(&self, id: i64) -> Option<Arc<Plan>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(|known| Arc::clone(&known.wanted))
    }

    /// All wanted plans, in the order of their collections' ids.
    pub(crate) fn all_wanted(&self) -> Vec<Arc<Plan>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|known| Arc::clone(&known.wanted)).collect()
    }

    /// The plan that searches of a collection go by.
    pub(crate) fn searched(&self, id: i64) -> Option<Arc<Plan>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id)?.searched.clone()
    }

    /// The newest loaded collection that had this name when it was loaded.
    pub(crate) fn newest_named(&self, name: &str) -> Option<i64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|(_, known)| known.wanted.collection.name == name).map(|(id, _)| *id)
    }

    /// The rows that each node is to hold, of all collections but this.
    pub(crate) fn rows_besides(&self, id: i64) -> BTreeMap<i64, u64> {
        let mut rows = BTreeMap::new();
        for plan in self.all_wanted().iter().filter(|plan| plan.collection.id != id) {
            for placed in &plan.segments {
                *rows.entry(placed.node).or_default() += placed.segment.rows;
            }
        }
        rows
    }

    async fn write(&self, id: i64, change: impl FnOnce(Transaction, String) -> Transaction) -> Result<(), PlansError> {
        let key = format!("{PREFIX}{id}");
        let before = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(&id).map(|known| known.value.clone())
        };
        let compared = match before {
            Some(value) => Transaction::new().if_value(&key, value),
            None => Transaction::new().if_absent(&key),
        };
        let outcome = self.store.transact(change(compared, key)).await;
        if outcome.map_err(|source| PlansError::Store { collection: id.to_string(), source })? {
            return Ok(());
        }
        self.read_one(id).await?;
        Err(PlansError::Changed { collection: id })
    }

    /// Reads the wanted plan of one collection again; searches go on by what they did.
    async fn read_one(&self, id: i64) -> Result<(), PlansError> {
        let key = format!("{PREFIX}{id}");
        let entry = self.store.get(&key).await;
        let entry = entry.map_err(|source| PlansError::Store { collection: id.to_string(), source })?;
        let read = match &entry {
            Some(entry) => {
                let decoded = serde_json::from_slice::<Plan>(&entry.value);
                let plan = decoded.map_err(|source| PlansError::Record { key, source })?;
                Some((Arc::new(plan), entry.value.to_vec()))
            }
            None => None,
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.remove(&id);
        if let Some((wanted, value)) = read {
            known.insert(id, Known { wanted, value, searched: before.and_then(|before| before.searched) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::records::CollectionRecord;
    use proto::store::{Fault, MemoryStore};

    use super::*;

    fn plan(id: i64, name: &str) -> Plan {
        let name = name.to_owned();
        let collection = CollectionRecord { id, name, dimension: 2, metric: "L2".to_owned(), created: 0 };
        Plan { collection, replica_number: 1, segments: vec![] }
    }

    fn plans() -> (Arc<MemoryStore>, Plans<MemoryStore>) {
        let store = Arc::new(MemoryStore::default());
        (Arc::clone(&store), Plans::new(store))
    }

    #[tokio::test]
    async fn a_plan_is_searched_once_it_is_loaded_and_outlives_the_process() {
        let (store, plans) = plans();
        plans.want(plan(1, "c")).await.unwrap();
        assert_eq!(plans.searched(1), None);
        plans.loaded(1);
        assert_eq!(plans.searched(1).as_deref(), Some(&plan(1, "c")));
        let next = Plans::new(store);
        next.read().await.unwrap();
        assert_eq!(next.searched(1).as_deref(), Some(&plan(1, "c")));
        next.forget(1).await.unwrap();
        next.read().await.unwrap();
        assert_eq!(next.wanted(1), None);
    }

    #[tokio::test]
    async fn of_two_with_one_name_the_newest_counts() {
        let (_, plans) = plans();
        for id in [3, 9, 4] {
            plans.want(plan(id, "c")).await.unwrap();
        }
        assert_eq!((plans.newest_named("c"), plans.newest_named("d")), (Some(9), None));
    }

    #[tokio::test]
    async fn a_change_that_another_made_is_noticed_and_read() {
        let (store, plans) = plans();
        let other = Plans::new(store);
        plans.want(plan(1, "c")).await.unwrap();
        assert!(matches!(other.want(plan(1, "d")).await, Err(PlansError::Changed { collection: 1 })));
        assert_eq!(other.wanted(1).as_deref(), Some(&plan(1, "c")));
        other.want(plan(1, "d")).await.unwrap();
        assert!(matches!(plans.forget(1).await, Err(PlansError::Changed { collection: 1 })));
        plans.forget(1).await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_answer_is_made_good_by_the_next_try() {
        let (store, plans) = plans();
        store.fail_next([Fault::Unanswered]);
        assert!(matches!(plans.want(plan(1, "c")).await, Err(PlansError::Store { .. })));
        assert!(matches!(plans.want(plan(1, "c")).await, Err(PlansError::Changed { .. })));
        assert!(plans.want(plan(1, "c")).await.is_ok());
    }
}

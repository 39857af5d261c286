//! What collections and segments there are. All of it is in the metadata; nothing is cached, and each change is one
//! compared transaction.
//!
//! A transaction whose answer is lost is sent once more: its conditions hold but once. Where they do not hold then, what is
//! kept says whose change it was, since no id is given out twice. So each call can be repeated.

mod error;

use std::path::Path;
use std::sync::Arc;

use plugin_api::{KeyValue, Transaction};
use proto::batch::MAX_DIMENSION;
use proto::name;
use proto::records::{CollectionRecord, SegmentRecord};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use proto::store::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

pub(crate) use error::CatalogueError;

use crate::records;

/// etcd takes 128 operations in one transaction; the host's own compare is one of them.
const MAX_WRITES: usize = 100;

/// A name that was free and then taken, and so on, is given up after so many times.
const MAX_TRIES: usize = 5;

/// The catalogue.
pub(crate) struct Catalogue<S> {
    store: Arc<S>,
}

/// A collection, with the revision that a change of its segments compares.
pub(crate) struct Found {
    pub(crate) info: CollectionInfo,
    revision: i64,
}

/// How a compared change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committed {
    /// It was carried out.
    Done,
    /// It was not: a condition did not hold.
    Refused,
    /// A condition did not hold when it was sent again: the first time it may have been carried out.
    Unsure,
}

/// Refuses what no collection can be called.
pub(crate) fn check_name(name: &str) -> Result<(), CatalogueError> {
    Ok(name::check(name)?)
}

/// Refuses what no collection can be created from.
pub(crate) fn check_new(name: &str, dimension: u32, metric: i32) -> Result<MetricType, CatalogueError> {
    check_name(name)?;
    if !(1..=MAX_DIMENSION).contains(&dimension) {
        return Err(CatalogueError::Dimension { dimension });
    }
    match MetricType::try_from(metric) {
        Ok(known) if known != MetricType::MetricUnspecified => Ok(known),
        _ => Err(CatalogueError::Metric { metric }),
    }
}

impl<S: Store> Catalogue<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self { store }
    }

    /// Is there a collection of that name?
    pub(crate) async fn has(&self, name: &str) -> Result<bool, CatalogueError> {
        check_name(name)?;
        Ok(self.store.get(&records::collection_name(name)).await?.is_some())
    }

    /// Refuses a name that is taken, and tells by whom. Another may take it right after.
    pub(crate) async fn check_free(&self, name: &str) -> Result<(), CatalogueError> {
        match self.by_name(name).await {
            Ok(found) => Err(CatalogueError::CollectionExists { existing: Box::new(found.info) }),
            Err(CatalogueError::NoSuchName { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds a collection, whose id and timestamp are new.
    pub(crate) async fn create(&self, info: &CollectionInfo) -> Result<(), CatalogueError> {
        let (id, name) = (info.collection_id, &info.collection_name);
        let name_key = records::collection_name(name);
        let transaction = Transaction::new()
            .if_absent(&name_key)
            .put(name_key, id.to_string())
            .put(records::collection(id), encode(&CollectionRecord::from(info)));
        for _ in 0..MAX_TRIES {
            let committed = self.commit(transaction.clone()).await?;
            if committed == Committed::Done {
                return Ok(());
            }
            match self.by_name(name).await {
                Ok(found) if found.info.collection_id == id => return Ok(()),
                Ok(found) => return Err(CatalogueError::CollectionExists { existing: Box::new(found.info) }),
                // It was there, and somebody else has dropped it: its id must not come again.
                Err(CatalogueError::NoSuchName { .. }) if committed == Committed::Unsure => {
                    return Err(CatalogueError::Dropped { name: name.clone(), id });
                }
                // Whoever had the name has dropped it.
                Err(CatalogueError::NoSuchName { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CatalogueError::Contended { name: name.clone() })
    }

    /// The collection of that name.
    pub(crate) async fn by_name(&self, name: &str) -> Result<Found, CatalogueError> {
        check_name(name)?;
        let missing = || CatalogueError::NoSuchName { name: name.to_owned() };
        let entry = self.store.get(&records::collection_name(name)).await?.ok_or_else(missing)?;
        let id = decode::<i64>(&entry)?;
        // Dropped between the two reads: there is none of that name either.
        let gone = |error| if matches!(error, CatalogueError::NoSuchId { .. }) { missing() } else { error };
        self.by_id(id).await.map_err(gone)
    }

    /// The collection of that id.
    pub(crate) async fn by_id(&self, id: i64) -> Result<Found, CatalogueError> {
        if id < 1 {
            return Err(CatalogueError::Id { id });
        }
        let entry = self.store.get(&records::collection(id)).await?.ok_or(CatalogueError::NoSuchId { id })?;
        Ok(Found { info: decode::<CollectionRecord>(&entry)?.into(), revision: entry.mod_revision })
    }

    /// All collections, in the order of their ids.
    pub(crate) async fn collections(&self) -> Result<Vec<CollectionInfo>, CatalogueError> {
        let entries = self.store.range(records::COLLECTIONS).await?;
        let infos = entries.iter().map(|entry| Ok(decode::<CollectionRecord>(entry)?.into()));
        let mut infos = infos.collect::<Result<Vec<CollectionInfo>, CatalogueError>>()?;
        infos.sort_by_key(|info| info.collection_id);
        Ok(infos)
    }

    /// Removes a collection; the answer is its id. Nothing can be added to it from here on. That it was dropped is kept, for
    /// whoever ends what is left of it: [`Self::dropped`].
    pub(crate) async fn drop_collection(&self, name: &str) -> Result<i64, CatalogueError> {
        let id = self.by_name(name).await?.info.collection_id;
        let name_key = records::collection_name(name);
        let transaction = Transaction::new()
            .if_value(&name_key, id.to_string())
            .delete(name_key)
            .delete(records::collection(id))
            .put(records::dropped(id), name.to_owned());
        match self.commit(transaction).await? {
            // It was there, and is no more.
            Committed::Done | Committed::Unsure => Ok(id),
            Committed::Refused => Err(CatalogueError::Dropped { name: name.to_owned(), id }),
        }
    }

    /// The collections that were dropped and of which something may be left.
    pub(crate) async fn dropped(&self) -> Result<Vec<i64>, CatalogueError> {
        let entries = self.store.range(records::DROPPED).await?;
        Ok(entries.iter().filter_map(|entry| records::collection_of_drop(&entry.key)).collect())
    }

    /// Removes the segments of a collection that was dropped.
    pub(crate) async fn sweep(&self, collection_id: i64) -> Result<(), CatalogueError> {
        for prefix in [records::files_of(collection_id), records::segments_of(collection_id)] {
            for some in self.store.range(&prefix).await?.chunks(MAX_WRITES) {
                let deletes = some.iter().fold(Transaction::new(), |deletes, entry| deletes.delete(&entry.key));
                self.store.transact(deletes).await?;
            }
        }
        Ok(())
    }

    /// Nothing is left of a collection that was dropped.
    pub(crate) async fn forget(&self, collection_id: i64) -> Result<(), CatalogueError> {
        self.store.transact(Transaction::new().delete(records::dropped(collection_id))).await?;
        Ok(())
    }

    /// Refuses a file that is a segment of the collection already. `file` is its path with links resolved.
    pub(crate) async fn check_new_file(&self, collection: &Found, file: &Path) -> Result<(), CatalogueError> {
        match self.segment_of(collection.info.collection_id, file).await? {
            None => Ok(()),
            Some(segment_id) => Err(CatalogueError::SegmentExists {
                path: file.to_owned(),
                segment_id,
                collection: collection.info.collection_name.clone(),
            }),
        }
    }

    async fn segment_of(&self, collection_id: i64, file: &Path) -> Result<Option<String>, CatalogueError> {
        let entry = self.store.get(&records::file(collection_id, file)).await?;
        Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
    }

    /// Adds a segment, whose ids are new, to a collection that has not been dropped since it was found.
    pub(crate) async fn add_segment(
        &self,
        collection: &Found,
        info: &SegmentInfo,
        file: &Path,
    ) -> Result<(), CatalogueError> {
        let id = collection.info.collection_id;
        let file_key = records::file(id, file);
        let transaction = Transaction::new()
            .if_unchanged(records::collection(id), collection.revision)
            .if_absent(&file_key)
            .put(file_key, info.segment_id.to_string())
            .put(records::segment(id, info.segment_id), encode(&SegmentRecord::from(info)));
        let committed = self.commit(transaction).await?;
        if committed == Committed::Done {
            return Ok(());
        }
        // A collection's record never changes: either the file has come, or the collection has gone.
        if self.segment_of(id, file).await? == Some(info.segment_id.to_string()) {
            return Ok(());
        }
        self.check_new_file(collection, file).await?;
        Err(CatalogueError::Dropped { name: collection.info.collection_name.clone(), id })
    }

    /// The segments of a collection, in the order of their ids.
    pub(crate) async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, CatalogueError> {
        let entries = self.store.range(&records::segments_of(collection_id)).await?;
        // Asked after the segments were read: if it is still there, they were whole.
        self.by_id(collection_id).await?;
        let infos = entries.iter().map(|entry| Ok(decode::<SegmentRecord>(entry)?.into()));
        let mut infos = infos.collect::<Result<Vec<SegmentInfo>, CatalogueError>>()?;
        infos.sort_by_key(|info| info.segment_id);
        Ok(infos)
    }

    /// Carries a change out whose conditions no longer hold once it is.
    async fn commit(&self, transaction: Transaction) -> Result<Committed, CatalogueError> {
        match self.store.transact(transaction.clone()).await {
            Ok(true) => Ok(Committed::Done),
            Ok(false) => Ok(Committed::Refused),
            Err(lost) if lost.code() == Code::Unavailable && lost.reason().is_none() => {
                match self.store.transact(transaction).await {
                    Ok(true) => Ok(Committed::Done),
                    Ok(false) => Ok(Committed::Unsure),
                    Err(source) => Err(CatalogueError::Unknown { source }),
                }
            }
            Err(source) => Err(source.into()),
        }
    }
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record has only strings and numbers")
}

fn decode<T: DeserializeOwned>(entry: &KeyValue) -> Result<T, CatalogueError> {
    serde_json::from_slice(&entry.value).map_err(|source| CatalogueError::Record { key: entry.key.clone(), source })
}

#[cfg(test)]
mod tests;

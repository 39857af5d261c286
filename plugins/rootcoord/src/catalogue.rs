//! What collections and segments there are. All of it is in the metadata; nothing is cached, and each change is one
//! compared transaction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_api::{Error, KeyValue, Transaction};
use proto::batch::MAX_DIMENSION;
use proto::records::{CollectionRecord, SegmentRecord};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use proto::store::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use crate::records;

/// etcd takes 128 operations in one transaction; the host's own compare is one of them.
const MAX_WRITES: usize = 100;

/// The longest name of a collection; Milvus' limit.
const MAX_NAME: usize = 255;

/// The catalogue.
pub(crate) struct Catalogue<S> {
    store: Arc<S>,
}

/// A collection, with the revision that a change of its segments compares.
pub(crate) struct Found {
    pub(crate) info: CollectionInfo,
    revision: i64,
}

/// Why the catalogue refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogueError {
    /// The name cannot be one.
    #[error(
        "collection_name '{name}': it has to be a letter or underscore, then letters, digits and underscores, at most \
         {MAX_NAME} in all"
    )]
    Name { name: String },
    /// The dimension is not allowed.
    #[error("dimension is {dimension}, it has to be 1 to {MAX_DIMENSION}")]
    Dimension { dimension: u32 },
    /// There is no such metric.
    #[error("metric_type is {metric}, it has to be L2, IP or COSINE")]
    Metric { metric: i32 },
    /// No collection has this name.
    #[error("there is no collection '{name}'")]
    NoSuchName { name: String },
    /// No collection has this id.
    #[error("there is no collection with id {id}")]
    NoSuchId { id: i64 },
    /// The name is taken.
    #[error("there is a collection '{name}' already")]
    CollectionExists { name: String },
    /// The file is a segment already.
    #[error("{path} is segment {segment_id} of collection '{collection}' already")]
    SegmentExists { path: PathBuf, segment_id: String, collection: String },
    /// The metadata cannot be read or written.
    #[error("the catalogue")]
    Store(#[from] Error),
    /// What is kept cannot be understood.
    #[error("{key} in the metadata")]
    Record { key: String, source: serde_json::Error },
}

impl From<CatalogueError> for Status {
    fn from(error: CatalogueError) -> Self {
        let code = match &error {
            CatalogueError::Name { .. } | CatalogueError::Dimension { .. } | CatalogueError::Metric { .. } => {
                Code::InvalidArgument
            }
            CatalogueError::NoSuchName { .. } | CatalogueError::NoSuchId { .. } => Code::NotFound,
            CatalogueError::CollectionExists { .. } | CatalogueError::SegmentExists { .. } => Code::AlreadyExists,
            CatalogueError::Store(source) => source.code(),
            CatalogueError::Record { .. } => Code::DataLoss,
        };
        Self::new(code, plugin_api::error::chain(&error))
    }
}

/// Refuses what no collection can be created from.
pub(crate) fn check_new(name: &str, dimension: u32, metric: i32) -> Result<MetricType, CatalogueError> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let goes_on_well = name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_');
    if !starts_well || !goes_on_well || name.len() > MAX_NAME {
        return Err(CatalogueError::Name { name: name.to_owned() });
    }
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
        Ok(self.store.get(&records::collection_name(name)).await?.is_some())
    }

    /// Adds a collection, whose id and timestamp are new.
    pub(crate) async fn create(&self, info: &CollectionInfo) -> Result<(), CatalogueError> {
        let (id, name) = (info.collection_id, &info.collection_name);
        let name_key = records::collection_name(name);
        let transaction = Transaction::new()
            .if_absent(&name_key)
            .put(name_key, id.to_string())
            .put(records::collection(id), encode(&CollectionRecord::from(info)));
        if self.store.transact(transaction).await? {
            Ok(())
        } else {
            Err(CatalogueError::CollectionExists { name: name.clone() })
        }
    }

    /// The collection of that name.
    pub(crate) async fn by_name(&self, name: &str) -> Result<Found, CatalogueError> {
        let missing = || CatalogueError::NoSuchName { name: name.to_owned() };
        let entry = self.store.get(&records::collection_name(name)).await?.ok_or_else(missing)?;
        let id = decode::<i64>(&entry)?;
        // Dropped between the two reads: there is none of that name either.
        let gone = |error| if matches!(error, CatalogueError::NoSuchId { .. }) { missing() } else { error };
        self.by_id(id).await.map_err(gone)
    }

    /// The collection of that id.
    pub(crate) async fn by_id(&self, id: i64) -> Result<Found, CatalogueError> {
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

    /// Removes a collection, and then what it had; the answer is its id.
    pub(crate) async fn drop_collection(&self, name: &str) -> Result<i64, CatalogueError> {
        let id = self.by_name(name).await?.info.collection_id;
        let name_key = records::collection_name(name);
        let transaction =
            Transaction::new().if_value(&name_key, id.to_string()).delete(name_key).delete(records::collection(id));
        if !self.store.transact(transaction).await? {
            return Err(CatalogueError::NoSuchName { name: name.to_owned() });
        }
        // From here it is gone, and nothing can be added to it. What a failure leaves behind, the next start sweeps up.
        if let Err(error) = self.sweep(id).await {
            let error = plugin_api::error::chain(&error);
            tracing::warn!(collection = id, error, "the segments of a dropped collection are left in the metadata");
        }
        Ok(id)
    }

    /// Removes the segments of collections that are gone.
    pub(crate) async fn sweep_orphans(&self) -> Result<(), CatalogueError> {
        let segments = self.store.range(records::SEGMENTS).await?;
        let mut orphans: BTreeSet<_> =
            segments.iter().filter_map(|entry| records::collection_of_segment(&entry.key)).collect();
        // Read after the segments, so that the collection of each is seen if it is there.
        for info in self.collections().await? {
            orphans.remove(&info.collection_id);
        }
        for id in orphans {
            self.sweep(id).await?;
        }
        Ok(())
    }

    /// The files first: a segment is what tells of an orphan.
    async fn sweep(&self, collection_id: i64) -> Result<(), CatalogueError> {
        let mut entries = self.store.range(&records::files_of(collection_id)).await?;
        entries.extend(self.store.range(&records::segments_of(collection_id)).await?);
        for some in entries.chunks(MAX_WRITES) {
            let deletes = some.iter().fold(Transaction::new(), |deletes, entry| deletes.delete(&entry.key));
            self.store.transact(deletes).await?;
        }
        Ok(())
    }

    /// Refuses a file that is a segment of the collection already. `file` is its path with links resolved.
    pub(crate) async fn check_new_file(&self, collection: &Found, file: &Path) -> Result<(), CatalogueError> {
        match self.store.get(&records::file(collection.info.collection_id, file)).await? {
            None => Ok(()),
            Some(entry) => Err(CatalogueError::SegmentExists {
                path: file.to_owned(),
                segment_id: String::from_utf8_lossy(&entry.value).into_owned(),
                collection: collection.info.collection_name.clone(),
            }),
        }
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
        if self.store.transact(transaction).await? {
            return Ok(());
        }
        // A collection's record never changes: either the file has come, or the collection has gone.
        self.check_new_file(collection, file).await?;
        Err(CatalogueError::NoSuchName { name: collection.info.collection_name.clone() })
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
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record has only strings and numbers")
}

fn decode<T: DeserializeOwned>(entry: &KeyValue) -> Result<T, CatalogueError> {
    serde_json::from_slice(&entry.value).map_err(|source| CatalogueError::Record { key: entry.key.clone(), source })
}

#[cfg(test)]
mod tests {
    use proto::store::{Fault, MemoryStore};

    use super::*;

    fn catalogue() -> (Arc<MemoryStore>, Catalogue<MemoryStore>) {
        let store = Arc::new(MemoryStore::default());
        (Arc::clone(&store), Catalogue::new(store))
    }

    fn info(collection_id: i64, name: &str) -> CollectionInfo {
        CollectionInfo {
            collection_id,
            collection_name: name.to_owned(),
            dimension: 4,
            metric_type: MetricType::Cosine.into(),
            created_timestamp: 1 << 20,
        }
    }

    fn segment(segment_id: i64) -> SegmentInfo {
        SegmentInfo { segment_id, collection_id: 9, path: "a.npy".to_owned(), num_rows: 3, first_id: 100 }
    }

    fn code<T>(result: Result<T, CatalogueError>) -> Code {
        Status::from(result.err().unwrap()).code()
    }

    #[tokio::test]
    async fn a_collection_is_there_from_its_creation_to_its_drop() {
        let (store, catalogue) = catalogue();
        for (id, name) in [(10, "ten"), (9, "nine")] {
            catalogue.create(&info(id, name)).await.unwrap();
        }
        assert!(catalogue.has("nine").await.unwrap());
        assert_eq!(catalogue.by_name("nine").await.unwrap().info, info(9, "nine"));
        assert_eq!(catalogue.by_id(10).await.unwrap().info, info(10, "ten"));
        assert_eq!(catalogue.collections().await.unwrap(), [info(9, "nine"), info(10, "ten")]);
        assert_eq!(code(catalogue.create(&info(11, "ten")).await), Code::AlreadyExists);
        assert_eq!(catalogue.drop_collection("ten").await.unwrap(), 10);
        assert_eq!(catalogue.drop_collection("nine").await.unwrap(), 9);
        assert!(!catalogue.has("nine").await.unwrap());
        assert_eq!(code(catalogue.by_name("nine").await), Code::NotFound);
        assert_eq!(code(catalogue.by_id(9).await), Code::NotFound);
        assert_eq!(code(catalogue.drop_collection("nine").await), Code::NotFound);
        assert_eq!(store.range("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_file_becomes_one_segment_of_a_collection() {
        let (_, catalogue) = catalogue();
        catalogue.create(&info(9, "nine")).await.unwrap();
        let nine = catalogue.by_name("nine").await.unwrap();
        let file = Path::new("/data/a.npy");
        catalogue.add_segment(&nine, &segment(20), file).await.unwrap();
        assert_eq!(code(catalogue.check_new_file(&nine, file).await), Code::AlreadyExists);
        let again = Status::from(catalogue.add_segment(&nine, &segment(21), file).await.unwrap_err());
        assert_eq!(again.message(), "/data/a.npy is segment 20 of collection 'nine' already");
        catalogue.add_segment(&nine, &segment(3), Path::new("/data/b.npy")).await.unwrap();
        assert_eq!(catalogue.segments(9).await.unwrap(), [segment(3), segment(20)]);
        assert_eq!(code(catalogue.segments(8).await), Code::NotFound);
    }

    #[tokio::test]
    async fn nothing_is_added_to_a_collection_that_was_dropped() {
        let (store, catalogue) = catalogue();
        catalogue.create(&info(9, "nine")).await.unwrap();
        let nine = catalogue.by_name("nine").await.unwrap();
        catalogue.drop_collection("nine").await.unwrap();
        // One of the same name is another one.
        catalogue.create(&info(10, "nine")).await.unwrap();
        assert_eq!(code(catalogue.add_segment(&nine, &segment(20), Path::new("/a")).await), Code::NotFound);
        assert_eq!(store.range("segment").await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_a_drop_left_behind_is_swept_up() {
        let (store, catalogue) = catalogue();
        for (id, name) in [(9, "nine"), (91, "other")] {
            catalogue.create(&info(id, name)).await.unwrap();
            let found = catalogue.by_id(id).await.unwrap();
            for segment_id in 0..150 {
                let info = SegmentInfo { collection_id: id, ..segment(segment_id) };
                catalogue.add_segment(&found, &info, Path::new(&format!("/{segment_id}"))).await.unwrap();
            }
        }
        // The first transaction drops it; the second, which would sweep, is lost.
        store.fail_next([Fault::Lost]);
        assert!(catalogue.drop_collection("nine").await.is_err());
        let name = Transaction::new().delete(records::collection_name("nine")).delete(records::collection(9));
        store.transact(name).await.unwrap();
        assert_eq!(store.range("segment").await.unwrap().len(), 600);
        catalogue.sweep_orphans().await.unwrap();
        assert_eq!(store.range("segment").await.unwrap().len(), 300);
        assert_eq!(catalogue.segments(91).await.unwrap().len(), 150);
    }

    #[test]
    fn a_bad_collection_is_refused_with_what_is_wrong() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "2x", "a b", "a/b", "é", long.as_str()] {
            assert!(matches!(check_new(name, 4, 1), Err(CatalogueError::Name { .. })), "{name}");
        }
        for name in ["x", "_", "X_9", &long[1..]] {
            assert_eq!(check_new(name, 4, 1).unwrap(), MetricType::L2);
        }
        assert!(matches!(check_new("x", 0, 1), Err(CatalogueError::Dimension { dimension: 0 })));
        assert!(matches!(check_new("x", 32_769, 1), Err(CatalogueError::Dimension { .. })));
        assert!(matches!(check_new("x", 4, 0), Err(CatalogueError::Metric { metric: 0 })));
        assert!(matches!(check_new("x", 4, 4), Err(CatalogueError::Metric { metric: 4 })));
    }
}

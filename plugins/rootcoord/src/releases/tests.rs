//! Dropped collections, with a QueryCoord that is told what to answer.

use std::sync::atomic::{AtomicBool, Ordering};

use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use proto::store::{Fault, MemoryStore};

use super::*;

/// Holds collections until it is told to release them.
#[derive(Default)]
struct Fake {
    away: AtomicBool,
    hangs: AtomicBool,
    fails: AtomicBool,
    loaded: Mutex<BTreeSet<i64>>,
    asked: Mutex<Vec<i64>>,
}

#[async_trait]
impl QueryCoord for Arc<Fake> {
    fn is_there(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }

    async fn release(&self, collection_id: i64) -> Result<(), Status> {
        self.asked.lock().unwrap().push(collection_id);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if !self.is_there() || self.fails.load(Ordering::Relaxed) {
            return Err(Status::unavailable("no QueryCoord"));
        }
        let was_loaded = self.loaded.lock().unwrap().remove(&collection_id);
        if was_loaded { Ok(()) } else { Err(Status::not_found("it is not loaded")) }
    }
}

struct Rig {
    store: Arc<MemoryStore>,
    catalogue: Arc<Catalogue<MemoryStore>>,
    query_coord: Arc<Fake>,
    releases: Arc<Releases<MemoryStore, Arc<Fake>>>,
}

impl Rig {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let catalogue = Arc::new(Catalogue::new(Arc::clone(&store)));
        let query_coord = Arc::new(Fake::default());
        let limit = Duration::from_secs(5);
        let releases = Arc::new(Releases::new(Arc::clone(&catalogue), Arc::clone(&query_coord), limit));
        Self { store, catalogue, query_coord, releases }
    }

    /// A loaded collection with this id and so many segments is dropped.
    async fn drop_loaded(&self, id: i64, segments: i64) {
        let info = CollectionInfo {
            collection_id: id,
            collection_name: format!("c{id}"),
            dimension: 4,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        };
        self.catalogue.create(&info).await.unwrap();
        let found = self.catalogue.by_id(id).await.unwrap();
        for segment_id in 0..segments {
            let path = format!("/{segment_id}");
            let info = SegmentInfo { segment_id, collection_id: id, path: path.clone(), num_rows: 1, first_id: 1 };
            self.catalogue.add_segment(&found, &info, path.as_ref()).await.unwrap();
        }
        self.query_coord.loaded.lock().unwrap().insert(id);
        self.catalogue.drop_collection(&info.collection_name).await.unwrap();
    }

    fn run(&self) -> tokio::task::JoinHandle<()> {
        let releases = Arc::clone(&self.releases);
        tokio::spawn(async move { releases.run().await })
    }

    async fn keys(&self) -> usize {
        self.store.range("").await.unwrap().len()
    }

    /// Time is paused: it goes on while nothing else is to be done.
    async fn until_nothing_is_left(&self) {
        let empty = async {
            while self.keys().await > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), empty).await.expect("nothing is left in the end");
        assert_eq!(*self.query_coord.loaded.lock().unwrap(), BTreeSet::new());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_before_is_released_and_swept_at_the_start() {
    let rig = Rig::new();
    for id in [7, 8] {
        rig.drop_loaded(id, 150).await;
    }
    rig.run();
    rig.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_querycoord_it_is_swept_and_released_when_one_comes() {
    let rig = Rig::new();
    rig.query_coord.away.store(true, Ordering::Relaxed);
    rig.drop_loaded(7, 150).await;
    assert!(!rig.releases.released(7).await);
    rig.run();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.keys().await, 1, "only that it was dropped is kept");
    assert_eq!(rig.query_coord.asked.lock().unwrap().len(), 1, "nobody is asked who is not there");
    rig.query_coord.away.store(false, Ordering::Relaxed);
    rig.releases.wake();
    rig.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_by_itself_and_less_and_less_often() {
    let rig = Rig::new();
    rig.drop_loaded(7, 1).await;
    rig.query_coord.fails.store(true, Ordering::Relaxed);
    rig.run();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = rig.query_coord.asked.lock().unwrap().len();
    // At 0, 1, 3, 7, 15, 31 and 63 seconds, then each minute.
    assert_eq!(asked, 15);
    rig.query_coord.fails.store(false, Ordering::Relaxed);
    rig.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn what_etcd_loses_on_the_way_is_done_again() {
    for faults in [[Fault::Lost; 3], [Fault::Unanswered; 3]] {
        let rig = Rig::new();
        rig.drop_loaded(7, 150).await;
        rig.store.fail_next(faults);
        rig.run();
        rig.until_nothing_is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_drops_hears_whether_it_is_released_and_does_not_wait_for_long() {
    let rig = Rig::new();
    rig.drop_loaded(7, 1).await;
    assert!(rig.releases.released(7).await);
    // Not loaded is as good.
    assert!(rig.releases.released(70).await);
    rig.query_coord.hangs.store(true, Ordering::Relaxed);
    rig.drop_loaded(8, 1).await;
    let began = tokio::time::Instant::now();
    assert!(!rig.releases.released(8).await);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    // Half of what the caller waits for.
    let deadline = Some(Instant::now() + Duration::from_secs(2));
    let began = tokio::time::Instant::now();
    assert!(!Call { deadline, trace: None }.serve(rig.releases.released(8)).await);
    assert!(began.elapsed() <= Duration::from_millis(1_002), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_is_not_told_twice_of_what_it_has_released() {
    let rig = Rig::new();
    rig.drop_loaded(7, 1).await;
    assert!(rig.releases.released(7).await);
    rig.run();
    rig.until_nothing_is_left().await;
    assert_eq!(*rig.query_coord.asked.lock().unwrap(), [7]);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_where_no_releaser_runs_any_more_ends_all_the_same() {
    let rig = Rig::new();
    rig.drop_loaded(7, 150).await;
    rig.releases.end_what_is_left();
    rig.until_nothing_is_left().await;
    // It ran, and was ended.
    let run = rig.run();
    tokio::task::yield_now().await;
    run.abort();
    let _ = run.await;
    rig.drop_loaded(8, 150).await;
    rig.releases.end_what_is_left();
    rig.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_generation_dropped_after_the_first_look_is_found_by_the_next() {
    let rig = Rig::new();
    rig.run();
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.drop_loaded(7, 150).await;
    rig.until_nothing_is_left().await;
}

//! Generations of the engine that take each other's place.

use std::sync::atomic::{AtomicBool, Ordering};

use plugin_api::{Error, KeyValue, Transaction, async_trait};
use tokio::task::JoinHandle;

use super::*;
use crate::core::Knowledge;

type Coord<S> = Service<Engine<S, Nodes>, Nodes>;

/// A store that is slow to write, or cannot be asked.
#[derive(Default)]
struct Etcd {
    inner: MemoryStore,
    away: AtomicBool,
    hangs: AtomicBool,
}

impl Etcd {
    fn is_there(&self) -> Result<(), Error> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(Error::new(Code::Unavailable, "no etcd")) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        self.is_there()?;
        self.inner.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Vec<KeyValue>, Error> {
        self.is_there()?;
        self.inner.range(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, Error> {
        self.is_there()?;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.inner.transact(transaction).await
    }
}

async fn start<S: Store>(engine: &Arc<Engine<S, Nodes>>, known: Known) -> JoinHandle<()> {
    tokio::spawn(engine.activate(known).await.unwrap())
}

/// What is known when all that is to be waited for has ended.
async fn handed<S: Store>(engine: &Arc<Engine<S, Nodes>>, task: JoinHandle<()>) -> Knowledge {
    engine.deactivate();
    task.await.unwrap();
    serde_json::from_slice(&serde_json::to_vec(&engine.knowledge()).unwrap()).unwrap()
}

async fn find<S: Store>(coord: &Coord<S>) -> (Vec<i64>, bool) {
    let request = SearchRequest {
        collection_name: "c".to_owned(),
        topk: 9,
        vectors: vec![Vector { values: vec![0.0] }],
        ..SearchRequest::default()
    };
    let answer = coord.search(Request::new(request)).await.unwrap().into_inner();
    (answer.results[0].hits.iter().map(|hit| hit.id).collect(), answer.partial)
}

async fn load_all<S: Store>(coord: &Coord<S>) -> Result<(), Status> {
    let request = LoadCollectionRequest { collection_name: "c".to_owned(), replica_number: 0 };
    coord.load_collection(Request::new(request)).await.map(drop)
}

/// An engine with the four segments of `c` loaded, two on each of two nodes.
async fn loaded<S: Store + Default>() -> (Arc<S>, Arc<Nodes>, Coord<S>, JoinHandle<()>) {
    let (store, cluster) = (Arc::<S>::default(), Arc::new(Nodes::default()));
    cluster.change(|content| {
        content.held = [(1, BTreeSet::new()), (2, BTreeSet::new())].into();
        content.collections = Some([("c".to_owned(), (5, infos([10, 11, 12, 13])))].into());
    });
    let coord = service(engine(&store, &cluster), &cluster);
    let task = start(&coord.engine, Known::Nothing).await;
    load_all(&coord).await.unwrap();
    (store, cluster, coord, task)
}

const ALL: [i64; 4] = [10, 11, 12, 13];

#[tokio::test]
async fn a_search_right_after_the_switch_is_whole_and_asks_who_can_be_called() {
    let (store, cluster, old, task) = loaded::<MemoryStore>().await;
    let knowledge = handed(&old.engine, task).await;
    cluster.change(|content| content.silent = true);
    let new = service(engine(&store, &cluster), &cluster);
    let _task = start(&new.engine, Known::Handed(knowledge)).await;
    assert_eq!(find(&new).await, (ALL.to_vec(), false));
    let served = new.engine.serving(5).unwrap();
    assert!(served.segments.iter().all(|served| served.callable == 1), "{served:?}");
    assert_eq!(old.engine.serving(5).unwrap(), served);
}

#[tokio::test]
async fn a_swap_loads_nothing_and_moves_nothing() {
    let (store, cluster, mut coord, mut task) = loaded::<MemoryStore>().await;
    let kept = store.range("").await.unwrap();
    for _ in 0..20 {
        let knowledge = handed(&coord.engine, task).await;
        coord = service(engine(&store, &cluster), &cluster);
        task = start(&coord.engine, Known::Handed(knowledge)).await;
        assert_eq!(find(&coord).await, (ALL.to_vec(), false));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((cluster.loads(), cluster.held()), (4, [(1, vec![10, 12]), (2, vec![11, 13])].into()));
    assert_eq!(store.range("").await.unwrap(), kept);
}

#[tokio::test]
async fn a_search_on_the_old_one_finds_what_the_new_one_has_moved() {
    let (store, cluster, old, task) = loaded::<MemoryStore>().await;
    let knowledge = handed(&old.engine, task).await;
    let new = engine(&store, &cluster);
    let _task = start(&new, Known::Handed(knowledge)).await;
    // One comes and takes a share, and then another goes.
    cluster.change(|content| drop(content.held.insert(3, BTreeSet::new())));
    let moved = tokio::time::timeout(Duration::from_secs(10), async {
        while cluster.held().values().map(Vec::len).max() > Some(2) || cluster.held()[&3].is_empty() {
            tokio::task::yield_now().await;
        }
    });
    moved.await.unwrap();
    assert_eq!(find(&old).await, (ALL.to_vec(), false));
    cluster.change(|content| drop(content.held.remove(&1)));
    let moved = tokio::time::timeout(Duration::from_secs(10), async {
        while cluster.held().values().map(Vec::len).sum::<usize>() < 4 || find(&old).await.1 {
            tokio::task::yield_now().await;
        }
    });
    moved.await.unwrap();
    assert_eq!(find(&old).await, (ALL.to_vec(), false));
}

#[tokio::test(start_paused = true)]
async fn a_refused_swap_goes_on_without_asking_etcd() {
    let (store, cluster, coord, task) = loaded::<Etcd>().await;
    let _knowledge = handed(&coord.engine, task).await;
    store.away.store(true, Ordering::Relaxed);
    let other = engine(&store, &cluster);
    assert!(other.activate(Known::Nothing).await.is_err());
    assert!(other.activate(Known::Kept).await.is_err(), "it has known nothing yet");
    let _task = start(&coord.engine, Known::Kept).await;
    assert_eq!(find(&coord).await, (ALL.to_vec(), false));
    store.away.store(false, Ordering::Relaxed);
    cluster.change(|content| drop(content.held.remove(&2)));
    let whole = tokio::time::timeout(Duration::from_secs(60), async {
        while cluster.held()[&1].len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    whole.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_being_written_is_waited_for_but_not_for_ever() {
    let (store, cluster, coord, task) = loaded::<Etcd>().await;
    let release = ReleaseCollectionRequest { collection_name: "c".to_owned(), collection_id: 0 };
    let mut releasing = Box::pin(coord.release_collection(Request::new(release.clone())));
    let _ = tokio::time::timeout(Duration::from_millis(100), &mut releasing).await;
    drop(releasing);
    let knowledge = handed(&coord.engine, task).await;
    assert!(store.inner.get("collection/5").await.unwrap().is_none());
    // The next begins nothing that is not asked for, and ends what is left.
    let coord = service(engine(&store, &cluster), &cluster);
    let task = start(&coord.engine, Known::Handed(knowledge)).await;
    let empty = tokio::time::timeout(Duration::from_secs(60), async {
        while cluster.held().values().any(|held| !held.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    empty.await.unwrap();
    load_all(&coord).await.unwrap();
    store.hangs.store(true, Ordering::Relaxed);
    let mut releasing = Box::pin(coord.release_collection(Request::new(release)));
    let _ = tokio::time::timeout(Duration::from_millis(100), &mut releasing).await;
    drop(releasing);
    let begun = tokio::time::Instant::now();
    let knowledge = handed(&coord.engine, task).await;
    assert!((1..2).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(serde_json::to_string(&knowledge).unwrap().contains(r#""unsure":["collection/5"]"#), "{knowledge:?}");
}

#[tokio::test]
async fn a_load_whose_caller_has_gone_goes_on_after_a_swap() {
    let (store, cluster, old, task) = loaded::<MemoryStore>().await;
    cluster.change(|content| {
        content.collections = Some([("c".to_owned(), (5, infos([10, 11, 12, 13, 14, 15])))].into());
        content.loading_for_ever = [1, 2].into();
    });
    let mut load = Box::pin(load_all(&old));
    while cluster.loads() < 6 {
        assert!(futures_util::poll!(&mut load).is_pending());
        tokio::task::yield_now().await;
    }
    drop(load);
    let knowledge = handed(&old.engine, task).await;
    cluster.change(|content| content.loading_for_ever.clear());
    let new = service(engine(&store, &cluster), &cluster);
    let _task = start(&new.engine, Known::Handed(knowledge)).await;
    let whole = tokio::time::timeout(Duration::from_secs(10), async {
        while find(&new).await.0.len() < 6 {
            tokio::task::yield_now().await;
        }
    });
    whole.await.unwrap();
    assert_eq!(find(&new).await, (vec![10, 11, 12, 13, 14, 15], false));
    assert_eq!(cluster.loads(), 8, "each of the two once more");
}

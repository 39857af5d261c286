use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use proto::batch::Batch;
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use tokio::task::JoinHandle;

use super::*;
use crate::segment::{Rows, Segment};

/// Longer than anything here takes that is not to take for ever.
const LONG: Duration = Duration::from_secs(20);

fn searches(threads: usize, waiting_limit: usize) -> Arc<Searches> {
    Arc::new(Searches::new(NonZeroUsize::new(threads).unwrap(), waiting_limit))
}

fn segment(rows: usize) -> Arc<Segment> {
    let collection = CollectionInfo { dimension: 1, metric_type: MetricType::L2.into(), ..CollectionInfo::default() };
    let info = SegmentInfo { num_rows: rows as u64, ..SegmentInfo::default() };
    let values: Vec<_> = (0..rows).map(|row| row as f32).collect();
    Arc::new(Segment::new(info, &collection, Rows::from_slice(&values).unwrap(), None).unwrap())
}

fn scan_of(segment: Arc<Segment>, queries: usize, deadline: Option<Instant>) -> Scan {
    let queries: Vec<_> = (0..queries).flat_map(|query| (query as f32).to_le_bytes()).collect();
    Scan::new(vec![segment], Batch::new(&[], &queries, 1, 1).unwrap(), 1, deadline)
}

/// Done in no time.
fn short() -> Scan {
    scan_of(segment(100), 3, None)
}

/// Takes longer than any test lets it.
fn endless() -> Scan {
    endless_until(None)
}

fn endless_until(deadline: Option<Instant>) -> Scan {
    of_millions(2000, deadline)
}

fn of_millions(queries: usize, deadline: Option<Instant>) -> Scan {
    static SEGMENT: LazyLock<Arc<Segment>> = LazyLock::new(|| segment(4_000_000));
    scan_of(Arc::clone(&SEGMENT), queries, deadline)
}

/// Of vectors that are not there.
fn broken() -> Scan {
    let mut segment = segment(100);
    Arc::get_mut(&mut segment).unwrap().values = Rows::from_slice(&[0.0; 10]).unwrap();
    scan_of(segment, 1, None)
}

fn start(searches: &Arc<Searches>, scan: Scan) -> JoinHandle<Answer> {
    let searches = Arc::clone(searches);
    tokio::spawn(async move { searches.search(scan).await })
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(what, poll).await;
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn free(searches: &Searches) -> usize {
    searches.turns.threads.available_permits()
}

async fn counts(searches: &Arc<Searches>, expected: (usize, usize)) {
    eventually(&format!("{expected:?} searches run and wait"), || searches.turns.counts() == expected).await;
}

fn found(answer: Answer) -> Vec<i64> {
    answer.unwrap().iter().map(|result| result.hits[0].id).collect()
}

#[tokio::test]
async fn more_than_may_run_wait_and_more_than_may_wait_are_refused() {
    let searches = searches(1, 2);
    let running = start(&searches, endless());
    counts(&searches, (1, 0)).await;
    let waiting = [start(&searches, short()), start(&searches, short())];
    counts(&searches, (1, 2)).await;
    let refused = Status::from(searches.search(short()).await.unwrap_err());
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = "1 searches run on this node's threads and 2 wait, which is as many as may: search again later";
    assert!(refused.message().starts_with(text), "{refused}");
    running.abort();
    for waiting in waiting {
        assert_eq!(found(in_time("a turn", waiting).await.unwrap()), [0, 1, 2]);
    }
    counts(&searches, (0, 0)).await;
    assert_eq!(free(&searches), 1);
}

#[tokio::test]
async fn none_may_wait_where_none_is_allowed_to() {
    let searches = searches(1, 0);
    assert_eq!(found(searches.search(short()).await), [0, 1, 2]);
    let running = start(&searches, endless());
    counts(&searches, (1, 0)).await;
    assert_eq!(searches.search(short()).await, Err(SearchError::Full { running: 1, waiting: 0 }));
    running.abort();
}

#[tokio::test]
async fn who_waits_is_served_in_order() {
    let searches = searches(1, 10);
    let first = start(&searches, endless());
    counts(&searches, (1, 0)).await;
    let second = start(&searches, endless());
    counts(&searches, (1, 1)).await;
    let third = start(&searches, short());
    counts(&searches, (1, 2)).await;
    first.abort();
    counts(&searches, (1, 1)).await;
    // The one that came last is short: were it served first, it would be done, and the other would not.
    second.abort();
    assert_eq!(found(in_time("its turn", third).await.unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn who_leaves_the_queue_makes_room_in_it_at_once() {
    let searches = searches(1, 1);
    let running = start(&searches, endless());
    counts(&searches, (1, 0)).await;
    let waiting = start(&searches, endless());
    counts(&searches, (1, 1)).await;
    waiting.abort();
    counts(&searches, (1, 0)).await;
    let waiting = start(&searches, short());
    counts(&searches, (1, 1)).await;
    running.abort();
    assert_eq!(found(in_time("its turn", waiting).await.unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn a_search_whose_caller_goes_gives_its_threads_back() {
    let searches = searches(3, 0);
    for _ in 0..5 {
        let running = start(&searches, endless());
        eventually("all threads search", || free(&searches) == 0).await;
        running.abort();
        eventually("all threads are free", || free(&searches) == 3).await;
    }
    counts(&searches, (0, 0)).await;
}

#[tokio::test]
async fn a_deadline_ends_a_search_that_runs() {
    let searches = searches(2, 0);
    drop(endless());
    // Many strips fit into that, and never all.
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = in_time("the deadline", searches.search(of_millions(500, Some(deadline)))).await.unwrap_err();
    assert!(Instant::now() >= deadline);
    let SearchError::Unfinished { searched, rows: 4_000_000 } = error else { panic!("{error}") };
    assert!((1..4_000_000).contains(&searched), "{error}");
    let status = Status::from(error);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let text = format!("the deadline came when {searched} of 4000000 rows had been searched");
    assert_eq!(status.message(), text);
    eventually("all threads are free", || free(&searches) == 2).await;
}

#[tokio::test]
async fn a_deadline_ends_a_search_that_waits() {
    let searches = searches(1, 1);
    let running = start(&searches, endless());
    counts(&searches, (1, 0)).await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let waited = in_time("the deadline", searches.search(endless_until(Some(deadline)))).await.unwrap_err();
    assert_eq!(waited, SearchError::Waited { running: 1, waiting: 0 });
    assert_eq!(Status::from(waited).code(), Code::DeadlineExceeded);
    counts(&searches, (1, 0)).await;
    running.abort();
}

#[tokio::test]
async fn threads_notice_a_deadline_without_the_runtime() {
    let searches = searches(2, 0);
    drop(endless());
    let deadline = Instant::now() + Duration::from_millis(50);
    let running = start(&searches, endless_until(Some(deadline)));
    eventually("it has begun", || free(&searches) < 2).await;
    // Nothing of the runtime runs meanwhile: this is its only worker.
    let begin = Instant::now();
    while free(&searches) < 2 {
        assert!(begin.elapsed() < LONG, "the threads go on");
        std::thread::yield_now();
    }
    assert!(matches!(running.await.unwrap(), Err(SearchError::Unfinished { .. })));
}

#[tokio::test]
async fn a_panic_is_an_answer_and_costs_no_thread() {
    let searches = searches(2, 0);
    for _ in 0..3 {
        let panicked = Status::from(in_time("an answer", searches.search(broken())).await.unwrap_err());
        assert_eq!(panicked.code(), Code::Internal);
        assert!(panicked.message().starts_with("the search has panicked: "), "{panicked}");
    }
    counts(&searches, (0, 0)).await;
    assert_eq!(free(&searches), 2);
    assert_eq!(found(searches.search(short()).await), [0, 1, 2]);
}

#[tokio::test]
async fn a_search_has_all_threads_until_another_waits_for_one() {
    let searches = searches(4, 1);
    let first = start(&searches, endless());
    eventually("all threads search", || free(&searches) == 0).await;
    let second = start(&searches, endless());
    counts(&searches, (2, 0)).await;
    let third = start(&searches, short());
    assert_eq!(found(in_time("a thread", third).await.unwrap()), [0, 1, 2]);
    drop((first, second));
}

#[tokio::test]
async fn more_threads_find_what_one_finds() {
    let (one, many) = (searches(1, 0), searches(4, 0));
    for queries in [1, 200] {
        let scan = || scan_of(segment(300_000), queries, None);
        assert_eq!(one.search(scan()).await, many.search(scan()).await);
        eventually("all threads are free", || free(&many) == 4).await;
    }
}

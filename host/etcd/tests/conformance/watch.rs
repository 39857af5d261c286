//! Watches.

use crate::ops::{Op, all, delete, delete_range, put};
use crate::pair::Pair;
use crate::streams::{Create, Streams, watch};

fn of(key: &str, range_end: &str) -> Create {
    Create { key: key.to_owned(), range_end: range_end.to_owned(), ..Create::default() }
}

/// Puts and deletions of `a`, `ab` and `b`, with a transaction: 8 events of 6 revisions, up to 7.
async fn with_changes() -> Pair {
    let pair = Pair::start().await;
    pair.put(put("a", "1")).await.expect("a put");
    pair.put(put("b", "1")).await.expect("a put");
    pair.txn(all(vec![put("a", "2").op(), put("ab", "1").op()])).await.expect("a transaction");
    pair.delete(delete("a")).await.expect("a deletion");
    pair.put(put("a", "3")).await.expect("a put");
    pair.delete(delete_range("a", "b")).await.expect("a deletion");
    pair
}

#[tokio::test]
async fn the_past_is_told_alike_from_every_revision() {
    let pair = with_changes().await;
    for (start_revision, count) in [(1, 8), (2, 8), (3, 7), (4, 6), (5, 4), (6, 3), (7, 2)] {
        watch(&pair, "\0", "\0", start_revision).await.events(count).await;
    }
    watch(&pair, "a", "b", 2).await.events(7).await;
    watch(&pair, "b", "", 2).await.events(1).await;
}

#[tokio::test]
async fn the_present_and_the_future_are_told_alike() {
    let pair = with_changes().await;
    let mut now = watch(&pair, "a", "\0", 0).await;
    let mut later = watch(&pair, "a", "\0", 9).await;
    for value in ["1", "2", "3"] {
        pair.put(put("a", value)).await.expect("a put");
    }
    let first = |events: &std::collections::BTreeMap<i64, Vec<etcd_client::proto::PbEvent>>| {
        events[&0][0].kv.as_ref().map(|kv| kv.mod_revision)
    };
    assert_eq!(first(&now.events(3).await), Some(8));
    assert_eq!(first(&later.events(2).await), Some(9));
}

#[tokio::test]
async fn filters_and_former_values_are_alike() {
    let pair = with_changes().await;
    for (filters, count) in [(vec![], 8), (vec![0], 3), (vec![1], 5), (vec![1, 1], 5)] {
        let mut streams = Streams::open(&pair).await;
        let create = Create { start_revision: 2, prev_kv: true, filters, ..of("\0", "\0") };
        streams.create(create).await;
        streams.events(count).await;
    }
    // What everybody filters is told to nobody; the next event shows it.
    let mut streams = Streams::open(&pair).await;
    streams.create(Create { filters: vec![0, 1], ..of("\0", "\0") }).await;
    streams.create(Create { prev_kv: true, ..of("a", "") }).await;
    pair.put(put("a", "4")).await.expect("a put");
    pair.put(put("a", "5")).await.expect("a put");
    streams.events(2).await;
}

#[tokio::test]
async fn many_watches_share_a_stream_and_ids_are_given_alike() {
    let pair = with_changes().await;
    let mut streams = Streams::open(&pair).await;
    for create in [
        of("a", ""),
        Create { watch_id: 1, ..of("a", "b") },
        of("b", ""),
        Create { watch_id: 7, ..of("\0", "\0") },
        Create { watch_id: 7, ..of("c", "") },
        Create { watch_id: -5, ..of("a", "") },
        of("b", "a"),
        of("b", "b"),
        of("", ""),
        of("", "b"),
    ] {
        streams.create(create).await;
    }
    pair.put(put("a", "1")).await.expect("a put");
    pair.txn(all(vec![put("b", "2").op(), put("ab", "2").op()])).await.expect("a transaction");
    let told = streams.events(4 + 6).await;
    assert_eq!(told[&7].len(), 3);
}

#[tokio::test]
async fn a_cancelled_watch_is_silent_and_its_id_is_free() {
    let pair = with_changes().await;
    let mut streams = Streams::open(&pair).await;
    streams.create(Create { watch_id: 3, ..of("a", "") }).await;
    streams.create(of("b", "")).await;
    assert!(streams.cancel(3).await.canceled);
    // Of one that is not there nobody answers: the next answer is that of the next request.
    streams.send_cancel(3).await;
    streams.send_cancel(99).await;
    pair.put(put("a", "")).await.expect("a put");
    pair.put(put("b", "")).await.expect("a put");
    streams.events(1).await;
    let again = streams.create(Create { watch_id: 3, ..of("a", "") }).await;
    assert!(again.created && !again.canceled, "{again:?}");
    streams.create(of("a", "")).await;
}

#[tokio::test]
async fn a_compacted_past_ends_a_watch_and_says_from_where_one_may_begin() {
    let pair = with_changes().await;
    pair.compact(6).await.expect("a compaction");
    let mut streams = Streams::open(&pair).await;
    for start_revision in [1, 2, 5, -3] {
        streams.create(Create { start_revision, ..of("a", "b") }).await;
        let ended = streams.controls(1).await.remove(0);
        assert!(ended.canceled && ended.compact_revision == 6, "{ended:?}");
    }
    streams.create(Create { start_revision: 6, prev_kv: true, ..of("a", "b") }).await;
    streams.events(3).await;
    // It is cancelled once more, and its id is taken until then.
    streams.create(Create { watch_id: 1, ..of("a", "") }).await;
    streams.cancel(1).await;
}

#[tokio::test]
async fn progress_is_told_when_it_is_asked_for() {
    let pair = with_changes().await;
    let mut streams = Streams::open(&pair).await;
    streams.create(of("a", "b")).await;
    let told = streams.progress().await;
    assert_eq!((told.watch_id, told.header.map(|header| header.revision)), (-1, Some(7)));
    pair.put(put("z", "")).await.expect("a put");
    assert_eq!(streams.progress().await.header.map(|header| header.revision), Some(8));
}

#[tokio::test]
async fn large_answers_come_in_pieces_where_that_is_wanted() {
    let pair = Pair::start().await;
    for key in ["a", "b", "c"] {
        pair.put(put(key, &"x".repeat(1 << 20))).await.expect("a put");
    }
    let mut streams = Streams::open(&pair).await;
    streams.create(Create { start_revision: 2, fragment: true, ..of("\0", "\0") }).await;
    streams.events(3).await;
    assert_eq!(streams.fragments(), [2, 2]);
}

//! Puts, ranges, deletions, compaction.

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest};

use crate::ops::{delete, delete_range, everything, get, get_range, put};
use crate::pair::Pair;

/// Keys with histories: `a` put thrice, `b` deleted, `c` deleted and put again. The revision is 9.
async fn with_keys() -> Pair {
    let pair = Pair::start().await;
    for (key, value) in [("a", "3"), ("ab", "1"), ("b", "2"), ("c", "2")] {
        pair.put(put(key, value)).await.expect("a put");
    }
    pair.put(put("a", "2")).await.expect("a put");
    pair.delete(delete_range("b", "d")).await.expect("a deletion");
    pair.put(put("c", "1")).await.expect("a put");
    let answer = pair.put(put("a", "1")).await.expect("a put");
    assert_eq!(answer.header.map(|header| header.revision), Some(9));
    pair
}

#[tokio::test]
async fn puts_name_former_values_and_keep_what_they_are_told_to() {
    let pair = Pair::start().await;
    for request in [put("a", "1"), put("a", ""), put("b", "1")] {
        pair.put(PbPutRequest { prev_kv: true, ..request }).await.expect("a put");
    }
    pair.grant(7, 60).await.expect("a new lease");
    pair.put(PbPutRequest { lease: 7, ..put("a", "2") }).await.expect("a put");
    for (ignore_value, ignore_lease) in [(true, false), (false, true), (true, true)] {
        let value = if ignore_value { "" } else { "3" };
        let request = PbPutRequest { ignore_value, ignore_lease, prev_kv: true, ..put("a", value) };
        pair.put(request).await.expect("the key is there");
        pair.range(get("a")).await.expect("a read");
        pair.time_to_live(7).await.expect("a lease");
    }
    pair.put(PbPutRequest { ignore_value: true, ..put("a", "") }).await.expect("a put that lets the lease go");
    pair.time_to_live(7).await.expect("a lease");
}

#[tokio::test]
async fn ranges_are_cut_counted_sorted_and_filtered_alike() {
    let pair = with_keys().await;
    for (key, range_end) in
        [("a", ""), ("x", ""), ("a", "b"), ("a", "\0"), ("\0", "\0"), ("b", "a"), ("b", "b"), ("ab", "c")]
    {
        pair.range(get_range(key, range_end)).await.expect("a read");
    }
    for limit in [-1, 0, 1, 2, 3, 4] {
        for (keys_only, count_only) in [(false, false), (true, false), (false, true)] {
            let request = PbRangeRequest { limit, keys_only, count_only, ..everything() };
            pair.range(request).await.expect("a read");
        }
        for sort_target in 0..=4 {
            for sort_order in 0..=2 {
                let request = PbRangeRequest { limit, sort_target, sort_order, ..everything() };
                pair.range(request).await.expect("a read");
            }
        }
        for bound in 1..=10 {
            for request in [
                PbRangeRequest { min_mod_revision: bound, ..everything() },
                PbRangeRequest { max_mod_revision: bound, ..everything() },
                PbRangeRequest { min_create_revision: bound, ..everything() },
                PbRangeRequest { max_create_revision: bound, max_mod_revision: 8, ..everything() },
            ] {
                pair.range(PbRangeRequest { limit, ..request }).await.expect("a read");
            }
        }
    }
}

#[tokio::test]
async fn every_revision_is_read_alike_before_and_after_compactions() {
    let pair = with_keys().await;
    for compacted in [0, 1, 4, 7, 9] {
        pair.compact(compacted).await.expect("a compaction");
        for revision in -1..=11 {
            for request in [everything(), get("b"), PbRangeRequest { count_only: true, ..everything() }] {
                let answer = pair.range(PbRangeRequest { revision, ..request }).await;
                assert_eq!(answer.is_ok(), revision <= 0 || (compacted..=9).contains(&revision), "{revision}");
            }
        }
    }
}

#[tokio::test]
async fn compactions_are_accepted_and_refused_alike() {
    let pair = with_keys().await;
    for revision in [-1, 0, 0, 3, 3, 2, 10, 100, 9, 9] {
        let _ = pair.compact(revision).await;
    }
    pair.put(put("z", "")).await.expect("a put");
    pair.compact(10).await.expect("the present revision");
}

#[tokio::test]
async fn deletions_name_what_was_there_and_are_a_revision_only_then() {
    let pair = with_keys().await;
    for request in [delete("x"), delete_range("b", "a"), delete_range("x", "\0"), delete("b")] {
        let answer = pair.delete(PbDeleteRequest { prev_kv: true, ..request }).await.expect("a deletion");
        assert_eq!((answer.deleted, answer.header.map(|header| header.revision)), (0, Some(9)));
    }
    for request in [delete("c"), delete_range("a", "b"), delete_range("\0", "\0")] {
        pair.delete(PbDeleteRequest { prev_kv: true, ..request }).await.expect("a deletion");
        pair.range(everything()).await.expect("a read");
    }
}

//! Segments that go from one generation to another, and what is refused on the way.

use std::fs::{self, File};
use std::os::fd::AsFd;

use bytesize::ByteSize;
use plugin_api::error::chain;
use plugin_api::{BoxError, Component as _, Resume, Snapshot};
use proto::rootcoord::v1::CollectionInfo;

use super::*;
use crate::memory::Unsealed;
use crate::segments::SegmentsError;
use crate::{QueryNode, QueryNodeConfig, segment};

const METRICS: [MetricType; 3] = [MetricType::L2, MetricType::Ip, MetricType::Cosine];

fn node(limit: ByteSize) -> QueryNode {
    QueryNode::new(QueryNodeConfig { memory_limit: Some(limit), ..QueryNodeConfig::default() }).unwrap()
}

/// A segment with this id, of 5000 rows of 3 components; which metric it has goes by the id.
fn made(id: i64) -> Segment {
    let metric_type = METRICS[id as usize % 3].into();
    let collection = CollectionInfo { collection_id: id % 3, dimension: 3, metric_type, ..CollectionInfo::default() };
    let values: Vec<f32> = (0..15_000).map(|at| (at + id) as f32).collect();
    let (path, first_id) = (format!("{id}.npy"), 10_000 * id);
    let info = SegmentInfo { segment_id: id, collection_id: id % 3, path, num_rows: 5000, first_id };
    Segment::new(info, &collection, Rows::from_slice(&values).unwrap(), None).unwrap()
}

/// A node that holds these.
fn holding(ids: impl IntoIterator<Item = i64>) -> QueryNode {
    let node = node(ByteSize::gib(1));
    node.segments.take_over(ids.into_iter().map(made).collect(), node.memory().unwrap()).unwrap();
    node
}

fn held(node: &QueryNode) -> Vec<i64> {
    node.segments.list(None).iter().map(|segment| segment.info.segment_id).collect()
}

/// All that a search goes by is as if it had been loaded here.
fn is_whole(node: &QueryNode) {
    for segment in node.segments.list(None) {
        let fresh = made(segment.info.segment_id);
        assert_eq!((&segment.info, segment.metric, segment.dimension), (&fresh.info, fresh.metric, fresh.dimension));
        assert_eq!((*segment.values).to_vec(), *fresh.values);
        assert_eq!((segment.norms.exact(), segment.norms.weights()), (fresh.norms.exact(), fresh.norms.weights()));
        assert_eq!((segment.rows(), segment.norms.exact().is_some()), (5000, segment.metric == MetricType::Cosine));
    }
    let each = segment::memory_bytes(5000, 3);
    assert_eq!(node.memory().unwrap().taken(), each * held(node).len() as u64);
}

/// The descriptors of memfds that this process has. A test has a process of its own.
fn memfds() -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    descriptors.filter(|target| target.to_string_lossy().starts_with("/memfd:")).count()
}

#[tokio::test]
async fn a_swap_hands_over_the_memory_itself_and_the_old_one_frees_only_its_own() {
    let old = holding(1..=6);
    let new = node(ByteSize::gib(1));
    new.restore(old.snapshot().await.unwrap()).await.unwrap();
    new.activate(Resume::Restored).await.unwrap();
    for (mine, other) in old.segments.list(None).iter().zip(new.segments.list(None)) {
        assert!(mine.is_same(&other));
    }
    assert_eq!(memfds(), 6 * 2 * 2);
    // A search that runs on the old one, and goes on when that is stopped.
    let searched = old.segments.list(None).remove(0);
    old.deactivate(plugin_api::Deactivation::SwappedOut).await;
    old.stop().await;
    assert_eq!((held(&old), memfds()), (vec![], 6 * 2 + 2));
    assert_eq!(searched.values[0], 1.0);
    drop(searched);
    assert_eq!((old.memory().unwrap().taken(), memfds()), (0, 6 * 2));
    assert_eq!(held(&new), [1, 2, 3, 4, 5, 6]);
    is_whole(&new);
}

#[tokio::test]
async fn what_was_handed_over_does_not_change_here_any_more_unless_the_swap_is_refused() {
    let old = holding([1, 2]);
    let _handed = old.snapshot().await.unwrap();
    let load = || old.segments.begin(vec![made(3).info]);
    assert_eq!(old.segments.release(&[1]), Err(SegmentsError::HandedOver));
    assert!(matches!(load().await, Err(SegmentsError::HandedOver)));
    old.activate(Resume::Kept).await.unwrap();
    assert!(load().await.unwrap().is_some());
    assert_eq!(old.segments.release(&[1]), Ok(1));
}

#[tokio::test]
async fn a_load_that_is_under_way_when_segments_are_handed_over_adds_nothing() {
    let old = holding([1]);
    let load = old.segments.begin(vec![made(2).info]).await.unwrap().unwrap();
    let handed = old.snapshot().await.unwrap();
    assert_eq!(load.finish(vec![made(2)]), Err(SegmentsError::HandedOver));
    let new = node(ByteSize::gib(1));
    new.restore(handed).await.unwrap();
    assert_eq!((held(&old), held(&new)), (vec![1], vec![1]));
}

#[tokio::test]
async fn a_roll_back_hands_back_what_the_new_one_has_made_of_it() {
    let old = holding([1, 2, 3]);
    let before = old.segments.list(None);
    let new = node(ByteSize::gib(1));
    new.restore(old.snapshot().await.unwrap()).await.unwrap();
    new.activate(Resume::Restored).await.unwrap();
    // It releases one, loads one, and loads one anew.
    new.segments.release(&[1, 2]).unwrap();
    for id in [2, 4] {
        let load = new.segments.begin(vec![made(id).info]).await.unwrap().unwrap();
        load.finish(vec![made(id)]).unwrap();
    }
    old.restore(new.snapshot().await.unwrap()).await.unwrap();
    old.activate(Resume::Restored).await.unwrap();
    let after = old.segments.list(None);
    assert_eq!(held(&old), [2, 3, 4]);
    assert!(Arc::ptr_eq(&after[1], &before[2]), "what is the same is not mapped again");
    assert!(after[0].is_same(&new.segments.list(None)[0]), "what was loaded anew is");
    drop((before, after));
    is_whole(&old);
    new.stop().await;
    is_whole(&old);
    assert_eq!(memfds(), 3 * 2);
}

#[tokio::test]
async fn a_smaller_limit_refuses_the_swap_and_names_the_segment() {
    let old = holding([1, 2, 3]);
    let new = node(ByteSize(segment::memory_bytes(5000, 3) * 2));
    let error = new.restore(old.snapshot().await.unwrap()).await.unwrap_err();
    let text = chain(&*error);
    assert!(text.starts_with("segment 3: 120.0 KiB are needed and 0 B are left: segments take"), "{text}");
    new.stop().await;
    assert_eq!((new.memory().unwrap().taken(), memfds()), (0, 3 * 2));
    old.activate(Resume::Kept).await.unwrap();
    is_whole(&old);
}

#[tokio::test]
async fn a_node_that_is_stopping_hands_nothing_over() {
    let old = holding([1]);
    old.segments.stop();
    let error = old.snapshot().await.unwrap_err();
    assert_eq!(error.to_string(), SegmentsError::Stopping.to_string());
}

/// What is refused leaves nothing behind, and a node that held something holds it still.
async fn refused(snapshot: Snapshot) -> String {
    let (new, before) = (holding([7]), memfds() - snapshot.files.iter().filter(|file| is_memfd(file)).count());
    let error: BoxError = new.restore(snapshot).await.unwrap_err();
    assert_eq!((held(&new), memfds()), (vec![7], before));
    is_whole(&new);
    chain(&*error)
}

fn is_memfd(file: &OwnedFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok()
}

#[tokio::test]
async fn a_descriptor_that_is_not_what_it_has_to_be_refuses_the_swap() {
    let old = holding([1, 2]);
    // Segment 2 is of COSINE: 60,000 bytes of rows, and norms of 8 and 4 bytes for each of 5000.
    let with = async |at: usize, file: OwnedFd| {
        let mut snapshot = old.snapshot().await.unwrap();
        snapshot.files[at] = file;
        refused(snapshot).await
    };
    let memfd = |bytes: usize| {
        let unsealed = Unsealed::new("other").unwrap();
        unsealed.write_at(&vec![0; bytes], 0).unwrap();
        unsealed
    };
    let sealed = |bytes| memfd(bytes).seal().unwrap().descriptor().unwrap();
    let unsealed = memfd(60_000).into_unsealed();
    // Not of a folder in memory, whose files know of seals.
    let regular = File::open(std::env::current_exe().unwrap()).unwrap();
    let no_memfd = "segment 2: its rows: the descriptor is that of no memfd: Invalid argument (os error 22)";
    assert_eq!(with(2, regular.into()).await, no_memfd);
    let text = with(2, unsealed).await;
    assert!(text.starts_with("segment 2: its rows: the memfd can be changed: it is sealed by"), "{text}");
    let sizes = [(2, "rows", 60_000, 59_999), (2, "rows", 60_000, 60_004), (3, "norms", 60_000, 20_000)];
    for (at, what, expected, found) in sizes {
        let text = format!("segment 2: its {what}: the memfd has {found} bytes, which has to be {expected}");
        assert_eq!(with(at, sealed(found)).await, text);
    }
    let closed = std::io::pipe().unwrap().0;
    assert!(with(1, closed.into()).await.starts_with("segment 1: its norms: the descriptor is that of no memfd"));
}

#[tokio::test]
async fn files_that_are_missing_or_too_many_refuse_the_swap() {
    let old = holding([1, 2]);
    for count in [0, 3, 5] {
        let mut snapshot = old.snapshot().await.unwrap();
        let more = snapshot.files[0].as_fd().try_clone_to_owned().unwrap();
        snapshot.files.push(more);
        snapshot.files.truncate(count);
        assert_eq!(refused(snapshot).await, format!("{count} files came with 2 segments, which have 2 each"));
    }
}

#[tokio::test]
async fn what_cannot_be_read_or_cannot_be_refuses_the_swap() {
    let old = holding([1, 2]);
    let altered = async |from: &str, to: &str| {
        let mut snapshot = old.snapshot().await.unwrap();
        let text = String::from_utf8(snapshot.bytes).unwrap();
        assert!(text.contains(from), "{text}");
        snapshot.bytes = text.replacen(from, to, 1).into_bytes();
        refused(snapshot).await
    };
    let cases = [
        (r#"{"readable_from""#, "", "is no state: expected"),
        (r#""segments""#, r#""others""#, "the state of version 1 is not as version 1 reads it: missing field"),
        (r#""IP""#, r#""HAMMING""#, "segment 1: its metric cannot be HAMMING"),
        (r#""COSINE""#, r#""METRIC_UNSPECIFIED""#, "segment 2: its metric cannot be METRIC_UNSPECIFIED"),
        (r#""dimension":3"#, r#""dimension":0"#, "segment 1: its dimension cannot be 0"),
        (r#""dimension":3"#, r#""dimension":40000"#, "segment 1: its dimension cannot be 40000"),
        (
            r#""dimension":3"#,
            r#""dimension":4"#,
            "segment 1: its rows: the memfd has 60000 bytes, which has to be 80000",
        ),
        (r#""rows":5000"#, r#""rows":0"#, "segment 1: its number of rows cannot be 0 from id 10000"),
        (r#""rows":5000"#, r#""rows":18446744073709551615"#, "segment 1: its number of rows cannot be"),
        (r#""first_id":10000"#, r#""first_id":9223372036854775807"#, "cannot be 5000 from id 9223372036854775807"),
        (r#""id":2"#, r#""id":1"#, "segment 1 was handed over twice"),
    ];
    for (from, to, text) in cases {
        let told = altered(from, to).await;
        assert!(told.contains(text), "{told}");
    }
    let mut newer = old.snapshot().await.unwrap();
    newer.state_version = 2;
    newer.bytes = br#"{"readable_from":2,"state":{}}"#.to_vec();
    assert_eq!(
        refused(newer).await,
        "the state has version 2, which versions from 2 on can read; this one has version 1"
    );
}

use std::fs::{self, File};
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use bytesize::ByteSize;
use proto::rootcoord::v1::MetricType;
use tokio::task::JoinHandle;
use tonic::Code;

use super::*;

/// A folder with files, and the loads of a node that reads from it.
struct Scene {
    dir: tempfile::TempDir,
    segments: Arc<Segments>,
    loads: Arc<Loads>,
}

impl Scene {
    fn new() -> Self {
        Self::with(ByteSize::gib(1), 8)
    }

    fn with(limit: ByteSize, most: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let segments = Arc::<Segments>::default();
        let memory = Arc::new(MemoryLimit::new(Some(limit)).unwrap());
        let mut loads = Loads::new(DataDirs::new(vec![dir.path().to_owned()]), Arc::clone(&segments), memory, most);
        // A block at a time.
        loads.turn_time = Duration::ZERO;
        Self { dir, segments, loads: Arc::new(loads) }
    }

    /// A file of rows of two components that are all `value`, and the segment that it is.
    fn file(&self, segment_id: i64, rows: u64, value: f32) -> SegmentInfo {
        let path = format!("{segment_id}.npy");
        write_npy(&self.dir.path().join(&path), rows, value);
        SegmentInfo { segment_id, collection_id: 5, path, num_rows: rows, first_id: segment_id * 1000 }
    }

    fn load<'a>(&'a self, segments: &[&SegmentInfo]) -> impl Future<Output = Result<usize, Status>> + use<'a> {
        let wanted = wanted(segments);
        async { self.loads.load(wanted).await.map(|loaded| loaded.len()) }
    }

    /// A load of these in a task of its own.
    fn spawn(&self, segments: &[&SegmentInfo]) -> JoinHandle<Result<usize, Status>> {
        let (loads, wanted) = (Arc::clone(&self.loads), wanted(segments));
        tokio::spawn(async move { loads.load(wanted).await.map(|loaded| loaded.len()) })
    }

    fn held(&self) -> Vec<i64> {
        self.segments.list(None).iter().map(|segment| segment.info.segment_id).collect()
    }

    /// Nothing is held, and nothing is left of what was.
    async fn is_empty(&self) {
        assert_eq!(self.held(), [0; 0]);
        until(|| self.loads.memory().taken() == 0 && mapped().is_empty()).await;
    }
}

fn wanted(segments: &[&SegmentInfo]) -> Wanted {
    let metric_type = MetricType::L2.into();
    let collection = CollectionInfo { collection_id: 5, dimension: 2, metric_type, ..CollectionInfo::default() };
    Wanted { collection, segments: segments.iter().copied().cloned().collect() }
}

fn write_npy(path: &Path, rows: u64, value: f32) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 2), }}\n");
    let start = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    let file = File::create(path).unwrap();
    file.write_all_at(&start, 0).unwrap();
    if value == 0.0 {
        file.set_len(start.len() as u64 + rows * 8).unwrap();
    } else {
        file.write_all_at(&value.to_le_bytes().repeat(rows as usize * 2), start.len() as u64).unwrap();
    }
}

/// The memfds of segments that this process has mapped. A test has a process of its own.
fn mapped() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/memfd:segment-")).map(str::to_owned).collect()
}

async fn until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it has not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_loaded_stays_as_it_is_whatever_becomes_of_its_file() {
    let scene = Scene::new();
    let seven = scene.file(7, 200_000, 1.5);
    assert_eq!(scene.load(&[&seven]).await.unwrap(), 1);
    let segment = scene.segments.list(None).remove(0);
    write_npy(&scene.dir.path().join("7.npy"), 10, f32::NAN);
    assert!(segment.values.len() == 400_000 && segment.values.iter().all(|value| *value == 1.5));
    let maps = mapped();
    assert!(maps.len() == 1 && maps[0].contains("r--"), "{maps:?}");
    assert_eq!(scene.load(&[&seven]).await.unwrap(), 0, "it is held already");
}

#[tokio::test]
async fn a_load_that_fails_in_the_middle_leaves_nothing_behind() {
    let scene = Scene::new();
    let good = [scene.file(7, 1000, 1.0), scene.file(9, 1000, 1.0)];
    let bad = scene.file(8, 1000, 1.0);
    let file = File::options().write(true).open(scene.dir.path().join("8.npy")).unwrap();
    let end = file.metadata().unwrap().len();
    for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        file.write_all_at(&value.to_le_bytes(), end - 12).unwrap();
        let error = scene.load(&[&good[0], &bad, &good[1]]).await.unwrap_err();
        let text = format!("8.npy: component 1 of row 998 has to be finite, found {found}");
        assert!(error.message().starts_with("segment 8: ") && error.message().ends_with(&text), "{error}");
        assert_eq!(error.code(), Code::InvalidArgument);
        scene.is_empty().await;
    }
    assert_eq!(scene.load(&[&good[0], &good[1]]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_load_that_would_take_too_much_is_refused_before_anything_is_read() {
    let scene = Scene::with(ByteSize::mib(10), 8);
    let small = scene.file(7, 100_000, 1.0);
    assert_eq!(scene.load(&[&small]).await.unwrap(), 1);
    let held = scene.loads.memory().taken();
    // Sparse: its size is no matter, and neither is the component that a reading would find.
    let (nan, huge) = (scene.file(8, 1, f32::NAN), scene.file(9, 1 << 32, 0.0));
    let error = scene.load(&[&nan, &huge]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    let text = "segment 9: 9.npy: 80.0 GiB are needed and 8.1 MiB are left: segments take 1.9 MiB of the memory_limit of \
                10.0 MiB";
    assert!(error.message().starts_with(text), "{error}");
    assert_eq!((scene.held(), scene.loads.memory().taken()), (vec![7], held));
}

#[tokio::test]
async fn what_is_being_loaded_counts_and_what_is_released_is_free_when_its_last_search_ends() {
    let scene = Scene::with(ByteSize::mib(3), 8);
    let (seven, eight) = (scene.file(7, 100_000, 1.0), scene.file(8, 100_000, 1.0));
    let turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let waits = scene.spawn(&[&seven]);
    until(|| scene.loads.memory().taken() > 0).await;
    assert_eq!(scene.load(&[&eight]).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(turn);
    assert_eq!(waits.await.unwrap().unwrap(), 1);

    let searched = scene.segments.choose(5, &[7]).unwrap();
    assert!(scene.loads.memory().taken() >= searched[0].describe().memory_bytes);
    assert_eq!(scene.segments.release(&[7]), Ok(1));
    assert!(searched[0].values.iter().all(|value| *value == 1.0));
    assert_eq!((scene.held(), mapped().len()), (vec![], 1));
    assert_eq!(scene.load(&[&eight]).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(searched);
    scene.is_empty().await;
    assert_eq!(scene.load(&[&eight]).await.unwrap(), 1);
}

#[tokio::test]
async fn two_same_loads_at_once_read_once() {
    let scene = Scene::new();
    let (seven, eight) = (scene.file(7, 400_000, 1.0), scene.file(8, 1000, 1.0));
    let (one, other, third) =
        tokio::join!(scene.load(&[&seven, &eight]), scene.load(&[&seven, &eight]), scene.load(&[&eight]));
    assert_eq!((one.unwrap(), other.unwrap(), third.unwrap()), (2, 0, 0));
    assert_eq!((scene.held(), mapped().len()), (vec![7, 8], 2));
}

#[tokio::test]
async fn a_load_that_waits_for_another_does_it_where_that_one_fails() {
    let scene = Scene::new();
    let (seven, bad) = (scene.file(7, 1000, 1.0), scene.file(8, 1000, f32::NAN));
    let (one, other) = tokio::join!(scene.load(&[&seven, &bad]), scene.load(&[&seven]));
    assert_eq!((one.unwrap_err().code(), other.unwrap()), (Code::InvalidArgument, 1));
    let differs = scene.load(&[&SegmentInfo { first_id: 1, ..seven.clone() }]).await.unwrap_err();
    assert_eq!(differs.code(), Code::FailedPrecondition);
    assert!(differs.message().contains("segment 7 is loaded already, and is '7.npy' of"), "{differs}");
}

#[tokio::test]
async fn what_is_released_while_it_is_loaded_does_not_come_later() {
    let scene = Scene::new();
    let (seven, eight) = (scene.file(7, 1000, 1.0), scene.file(8, 1000, 1.0));
    let turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let (one, waits) = (scene.spawn(&[&seven, &eight]), scene.spawn(&[&eight]));
    until(|| scene.loads.memory().taken() > 0 && scene.loads.places.available_permits() == 6).await;
    assert_eq!(scene.segments.release(&[8]), Ok(0));
    for load in [one, waits] {
        // Without its turn.
        let error = load.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        assert!(error.message().contains("segment 8 was released while it was being loaded"), "{error}");
    }
    scene.is_empty().await;
    drop(turn);
    assert_eq!(scene.load(&[&seven, &eight]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_release_after_the_last_block_ends_the_load_too() {
    let scene = Scene::new();
    let seven = scene.file(7, 1000, 1.0);
    let load = scene.segments.begin(vec![seven.clone()]).await.unwrap().unwrap();
    let rows = crate::segment::Rows::from_slice(&[1.0; 2000]).unwrap();
    let segment = Segment::new(seven, &wanted(&[]).collection, rows, None).unwrap();
    assert_eq!(scene.segments.release(&[7]), Ok(0));
    assert_eq!(load.finish(vec![segment]).unwrap_err(), crate::segments::SegmentsError::Released { segment_id: 7 });
    scene.is_empty().await;
}

#[tokio::test]
async fn a_load_whose_caller_goes_away_ends_and_leaves_nothing() {
    let scene = Scene::new();
    let long = scene.file(7, 1 << 24, 0.0);
    let load = scene.spawn(&[&long]);
    until(|| scene.loads.turn.available_permits() == 0).await;
    load.abort();
    assert!(load.await.unwrap_err().is_cancelled());
    scene.is_empty().await;
    // Whoever reads for it sees that, and nobody waits for one that has gone.
    let load = scene.segments.begin(vec![long]).await.unwrap().unwrap();
    let ending = load.ending.clone();
    drop(load);
    assert!(ending.is_set());
    assert_eq!(scene.load(&[&scene.file(7, 1000, 1.0)]).await.unwrap(), 1);
}

#[tokio::test]
async fn nothing_is_read_for_a_load_that_has_ended() {
    let scene = Scene::new();
    let seven = scene.file(7, 1000, 1.0);
    let collection = wanted(&[]).collection;
    let left = VecDeque::from([(seven.clone(), scene.loads.share(&seven, &collection).unwrap())]);
    let data_dirs = Arc::clone(&scene.loads.data_dirs);
    let mut work = Work { collection, data_dirs, left, reading: None, loaded: Vec::new() };
    let turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let ending = Ending::default();
    ending.set(crate::segments::SegmentsError::Stopping);
    work.go_on(turn, Duration::from_secs(60), &ending).unwrap();
    assert!(work.reading.is_none() && work.left.len() == 1);
}

#[tokio::test]
async fn a_deadline_ends_a_load_that_waits() {
    let scene = Scene::new();
    let seven = scene.file(7, 1000, 1.0);
    let _turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let call = Call { deadline: Some(Instant::now() + Duration::from_millis(50)), trace: None };
    let error = call.serve(scene.load(&[&seven])).await.unwrap_err();
    let text = "the deadline came when 0 of 1 segments had been read; none of them is kept";
    assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, text));
    scene.is_empty().await;
}

#[tokio::test]
async fn more_loads_than_may_wait_are_refused() {
    let scene = Scene::with(ByteSize::gib(1), 2);
    let files = [scene.file(7, 10, 1.0), scene.file(8, 10, 1.0), scene.file(9, 10, 1.0)];
    let turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let waits = [scene.spawn(&[&files[0]]), scene.spawn(&[&files[1]])];
    until(|| scene.loads.places.available_permits() == 0).await;
    let error = scene.load(&[&files[2]]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().starts_with("2 loads are under way on this node"), "{error}");
    drop(turn);
    for load in waits {
        assert_eq!(load.await.unwrap().unwrap(), 1);
    }
    assert_eq!(scene.load(&[&files[2]]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_small_load_does_not_wait_for_the_end_of_a_large_one() {
    let scene = Scene::new();
    let (large, small) = (scene.file(7, 1 << 23, 0.0), scene.file(8, 10, 1.0));
    let mut large = pin!(scene.load(&[&large]));
    let mut small = pin!(scene.load(&[&small]));
    // The large one has begun to read when the small one comes.
    poll_fn(|context| {
        assert!(large.as_mut().poll(context).is_pending());
        if scene.loads.turn.available_permits() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    tokio::select! {
        biased;
        _ = &mut large => panic!("the large one was first"),
        done = &mut small => assert_eq!(done.unwrap(), 1),
    }
    // It is mapped when all of it has been read.
    assert!(!mapped().iter().any(|line| line.contains("segment-7")), "the large one was read first");
    assert_eq!(large.await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_that_stops_takes_no_more_and_waits_until_it_is_empty() {
    let scene = Scene::new();
    let (seven, eight) = (scene.file(7, 1000, 1.0), scene.file(8, 1000, 1.0));
    assert_eq!(scene.load(&[&seven]).await.unwrap(), 1);
    let turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let waits = scene.spawn(&[&eight]);
    until(|| scene.loads.places.available_permits() == 7).await;
    scene.segments.stop();
    drop(turn);
    for error in [waits.await.unwrap().unwrap_err(), scene.load(&[&eight]).await.unwrap_err()] {
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("this node is stopping and takes no more segments"), "{error}");
    }
    assert_eq!(scene.load(&[&seven]).await.unwrap(), 0, "what is held can still be asked for");
    let segments = Arc::clone(&scene.segments);
    let moved = tokio::spawn(async move { segments.moved_away().await });
    tokio::task::yield_now().await;
    assert!(!moved.is_finished());
    assert_eq!(scene.segments.release(&[7]), Ok(1));
    moved.await.unwrap();
}

#[tokio::test]
async fn a_component_that_is_stopped_keeps_nothing() {
    use plugin_api::Component as _;
    let scene = Scene::new();
    let (seven, eight) = (scene.file(7, 1000, 1.0), scene.file(8, 1000, 1.0));
    assert_eq!(scene.load(&[&seven]).await.unwrap(), 1);
    let _turn = scene.loads.turn.clone().acquire_owned().await.unwrap();
    let waits = scene.spawn(&[&eight]);
    until(|| scene.loads.places.available_permits() == 7).await;
    let (config, segments) = (crate::QueryNodeConfig::default(), Arc::clone(&scene.segments));
    let node = crate::QueryNode { config, segments, memory: std::sync::OnceLock::new() };
    node.stop().await;
    assert_eq!(waits.await.unwrap().unwrap_err().code(), Code::Unavailable);
    scene.is_empty().await;
}

#[tokio::test]
async fn what_the_kernel_refuses_is_told_as_what_it_is() {
    use rustix::io::Errno;
    for (errno, code) in [
        (Errno::MFILE, Code::ResourceExhausted),
        (Errno::NFILE, Code::ResourceExhausted),
        (Errno::NOMEM, Code::ResourceExhausted),
        (Errno::IO, Code::Unavailable),
    ] {
        let source = errno.into();
        let error = ReadingError::Memory { segment_id: 7, path: "/x".into(), doing: "memfd_create", source };
        let status = Status::from(error);
        assert_eq!(status.code(), code);
        let text = "segment 7: no memory for /x (memfd_create): ";
        assert!(status.message().starts_with(text) && status.message().len() > text.len() + 5, "{status}");
    }
}

//! The service over a store in memory.

use std::time::Duration;

use proto::rootcoord::v1::MetricType;
use proto::store::MemoryStore;
use tonic::Code;

use super::*;
use crate::allocator::milliseconds;

/// A QueryCoord that is not there.
struct NoQueryCoord;

#[async_trait]
impl QueryCoord for NoQueryCoord {
    fn is_there(&self) -> bool {
        false
    }

    async fn release(&self, _: i64) -> Result<(), Status> {
        Err(Status::unavailable("there is no QueryCoord"))
    }
}

fn service() -> (tempfile::TempDir, Service<MemoryStore, NoQueryCoord>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let catalogue = Arc::new(Catalogue::new(Arc::clone(&store)));
    let service = Service {
        allocator: Arc::new(Allocator::new(store, Arc::default(), milliseconds)),
        catalogue: Arc::clone(&catalogue),
        releases: Arc::new(Releases::new(catalogue, NoQueryCoord, Duration::from_secs(5))),
        data_dirs: DataDirs::new(vec![dir.path().to_owned()]),
    };
    (dir, service)
}

/// Rows of two components each.
fn write_fvecs(dir: &tempfile::TempDir, name: &str, rows: usize) {
    let row = [2_u32.to_le_bytes(), 1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat();
    std::fs::write(dir.path().join(name), row.repeat(rows)).unwrap();
}

/// Any header, and so many bytes after it.
fn write_npy(dir: &tempfile::TempDir, name: &str, header: &str, bytes: usize) {
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let content = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &vec![0; bytes]].concat();
    std::fs::write(dir.path().join(name), content).unwrap();
}

async fn segments(service: &Service<MemoryStore, NoQueryCoord>, collection_id: i64) -> Vec<SegmentInfo> {
    let request = Request::new(ShowSegmentsRequest { collection_id });
    service.show_segments(request).await.unwrap().into_inner().segments
}

async fn create(service: &Service<MemoryStore, NoQueryCoord>, name: &str) -> Result<CollectionInfo, Status> {
    let request =
        CreateCollectionRequest { collection_name: name.to_owned(), dimension: 2, metric_type: MetricType::Ip.into() };
    let answer = service.create_collection(Request::new(request)).await?;
    Ok(answer.into_inner().collection.unwrap())
}

async fn add(service: &Service<MemoryStore, NoQueryCoord>, name: &str, path: &str) -> Result<SegmentInfo, Status> {
    let request = AddSegmentRequest { collection_name: name.to_owned(), path: path.to_owned() };
    Ok(service.add_segment(Request::new(request)).await?.into_inner().segment.unwrap())
}

#[tokio::test]
async fn the_rows_of_a_file_get_ids_of_their_own() {
    let (dir, service) = service();
    let collection = create(&service, "c").await.unwrap();
    assert!(collection.created_timestamp >> 18 > 1_600_000_000_000);
    write_fvecs(&dir, "a", 3);
    write_fvecs(&dir, "b", 200_000);
    let first = add(&service, "c", "a").await.unwrap();
    let second = add(&service, "c", "b").await.unwrap();
    assert_eq!((first.num_rows, second.num_rows), (3, 200_000));
    let request = Request::new(AllocIdRequest { count: 1 });
    let next = service.alloc_id(request).await.unwrap().into_inner().id;
    let mut ranges = vec![
        (collection.collection_id, 1),
        (first.segment_id, 1),
        (first.first_id, 3),
        (second.segment_id, 1),
        (second.first_id, 200_000),
        (next, 1),
    ];
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?}");
}

#[tokio::test]
async fn two_that_create_the_same_collection_at_once_get_one() {
    let (_dir, service) = service();
    let answers = tokio::join!(create(&service, "c"), create(&service, "c"), create(&service, "c"));
    let codes = [answers.0, answers.1, answers.2].map(|answer| answer.err().map(|status| status.code()));
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == Some(Code::AlreadyExists)).count(), 2);
}

#[tokio::test]
async fn a_bad_segment_is_refused_and_leaves_nothing() {
    let (dir, service) = service();
    let collection = create(&service, "c").await.unwrap();
    write_fvecs(&dir, "good", 3);
    let other = [1_u32.to_le_bytes(), 1_f32.to_le_bytes()].concat();
    std::fs::write(dir.path().join("other"), other).unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("leads_out")).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
    write_npy(&dir, "truncated.npy", header, 20);
    write_npy(&dir, "big.npy", &header.replace('<', ">"), 24);
    write_npy(&dir, "fortran.npy", &header.replace("False", "True"), 24);
    write_npy(&dir, "float64.npy", &header.replace("f4", "f8"), 48);
    write_npy(&dir, "no_rows.npy", &header.replace("(3, 2)", "(0, 2)"), 0);
    let cases = [
        ("none", "good", Code::NotFound, "there is no collection 'none'"),
        ("no name", "good", Code::InvalidArgument, "collection_name 'no name': it has to be a letter or underscore"),
        ("c", "", Code::InvalidArgument, "path is '': it has to name a file"),
        ("c", "good\0", Code::InvalidArgument, "it has to name a file"),
        ("c", "missing", Code::NotFound, "missing: there is no such file"),
        ("c", "folder", Code::InvalidArgument, "folder is a folder, and no regular file"),
        ("c", "/etc/hostname", Code::PermissionDenied, "in none of the data_dirs"),
        ("c", "leads_out", Code::PermissionDenied, "leads_out is /etc/hostname, which is in none of the data_dirs"),
        ("c", "empty", Code::InvalidArgument, "found an empty file"),
        ("c", "truncated.npy", Code::InvalidArgument, "its size has to be 93 bytes (3 rows of 2 float32), found 89"),
        ("c", "big.npy", Code::InvalidArgument, "descr has to be '<f4' (float32, little-endian), found '>f4'"),
        ("c", "fortran.npy", Code::InvalidArgument, "fortran_order has to be False (C order), found True"),
        ("c", "float64.npy", Code::InvalidArgument, "found '<f8'"),
        ("c", "no_rows.npy", Code::InvalidArgument, "its number of rows has to be at least 1, found 0"),
        ("c", "other", Code::InvalidArgument, "other: its dimension has to be 2, that of collection 'c', found 1"),
    ];
    for (name, path, code, text) in cases {
        let error = add(&service, name, path).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(text), "{error}");
        assert!(name != "c" || path.is_empty() || error.message().contains(path.trim_end_matches('\0')), "{error}");
    }
    assert!(segments(&service, collection.collection_id).await.is_empty());
    let added = add(&service, "c", "good").await.unwrap();
    // The same file by other ways.
    std::os::unix::fs::symlink("good", dir.path().join("link")).unwrap();
    for again in ["link", "./good", "folder/../good", dir.path().join("good").to_str().unwrap()] {
        let again = add(&service, "c", again).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists, "{again}");
        assert!(again.message().contains(&format!("is segment {} of collection 'c' already", added.segment_id)));
    }
    // A hard link is a file of its own: nothing but its inode, which may be another file's tomorrow, says otherwise.
    std::fs::hard_link(dir.path().join("good"), dir.path().join("hard")).unwrap();
    add(&service, "c", "hard").await.unwrap();
    assert_eq!(segments(&service, collection.collection_id).await.len(), 2);
}

#[tokio::test]
async fn a_collection_of_ten_thousand_segments_is_shown_and_dropped() {
    let (dir, service) = service();
    let collection = create(&service, "c").await.unwrap();
    write_fvecs(&dir, "file", 1);
    for number in 0..10_000 {
        let name = format!("{number}");
        std::fs::hard_link(dir.path().join("file"), dir.path().join(&name)).unwrap();
        add(&service, "c", &name).await.unwrap();
    }
    let shown = segments(&service, collection.collection_id).await;
    assert_eq!(shown.len(), 10_000);
    let size = prost::Message::encoded_len(&ShowSegmentsResponse { segments: shown });
    assert!(size < proto::MAX_MESSAGE_BYTES, "{size}");
    let request = Request::new(DropCollectionRequest { collection_name: "c".to_owned() });
    let dropped = service.drop_collection(request).await.unwrap().into_inner();
    assert_eq!(dropped, DropCollectionResponse { collection_id: collection.collection_id, released: false });
    let request = Request::new(ShowSegmentsRequest { collection_id: collection.collection_id });
    assert_eq!(service.show_segments(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn whoever_gives_a_drop_up_has_dropped_it_all_the_same() {
    let (_dir, service) = service();
    create(&service, "c").await.unwrap();
    let request = Request::new(DropCollectionRequest { collection_name: "c".to_owned() });
    let mut dropping = service.drop_collection(request);
    // Polled once, then given up.
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(dropping.as_mut().poll(context))).await.is_pending());
    drop(dropping);
    while service.catalogue.has("c").await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.catalogue.dropped().await.unwrap().len(), 1);
}

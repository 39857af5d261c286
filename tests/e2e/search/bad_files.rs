//! Files that are no segments: refused when they are added, and refused when they have become so before they are loaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proto::querynode::v1::LoadSegmentsRequest;
use proto::rootcoord::v1::{AddSegmentRequest, MetricType, SegmentInfo, ShowSegmentsRequest};
use tests::LIMIT;
use tests::vectors::{Vectors, npy_header};
use tonic::Code;

use super::bad_input::refused;
use super::reference::parts;
use super::scene::{NAME, Scene, dice};

const DIMENSION: usize = 4;
const ROWS: usize = 20;

/// A way in which a file is bad, what it is refused with, and how it becomes so.
type Bad = (&'static str, Code, &'static str, fn(&Path));

/// A file of this header with so many bytes of data.
fn write(path: &Path, descr: &str, fortran_order: bool, dimension: usize, bytes: usize) {
    let header = npy_header(descr, fortran_order, ROWS, dimension);
    fs::write(path, [header, vec![0; bytes]].concat()).expect("it can be written");
}

const DATA: usize = ROWS * DIMENSION * 4;

/// All that the files of a segment can be and must not.
const BAD: &[Bad] = &[
    ("missing", Code::NotFound, "no such file", |path| drop(fs::remove_file(path))),
    ("empty", Code::InvalidArgument, "empty file", |path| fs::write(path, "").expect("it can be written")),
    ("truncated", Code::InvalidArgument, "its size has to be", |path| write(path, "<f4", false, DIMENSION, DATA - 4)),
    ("longer", Code::InvalidArgument, "its size has to be", |path| write(path, "<f4", false, DIMENSION, DATA + 4)),
    ("big_endian", Code::InvalidArgument, "'>f4'", |path| write(path, ">f4", false, DIMENSION, DATA)),
    ("fortran_order", Code::InvalidArgument, "fortran_order", |path| write(path, "<f4", true, DIMENSION, DATA)),
    ("float64", Code::InvalidArgument, "'<f8'", |path| write(path, "<f8", false, DIMENSION, 2 * DATA)),
    ("dimension", Code::InvalidArgument, "dimension", |path| write(path, "<f4", false, 5, ROWS * 5 * 4)),
    ("outside", Code::PermissionDenied, "data_dirs", |path| {
        drop(fs::remove_file(path));
        symlink("/etc/hostname", path).expect("a link can be made");
    }),
    ("folder", Code::InvalidArgument, "no regular file", |path| {
        drop(fs::remove_file(path));
        fs::create_dir(path).expect("a folder can be made");
    }),
];

#[tokio::test]
async fn files_that_are_no_segments_are_not_added() {
    let mut dice = dice();
    let scene = Scene::start(1).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [30], DIMENSION)).await;
    let mut rootcoord = scene.rootcoord.rootcoord().await;
    let add = |path: &Path| {
        let path = path.display().to_string();
        AddSegmentRequest { collection_name: NAME.to_owned(), path }
    };
    for (name, code, text, make) in BAD {
        let path = scene.files().join(name);
        make(&path);
        let status = refused(rootcoord.add_segment(add(&path)).await, *code, text);
        assert!(status.message().contains(name), "{status:?}");
    }
    let outside = rootcoord.add_segment(add(Path::new("/etc/hostname"))).await;
    refused(outside, Code::PermissionDenied, "/etc/hostname");
    let same = rootcoord.add_segment(add(&collection.segments[0].path)).await;
    refused(same, Code::AlreadyExists, &collection.segments[0].id.to_string());
    let of_none = AddSegmentRequest { collection_name: "none".to_owned(), ..add(&collection.segments[0].path) };
    refused(rootcoord.add_segment(of_none).await, Code::NotFound, "'none'");
    let all = ShowSegmentsRequest { collection_id: collection.id };
    let all = rootcoord.show_segments(all).await.expect("an answer").into_inner().segments;
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test]
async fn files_that_have_become_bad_are_not_loaded_and_nothing_is_half_loaded() {
    let mut dice = dice();
    let scene = Scene::start(2).await;
    let kept = scene.create("kept", MetricType::Ip, parts(&mut dice, [30, 40], DIMENSION)).await;
    scene.load("kept", 2).await.expect("a loaded collection");
    let whole = [(&*kept, 2)];
    scene.whole(LIMIT, &whole).await;
    let question = kept.any_question(&mut dice, 2, 10);

    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [ROWS; 3], DIMENSION)).await;
    let segment = &collection.segments[1];
    let infinite = |path: &Path| {
        let mut vectors = Vectors::random(1, ROWS, DIMENSION);
        vectors.values[DIMENSION * 3 + 1] = f32::NAN;
        vectors.write_npy(path);
    };
    let rows = |path: &Path| Vectors::random(1, ROWS + 1, DIMENSION).write_npy(path);
    let more: [Bad; 2] = [
        ("not_finite", Code::InvalidArgument, "component 1 of row 3 has to be finite, found NaN", infinite),
        ("rows", Code::InvalidArgument, "rows", rows),
    ];
    let name = segment.path.file_name().expect("a name").to_string_lossy().into_owned();
    let node = scene.node(0);
    for (_, code, text, make) in BAD.iter().chain(&more) {
        make(&segment.path);
        let status = refused(scene.load(NAME, 1).await, *code, text);
        assert!(status.message().contains(&name), "{status:?}");
        // By itself a node refuses it with the same words.
        let info = SegmentInfo { segment_id: segment.id, ..SegmentInfo::default() };
        let request = LoadSegmentsRequest {
            collection_id: collection.id,
            segments: vec![info],
            ..LoadSegmentsRequest::default()
        };
        refused(node.querynode().await.load_segments(request).await, *code, text);
        scene.whole(LIMIT, &whole).await;
        clear(&segment.path);
        segment.vectors.write_npy(&segment.path);
    }
    scene.searches(&question).await;
    let shown = scene.shown().await.expect("an answer");
    assert_eq!(shown.len(), 1, "{shown:?}");
    // What was repaired is loaded.
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&kept, 2), (&collection, 2)]).await;
    scene.searches(&collection.any_question(&mut dice, 2, 10)).await;
    scene.nobody_has_ended();
}

/// Whatever is there goes.
fn clear(path: &PathBuf) {
    if path.is_dir() {
        fs::remove_dir(path).expect("it is empty");
    } else {
        drop(fs::remove_file(path));
    }
}

//! What cannot be done is refused with a fitting code and a text that names the thing; afterwards all is as it was.

use std::fmt::Debug;

use proto::querycoord::v1::{LoadCollectionRequest, ReleaseCollectionRequest, SearchRequest};
use proto::querynode::v1::{
    GetSegmentInfoRequest, LoadSegmentsRequest, ReleaseSegmentsRequest, SearchRequest as NodeSearchRequest, Vector,
};
use proto::rootcoord::v1::{CreateCollectionRequest, DropCollectionRequest, MetricType, SegmentInfo};
use tests::LIMIT;
use tonic::{Code, Status};

use super::reference::{Collection, Question, parts};
use super::scene::{NAME, Scene, dice};

/// The dimension of the collection that is there.
const DIMENSION: usize = 4;

/// It was refused like this.
#[track_caller]
pub fn refused<T: Debug>(answer: Result<T, Status>, code: Code, text: &str) -> Status {
    let status = answer.expect_err(text);
    assert!(status.code() == code && status.message().contains(text), "expected {code:?} with '{text}': {status:?}");
    status
}

/// A loaded collection on each of two nodes, one that is not loaded, and a question.
async fn scene() -> (Scene, std::sync::Arc<Collection>, Question) {
    let mut dice = dice();
    let scene = Scene::start(2).await;
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [30, 40], DIMENSION)).await;
    scene.create("unloaded", MetricType::Ip, parts(&mut dice, [10], DIMENSION)).await;
    scene.load(NAME, 2).await.expect("a loaded collection");
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let question = collection.any_question(&mut dice, 3, 10);
    (scene, collection, question)
}

fn named(name: &str) -> SearchRequest {
    let collection_name = name.to_owned();
    SearchRequest { collection_name, topk: 1, vectors: vec![vector(DIMENSION)], ..SearchRequest::default() }
}

fn vector(dimension: usize) -> Vector {
    Vector { values: vec![0.5; dimension] }
}

fn with_component(value: f32) -> SearchRequest {
    let mut values = vector(DIMENSION).values;
    values[2] = value;
    SearchRequest { vectors: vec![vector(DIMENSION), Vector { values }], ..named(NAME) }
}

#[tokio::test]
async fn searches_that_cannot_be_are_refused_by_name() {
    let (scene, collection, question) = scene().await;
    let mut querycoord = scene.querycoord.querycoord().await;
    let good = || named(NAME);
    let (bytes, packed) = (vec![0; DIMENSION * 4 + 1], vec![0; DIMENSION * 4]);
    let cases = [
        (SearchRequest { vectors: vec![vector(DIMENSION), vector(3)], ..good() }, "query 1 has 3 components"),
        (SearchRequest { vectors: vec![], packed_vectors: bytes.into(), ..good() }, "packed_vectors has 17 bytes"),
        (SearchRequest { packed_vectors: packed.into(), ..good() }, "vectors and packed_vectors"),
        (with_component(f32::NAN), "component 2 of query 1 is NaN"),
        (with_component(f32::INFINITY), "component 2 of query 1 is inf"),
        (with_component(f32::NEG_INFINITY), "component 2 of query 1 is -inf"),
        (SearchRequest { topk: 0, ..good() }, "topk is 0"),
        (SearchRequest { topk: 16_385, ..good() }, "topk is 16385"),
        (SearchRequest { vectors: vec![], ..good() }, "no queries"),
        (SearchRequest { vectors: vec![vector(DIMENSION); 16_385], ..good() }, "16385 queries"),
        (
            SearchRequest { vectors: vec![vector(DIMENSION); 100], topk: 16_384, ..good() },
            "100 queries with topk 16384",
        ),
        (SearchRequest { collection_name: String::new(), ..good() }, "no collection is named"),
    ];
    for (request, text) in cases {
        refused(querycoord.search(request).await, Code::InvalidArgument, text);
    }
    refused(querycoord.search(named("none")).await, Code::NotFound, "'none'");
    refused(querycoord.search(named("unloaded")).await, Code::FailedPrecondition, "'unloaded' is not loaded");
    let unknown = SearchRequest { collection_id: 987_654, ..named("") };
    refused(querycoord.search(unknown).await, Code::NotFound, "987654");

    // A node checks by itself, as anybody may call it.
    let mut node = scene.node(0).querynode().await;
    let id = collection.id;
    let ask = |collection_id, segment_ids: &[i64], topk, vectors| NodeSearchRequest {
        collection_id,
        segment_ids: segment_ids.to_vec(),
        topk,
        vectors,
        ..NodeSearchRequest::default()
    };
    let one = || vec![vector(DIMENSION)];
    refused(node.search(ask(id, &[987_654], 1, one())).await, Code::NotFound, "segment 987654");
    refused(node.search(ask(987_654, &[], 1, one())).await, Code::NotFound, "987654");
    refused(node.search(ask(id, &[], 0, one())).await, Code::InvalidArgument, "topk is 0");
    refused(node.search(ask(id, &[], 1, vec![])).await, Code::InvalidArgument, "no queries");
    refused(node.search(ask(id, &[], 1, vec![vector(5)])).await, Code::InvalidArgument, "query 0 has 5 components");
    let infinite = vec![Vector { values: vec![f32::INFINITY; DIMENSION] }];
    refused(node.search(ask(id, &[], 1, infinite)).await, Code::InvalidArgument, "component 0 of query 0 is inf");
    let info = GetSegmentInfoRequest { segment_ids: vec![987_654], ..GetSegmentInfoRequest::default() };
    refused(node.get_segment_info(info).await, Code::NotFound, "segment 987654");

    scene.searches(&question).await;
    scene.nobody_has_ended();
}

#[tokio::test]
async fn loads_and_releases_that_cannot_be_are_refused_by_name_and_change_nothing() {
    let (scene, collection, question) = scene().await;
    let before = scene.held().await.expect("the nodes answer");
    let mut querycoord = scene.querycoord.querycoord().await;
    let load = |name: &str, replica_number| LoadCollectionRequest { collection_name: name.to_owned(), replica_number };
    let release =
        |name: &str, collection_id| ReleaseCollectionRequest { collection_name: name.to_owned(), collection_id };
    refused(querycoord.load_collection(load("none", 0)).await, Code::NotFound, "'none'");
    refused(querycoord.load_collection(load("", 0)).await, Code::InvalidArgument, "collection_name");
    refused(querycoord.load_collection(load("unloaded", 65)).await, Code::InvalidArgument, "replica_number is 65");
    refused(querycoord.load_collection(load("unloaded", 3)).await, Code::FailedPrecondition, "replica");
    refused(querycoord.load_collection(load(NAME, 3)).await, Code::FailedPrecondition, "replica");
    refused(querycoord.release_collection(release("none", 0)).await, Code::NotFound, "'none'");
    refused(querycoord.release_collection(release("", 987_654)).await, Code::NotFound, "987654");
    refused(querycoord.release_collection(release("", 0)).await, Code::InvalidArgument, "no collection is named");
    refused(querycoord.release_collection(release("unloaded", 0)).await, Code::NotFound, "'unloaded'");

    let mut rootcoord = scene.rootcoord.rootcoord().await;
    let create = |name: &str, dimension, metric_type: i32| CreateCollectionRequest {
        collection_name: name.to_owned(),
        dimension,
        metric_type,
    };
    let l2 = MetricType::L2.into();
    refused(rootcoord.create_collection(create("a b", 4, l2)).await, Code::InvalidArgument, "'a b'");
    refused(rootcoord.create_collection(create("new", 0, l2)).await, Code::InvalidArgument, "dimension is 0");
    refused(rootcoord.create_collection(create("new", 40_000, l2)).await, Code::InvalidArgument, "dimension is 40000");
    refused(rootcoord.create_collection(create("new", 4, 0)).await, Code::InvalidArgument, "metric_type is 0");
    refused(rootcoord.create_collection(create(NAME, 4, l2)).await, Code::AlreadyExists, NAME);
    let drop = DropCollectionRequest { collection_name: "none".to_owned() };
    refused(rootcoord.drop_collection(drop).await, Code::NotFound, "'none'");

    let mut node = scene.node(0).querynode().await;
    let segments = |segments: &[SegmentInfo]| LoadSegmentsRequest {
        collection_id: collection.id,
        segments: segments.to_vec(),
        ..LoadSegmentsRequest::default()
    };
    let unknown = SegmentInfo { segment_id: 987_654, ..SegmentInfo::default() };
    refused(node.load_segments(segments(&[unknown])).await, Code::NotFound, "segment 987654");
    refused(node.load_segments(segments(&[])).await, Code::InvalidArgument, "segments is empty");
    let none = ReleaseSegmentsRequest::default();
    refused(node.release_segments(none).await, Code::InvalidArgument, "segment_ids is empty");

    assert_eq!(scene.held().await.expect("the nodes answer"), before);
    scene.searches(&question).await;
    scene.whole(LIMIT, &[(&collection, 2)]).await;
    let shown = scene.shown().await.expect("an answer");
    assert_eq!(shown.len(), 1, "{shown:?}");
    scene.nobody_has_ended();
}

//! What is asked in a wrong way, or of a collection that cannot be searched; and how long a search takes at most.

use proto::querycoord::v1::{LoadCollectionRequest, ReleaseCollectionRequest, SearchRequest};
use proto::querynode::v1::Vector;
use tokio::time::Instant;
use tonic::{Code, Request};

use super::super::*;
use super::fake::{SEARCH_TIMEOUT, service};

fn query(values: &[f32]) -> SearchRequest {
    let vectors = vec![Vector { values: values.to_vec() }];
    SearchRequest { collection_name: "c".to_owned(), topk: 1, vectors, ..SearchRequest::default() }
}

fn good() -> SearchRequest {
    query(&[0.0, 1.0])
}

fn packed(bytes: Vec<u8>) -> SearchRequest {
    SearchRequest { vectors: vec![], packed_vectors: bytes.into(), ..good() }
}

fn named(collection_name: &str, collection_id: i64) -> SearchRequest {
    SearchRequest { collection_name: collection_name.to_owned(), collection_id, ..good() }
}

#[tokio::test]
async fn each_bad_search_is_refused_with_what_is_wrong_before_any_node_is_asked() {
    use Code::{FailedPrecondition as Unfit, InvalidArgument as Bad, NotFound};
    let infinite = [0.0, 1.0, f32::NEG_INFINITY, 1.0].map(f32::to_le_bytes).concat();
    let cases = [
        (query(&[0.0]), Bad, "query 0 has 1 components, the collection's dimension is 2"),
        (query(&[0.0, 0.0, 0.0]), Bad, "query 0 has 3 components, the collection's dimension is 2"),
        (query(&[0.0, f32::NAN]), Bad, "component 1 of query 0 is NaN: all have to be finite"),
        (query(&[f32::INFINITY, 0.0]), Bad, "component 0 of query 0 is inf: all have to be finite"),
        (packed(infinite), Bad, "component 0 of query 1 is -inf: all have to be finite"),
        (packed(vec![0; 12]), Bad, "packed_vectors has 12 bytes, which is no multiple of 8 (dimension 2 × 4)"),
        (packed(vec![]), Bad, "the search has no queries: give vectors or packed_vectors"),
        (
            SearchRequest { vectors: good().vectors, ..packed(vec![0; 8]) },
            Bad,
            "the search has vectors and packed_vectors: give one of them",
        ),
        (SearchRequest { topk: 0, ..good() }, Bad, "topk is 0, it has to be 1 to 16384"),
        (SearchRequest { topk: 16_385, ..good() }, Bad, "topk is 16385, it has to be 1 to 16384"),
        (
            SearchRequest { topk: 16_384, ..packed(vec![0; 8 * 62]) },
            Bad,
            "62 queries with topk 16384 ask for more than 1000000 hits: send fewer queries at a time",
        ),
        (packed(vec![0; 8 * 16_385]), Bad, "the search has 16385 queries, at most 16384 are allowed"),
        (named("", 0), Bad, "no collection is named: give collection_name or collection_id"),
        (named("", -5), Bad, "collection_id is -5, it has to be 1 or more"),
        (named("c d", 0), Bad, "collection_name 'c d': it has to be a letter or underscore, then letters, digits and "),
        (named("c", 6), Bad, "collection 'c' has the id 5, and collection_id is 6: give one of them"),
        (named("x", 0), NotFound, "there is no collection 'x'"),
        (named("", 99), NotFound, "there is no collection with id 99"),
        (named("d", 0), Unfit, "collection 'd' is not loaded: call LoadCollection"),
        (named("", 6), Unfit, "collection '6' is not loaded: call LoadCollection"),
        (named("e", 0), Unfit, "collection 'e' is being loaded: wait for LoadCollection's answer"),
        (named("", 7), Unfit, "collection '7' is being loaded: wait for LoadCollection's answer"),
    ];
    let service = service();
    for (request, code, text) in cases {
        let error = service.search(Request::new(request)).await.unwrap_err();
        assert_eq!(error.code(), code, "{text}: {error}");
        assert!(error.message().starts_with(text), "{text}: {error}");
    }
    assert_eq!(service.cluster.state().searches, 0);
    for request in [good(), packed(vec![0; 8]), named("c", 5), named("", 5)] {
        let answer = service.search(Request::new(request)).await.unwrap().into_inner();
        assert_eq!((answer.collection_id, answer.results.len(), answer.partial), (5, 1, false));
    }
}

#[tokio::test]
async fn each_bad_load_and_release_is_refused_and_changes_nothing() {
    let service = service();
    let load = |name: &str, replica_number| {
        let request = LoadCollectionRequest { collection_name: name.to_owned(), replica_number };
        service.load_collection(Request::new(request))
    };
    for (name, replicas, text) in [
        ("", 1, "collection_name ''"),
        ("1", 1, "collection_name '1'"),
        ("c", 65, "replica_number is 65, it has to be at most 64"),
    ] {
        let error = load(name, replicas).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with(text), "{error}");
    }
    let release = |name: &str, collection_id| {
        let request = ReleaseCollectionRequest { collection_name: name.to_owned(), collection_id };
        service.release_collection(Request::new(request))
    };
    let bad = [("", 0), ("", -1), ("c", 6), ("c d", 5)].map(|named| (named, Code::InvalidArgument));
    for ((name, id), code) in bad.into_iter().chain([(("d", 0), Code::NotFound)]) {
        assert_eq!(release(name, id).await.unwrap_err().code(), code, "{name} {id}");
    }
    assert_eq!(*service.engine.changes.lock().unwrap(), [""; 0]);
    load("c", 64).await.unwrap();
    release("c", 5).await.unwrap();
    release("", 5).await.unwrap();
    assert_eq!(*service.engine.changes.lock().unwrap(), ["load c 64", "release 5 c", "release 5 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_search_takes_no_longer_than_its_caller_waits() {
    let service = service();
    let search = |request: SearchRequest, limit| {
        let mut request = Request::new(request);
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        service.search(request)
    };
    let milliseconds = Duration::from_millis;
    // RootCoord hangs: then the newest loaded collection of that name counts.
    service.cluster.state().collections = None;
    for (limit, expected) in [(None, milliseconds(1000)), (Some(milliseconds(100)), milliseconds(45))] {
        let begun = Instant::now();
        assert!(!search(good(), limit).await.unwrap().into_inner().partial);
        assert!(begun.elapsed() - expected <= milliseconds(1), "{:?}", begun.elapsed());
    }
    // The node does, too.
    service.cluster.state().hanging = [1].into();
    for (limit, expected) in [
        (None, SEARCH_TIMEOUT),
        (Some(milliseconds(100)), milliseconds(90)),
        (Some(milliseconds(2000)), milliseconds(1800)),
        (Some(milliseconds(60_000)), SEARCH_TIMEOUT),
    ] {
        let begun = Instant::now();
        let error = search(good(), limit).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(begun.elapsed() - expected <= milliseconds(1), "{:?}", begun.elapsed());
    }
    // A name of nothing that is loaded cannot be resolved without RootCoord.
    let error = search(named("d", 0), None).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.message(), "asking RootCoord for collection 'd': no answer within 1s");
}

//! What the catalogue keeps, and what is left of it when etcd fails.

use proto::store::{Fault, MemoryStore};

use plugin_api::{Error, Reason};
use tonic::Status;
use tonic_types::StatusExt;

use super::*;

fn catalogue() -> (Arc<MemoryStore>, Catalogue<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (Arc::clone(&store), Catalogue::new(store))
}

fn info(collection_id: i64, name: &str) -> CollectionInfo {
    CollectionInfo {
        collection_id,
        collection_name: name.to_owned(),
        dimension: 4,
        metric_type: MetricType::Cosine.into(),
        created_timestamp: 1 << 20,
    }
}

fn segment(segment_id: i64) -> SegmentInfo {
    SegmentInfo { segment_id, collection_id: 9, path: "a.npy".to_owned(), num_rows: 3, first_id: 100 }
}

fn code<T>(result: Result<T, CatalogueError>) -> Code {
    Status::from(result.err().unwrap()).code()
}

#[tokio::test]
async fn a_collection_is_there_from_its_creation_to_its_drop() {
    let (store, catalogue) = catalogue();
    for (id, name) in [(10, "ten"), (9, "nine")] {
        catalogue.create(&info(id, name)).await.unwrap();
    }
    assert!(catalogue.has("nine").await.unwrap());
    assert_eq!(catalogue.by_name("nine").await.unwrap().info, info(9, "nine"));
    assert_eq!(catalogue.by_id(10).await.unwrap().info, info(10, "ten"));
    assert_eq!(catalogue.collections().await.unwrap(), [info(9, "nine"), info(10, "ten")]);
    assert_eq!(code(catalogue.create(&info(11, "ten")).await), Code::AlreadyExists);
    assert_eq!(catalogue.drop_collection("ten").await.unwrap(), 10);
    assert_eq!(catalogue.drop_collection("nine").await.unwrap(), 9);
    assert!(!catalogue.has("nine").await.unwrap());
    assert_eq!(code(catalogue.by_name("nine").await), Code::NotFound);
    assert_eq!(code(catalogue.by_id(9).await), Code::NotFound);
    assert_eq!(code(catalogue.drop_collection("nine").await), Code::NotFound);
    assert_eq!(catalogue.dropped().await.unwrap(), [10, 9]);
    for id in [9, 10] {
        catalogue.forget(id).await.unwrap();
    }
    assert_eq!(store.range("").await.unwrap(), []);
}

#[tokio::test]
async fn a_file_becomes_one_segment_of_a_collection() {
    let (_, catalogue) = catalogue();
    catalogue.create(&info(9, "nine")).await.unwrap();
    let nine = catalogue.by_name("nine").await.unwrap();
    let file = Path::new("/data/a.npy");
    catalogue.add_segment(&nine, &segment(20), file).await.unwrap();
    assert_eq!(code(catalogue.check_new_file(&nine, file).await), Code::AlreadyExists);
    let again = Status::from(catalogue.add_segment(&nine, &segment(21), file).await.unwrap_err());
    assert_eq!(again.message(), "/data/a.npy is segment 20 of collection 'nine' already");
    catalogue.add_segment(&nine, &segment(3), Path::new("/data/b.npy")).await.unwrap();
    assert_eq!(catalogue.segments(9).await.unwrap(), [segment(3), segment(20)]);
    assert_eq!(code(catalogue.segments(8).await), Code::NotFound);
}

#[tokio::test]
async fn nothing_is_added_to_a_collection_that_was_dropped() {
    let (store, catalogue) = catalogue();
    catalogue.create(&info(9, "nine")).await.unwrap();
    let nine = catalogue.by_name("nine").await.unwrap();
    catalogue.drop_collection("nine").await.unwrap();
    // One of the same name is another one.
    catalogue.create(&info(10, "nine")).await.unwrap();
    assert_eq!(code(catalogue.add_segment(&nine, &segment(20), Path::new("/a")).await), Code::NotFound);
    assert_eq!(store.range("segment").await.unwrap(), []);
}

#[tokio::test]
async fn what_a_dropped_collection_had_is_swept_and_nothing_else() {
    let (store, catalogue) = catalogue();
    for (id, name) in [(9, "nine"), (91, "other")] {
        catalogue.create(&info(id, name)).await.unwrap();
        let found = catalogue.by_id(id).await.unwrap();
        for segment_id in 0..150 {
            let info = SegmentInfo { collection_id: id, ..segment(segment_id) };
            catalogue.add_segment(&found, &info, Path::new(&format!("/{segment_id}"))).await.unwrap();
        }
    }
    catalogue.drop_collection("nine").await.unwrap();
    assert_eq!(store.range("segment").await.unwrap().len(), 600);
    catalogue.sweep(9).await.unwrap();
    assert_eq!(store.range("segment").await.unwrap().len(), 300);
    assert_eq!(catalogue.segments(91).await.unwrap().len(), 150);
}

/// One fault at each of the first transactions of a call, and two in a row.
const FAULTS: [&[Fault]; 6] = [
    &[Fault::Lost],
    &[Fault::Unanswered],
    &[Fault::Lost, Fault::Lost],
    &[Fault::Lost, Fault::Unanswered],
    &[Fault::Unanswered, Fault::Lost],
    &[Fault::Unanswered, Fault::Unanswered],
];

#[tokio::test]
async fn a_change_whose_answer_is_lost_once_is_answered_as_it_was_carried_out() {
    for faults in FAULTS.iter().filter(|faults| faults.len() == 1) {
        let (store, catalogue) = catalogue();
        store.fail_next(faults.iter().copied());
        catalogue.create(&info(9, "nine")).await.unwrap();
        let nine = catalogue.by_name("nine").await.unwrap();
        store.fail_next(faults.iter().copied());
        catalogue.add_segment(&nine, &segment(20), Path::new("/a")).await.unwrap();
        assert_eq!(catalogue.segments(9).await.unwrap(), [segment(20)]);
        store.fail_next(faults.iter().copied());
        assert_eq!(catalogue.drop_collection("nine").await.unwrap(), 9);
        assert_eq!(catalogue.dropped().await.unwrap(), [9]);
    }
}

#[tokio::test]
async fn each_call_can_be_made_again_after_answers_were_lost() {
    for faults in FAULTS {
        let (store, catalogue) = catalogue();
        let fail = || store.fail_next(faults.iter().copied().rev());
        fail();
        if let Err(error) = catalogue.create(&info(9, "nine")).await {
            let status = Status::from(error);
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().starts_with("nobody knows whether"), "{status}");
            // Ids are new each time: whoever had created it finds out whose it is.
            match catalogue.create(&info(10, "nine")).await {
                Ok(()) => {}
                Err(CatalogueError::CollectionExists { existing }) => assert_eq!(*existing, info(9, "nine")),
                Err(other) => panic!("{other}"),
            }
        }
        let all = catalogue.collections().await.unwrap();
        assert_eq!(all.len(), 1, "{faults:?}");
        let id = all[0].collection_id;
        let found = catalogue.by_name("nine").await.unwrap();
        let segment = |segment_id| SegmentInfo { collection_id: id, ..segment(segment_id) };
        fail();
        if catalogue.add_segment(&found, &segment(20), Path::new("/a")).await.is_err() {
            match catalogue.add_segment(&found, &segment(21), Path::new("/a")).await {
                Ok(()) => {}
                Err(CatalogueError::SegmentExists { segment_id, .. }) => assert_eq!(segment_id, "20"),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(catalogue.segments(id).await.unwrap().len(), 1, "{faults:?}");
        fail();
        if catalogue.drop_collection("nine").await.is_err() {
            match catalogue.drop_collection("nine").await {
                Ok(dropped) => assert_eq!(dropped, id),
                Err(CatalogueError::NoSuchName { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(catalogue.dropped().await.unwrap(), [id], "{faults:?}");
        assert_eq!(catalogue.collections().await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_is_there_already_is_told_to_people_and_to_programs() {
    let (_, catalogue) = catalogue();
    catalogue.create(&info(9, "nine")).await.unwrap();
    for refused in [catalogue.create(&info(10, "nine")).await, catalogue.check_free("nine").await] {
        let status = Status::from(refused.unwrap_err());
        assert_eq!(status.message(), "there is a collection 'nine' already: id 9, dimension 4, metric COSINE");
        let told = status.get_details_error_info().unwrap();
        let of = |key: &str| told.metadata[key].clone();
        assert_eq!([of("collection_id"), of("dimension"), of("metric_type")], ["9", "4", "COSINE"]);
        assert_eq!(told.reason, "COLLECTION_EXISTS");
    }
    let nine = catalogue.by_name("nine").await.unwrap();
    catalogue.add_segment(&nine, &segment(20), Path::new("/a")).await.unwrap();
    let status = Status::from(catalogue.add_segment(&nine, &segment(21), Path::new("/a")).await.unwrap_err());
    assert_eq!(status.get_details_error_info().unwrap().metadata["segment_id"], "20");
}

#[test]
fn a_reason_of_the_hosts_goes_along() {
    let fenced = Error::new(Code::Unavailable, "no session").with_reason(Reason::Fenced);
    for error in [CatalogueError::Store(fenced.clone()), CatalogueError::Unknown { source: fenced }] {
        let status = Status::from(error);
        assert_eq!(plugin_api::Refusal::from_status(&status).map(|refusal| refusal.reason), Some(Reason::Fenced));
        assert!(status.message().ends_with(": no session"), "{status}");
    }
}

#[tokio::test]
async fn what_can_be_no_name_and_no_id_is_told_so() {
    let (_, catalogue) = catalogue();
    for name in ["", "a b", "../x"] {
        assert_eq!(code(catalogue.by_name(name).await), Code::InvalidArgument);
        assert_eq!(code(catalogue.has(name).await), Code::InvalidArgument);
        assert_eq!(code(catalogue.drop_collection(name).await), Code::InvalidArgument);
    }
    for id in [0, -1, i64::MIN] {
        assert_eq!(code(catalogue.segments(id).await), Code::InvalidArgument);
        assert_eq!(code(catalogue.by_id(id).await), Code::InvalidArgument);
    }
}

#[test]
fn a_bad_collection_is_refused_with_what_is_wrong() {
    let long = "x".repeat(name::MAX_NAME + 1);
    for name in ["", "2x", "a b", "a/b", "é", long.as_str()] {
        assert!(matches!(check_new(name, 4, 1), Err(CatalogueError::Name(_))), "{name}");
    }
    for name in ["x", "_", "X_9", &long[1..]] {
        assert_eq!(check_new(name, 4, 1).unwrap(), MetricType::L2);
    }
    assert!(matches!(check_new("x", 0, 1), Err(CatalogueError::Dimension { dimension: 0 })));
    assert!(matches!(check_new("x", 32_769, 1), Err(CatalogueError::Dimension { .. })));
    assert!(matches!(check_new("x", 4, 0), Err(CatalogueError::Metric { metric: 0 })));
    assert!(matches!(check_new("x", 4, 4), Err(CatalogueError::Metric { metric: 4 })));
}

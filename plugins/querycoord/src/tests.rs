//! A generation's life without a host: what it takes, what it may rely on then, and what it hands on.

use super::*;
use crate::core::Knowledge;

fn component() -> QueryCoord {
    QueryCoord::new(QueryCoordConfig::default()).unwrap()
}

/// What another generation has known, and that it has avoided node 7.
fn snapshot() -> Snapshot {
    let mut loads = Loads::default();
    loads.avoid(7, Instant::now());
    let known = Knowledge::default();
    STATE.write(&Handed { known, avoided: loads.avoided(Instant::now()) }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn only_what_is_still_true_is_relied_on_and_all_else_is_forgotten() {
    let is_true = [Resume::Restored, Resume::Kept].map(|resume| (resume, true));
    let is_not = [Resume::Fresh, Resume::TakenOver, Resume::RolledBack].map(|resume| (resume, false));
    for (resume, is_true) in is_true.into_iter().chain(is_not) {
        let new = component();
        new.restore(snapshot()).await.unwrap();
        assert_eq!(matches!(new.known(resume), Known::Handed(_)), is_true, "{resume:?}");
        assert_eq!(lock(&new.loads).is_avoided(7, Instant::now()), is_true, "{resume:?}");
        // It has been used, or is not true.
        assert!(lock(&new.restored).is_none());
    }
    assert!(matches!(component().known(Resume::Kept), Known::Kept));
    assert!(matches!(component().known(Resume::Restored), Known::Nothing));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_active_hands_on_what_was_restored() {
    assert!(component().snapshot().await.unwrap_err().to_string().contains("has not been started"));
    let standby = component();
    standby.restore(snapshot()).await.unwrap();
    assert_eq!(standby.snapshot().await.unwrap().bytes, snapshot().bytes);
}

#[tokio::test]
async fn what_cannot_be_read_refuses_the_swap() {
    let state = |state_version, text: &str| Snapshot { state_version, bytes: text.into(), files: Vec::new() };
    let bad = [
        (state(1, ""), "what was handed over (version 1, 0 bytes) is no state"),
        (state(9, r#"{"readable_from":8,"state":{}}"#), "the state has version 9, which versions from 8 on can read"),
        (state(1, r#"{"readable_from":1,"state":{"avoided":[]}}"#), "the state of version 1 is not as version 1 reads"),
    ];
    let new = component();
    for (snapshot, text) in bad {
        let error = new.restore(snapshot).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert!(lock(&new.restored).is_none());
    }
}

#[test]
fn each_method_that_is_held_is_one_of_the_service() {
    let gated = component().descriptor().gated;
    assert_eq!(gated.len(), 2);
    assert!(gated.iter().all(|path| proto::has_method(FILE_DESCRIPTOR_SET, path)), "{gated:?}");
}

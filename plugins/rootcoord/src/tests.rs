//! A generation's life without a host: what it hands over, what it takes, and what it then goes by.

use proto::store::MemoryStore;

use super::*;
use crate::in_hand::Handed;

fn component() -> RootCoord {
    RootCoord::new(RootCoordConfig::default()).unwrap()
}

/// One that has given out something, and what it hands over then.
async fn used() -> (RootCoord, Snapshot, Handed) {
    let used = component();
    let allocator = Allocator::new(Arc::new(MemoryStore::default()), Arc::clone(&used.in_hand), || 7);
    allocator.ids(3).await.unwrap();
    allocator.timestamps(3).await.unwrap();
    let snapshot = used.snapshot().await.unwrap();
    let handed = used.in_hand.hand_over().await;
    (used, snapshot, handed)
}

/// What it has in hand; it may be paused by that.
async fn has(component: &RootCoord) -> Handed {
    component.in_hand.hand_over().await
}

#[tokio::test]
async fn only_what_is_still_true_is_given_out_after_an_activation() {
    let nothing = has(&component()).await;
    let cases = [
        (Resume::Restored, true),
        (Resume::Kept, true),
        (Resume::Fresh, false),
        (Resume::TakenOver, false),
        (Resume::RolledBack, false),
    ];
    for (resume, is_true) in cases {
        let (_, snapshot, handed) = used().await;
        let new = component();
        new.restore(snapshot).await.unwrap();
        assert!(new.in_hand.is_paused());
        new.activate(resume).await.unwrap();
        assert!(!new.in_hand.is_paused());
        assert_eq!(has(&new).await, if is_true { handed } else { nothing.clone() }, "{resume:?}");
    }
}

#[tokio::test]
async fn nothing_is_given_out_once_it_is_handed_over_or_deactivated() {
    let (used, ..) = used().await;
    assert!(used.in_hand.is_paused());
    used.activate(Resume::Kept).await.unwrap();
    used.deactivate(Deactivation::SwappedOut).await;
    assert!(used.in_hand.is_paused());
}

#[tokio::test]
async fn what_cannot_be_read_refuses_the_swap_and_changes_nothing() {
    let (used, _, handed) = used().await;
    let state = |state_version, text: &str| Snapshot { state_version, bytes: text.into(), files: Vec::new() };
    let bad = [
        (state(1, "garbage"), "what was handed over (version 1, 7 bytes) is no state"),
        (state(2, r#"{"readable_from":2,"state":{}}"#), "the state has version 2, which versions from 2 on can read"),
        (state(1, r#"{"readable_from":1,"state":{}}"#), "the state of version 1 is not as version 1 reads it"),
        (
            state(1, r#"{"readable_from":1,"state":{"clock":null,"ids":{"next":7,"end":5}}}"#),
            "ids were handed over that there cannot be: Reserved { next: 7, end: 5 }",
        ),
    ];
    for (snapshot, text) in bad {
        let error = used.restore(snapshot).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(has(&used).await, handed);
    }
}

#[test]
fn each_method_that_is_held_is_one_of_the_service() {
    let gated = component().descriptor().gated;
    assert_eq!(gated.len(), 4);
    assert!(gated.iter().all(|path| proto::has_method(FILE_DESCRIPTOR_SET, path)), "{gated:?}");
}

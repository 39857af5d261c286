//! A host that is killed in the middle of a swap: it starts again with what is configured, and knows what was given out.

use componenthost::swap::Phase;
use tests::swap::Swapping;

use crate::swap::rig::{Rig, copies};

#[tokio::test]
async fn a_host_that_is_killed_during_a_swap_starts_with_what_is_configured() {
    for phase in [Phase::Prepare, Phase::HandOver, Phase::Warm, Phase::Switch] {
        let rig = Rig::start().await;
        rig.counts().await;
        let swapping = rig.begin_swap_held_in(phase, &["--probation", "10m"]).await;
        is_killed(&rig, swapping).await;
    }
    let rig = Rig::start().await;
    let swapping = rig.begin_swap(&["--probation", "10m"]).await;
    rig.alpha.swap_in("alpha", Phase::Probation).await;
    rig.counts().await;
    is_killed(&rig, swapping).await;
}

/// And starts again.
async fn is_killed(rig: &Rig, swapping: Swapping) {
    rig.alpha.kill9();
    let swapped = swapping.ended().await;
    assert_eq!((swapped.code, swapped.told.last().and_then(|view| view.outcome)), (1, None), "{swapped:#?}");
    rig.alpha.restart().await;
    rig.is_called().await;
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
    rig.counts().await;
    assert!(copies(&rig.alpha).is_empty());
    assert!(rig.alpha.last_swap("alpha").await.is_none());
}

//! A host that is killed in the middle of a swap: it starts again with what is configured, and knows what was given out.

use componenthost::plugin::swap::Phase;
use probe_plugin::knobs::{Fault, Method};

use crate::swap::rig::{Rig, copies};

#[tokio::test]
async fn a_host_that_is_killed_during_a_swap_starts_with_what_is_configured() {
    for (method, phase) in [
        (Method::New, Phase::Prepare),
        (Method::Restore, Phase::HandOver),
        (Method::Start, Phase::Warm),
        (Method::Activate, Phase::Switch),
        (Method::Stop, Phase::Probation),
    ] {
        let rig = Rig::start().await;
        rig.counts().await;
        rig.second_goes_wrong(method, Fault::Wait);
        let swapping = rig.begin_swap(&["--probation", "10m"]).await;
        rig.alpha.swap_in("alpha", phase).await;
        rig.alpha.kill9();
        let swapped = swapping.ended().await;
        assert_eq!((swapped.code, swapped.told.last().and_then(|view| view.outcome)), (1, None), "{swapped:#?}");
        rig.alpha.restart().await;
        rig.is_called().await;
        assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()), "{phase:?}");
        rig.counts().await;
        assert!(copies(&rig.alpha).is_empty(), "{phase:?}");
        assert!(rig.alpha.last_swap("alpha").await.is_none());
    }
}

//! A generation that goes wrong in some phase of a swap: it is refused with the reason, and the former one goes on as it was,
//! with its state, and without anybody's notice.

mod hand_over;
mod lies;
mod phases;
mod prepare;

use componenthost::swap::{Outcome, Phase};
use probe_plugin::knobs::{Fault, Method};

use crate::swap::rig::{AT_ONCE, Rig};

/// How a method goes wrong, and what has to be told.
pub type Case<'a> = (Method, Fault, &'a [&'a str]);

/// Each of these refuses a swap in this phase, under load.
pub async fn are_refused_in(rig: &Rig, phase: Phase, cases: &[Case<'_>]) {
    let refused = async {
        for (method, how, words) in cases {
            rig.second_goes_wrong(*method, *how);
            is_refused_in(rig, phase, words).await;
            rig.heal();
        }
    };
    let (tally, ()) = rig.load().await.during(refused).await;
    tally.assert_none_failed();
    rig.swap(&AT_ONCE).await.assert(Outcome::Committed);
}

/// A swap is, and changes nothing.
pub async fn is_refused_in(rig: &Rig, phase: Phase, words: &[&str]) {
    let before = rig.alpha.as_before_a_swap("alpha").await;
    rig.swap(&AT_ONCE).await.assert_failed(Outcome::Refused, phase, words);
    assert_eq!(rig.alpha.as_before_a_swap("alpha").await, before, "nothing has changed");
    assert_eq!(rig.answers().await, (1, "0.1.0".to_owned()));
}

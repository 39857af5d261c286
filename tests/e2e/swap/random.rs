//! Swaps by chance: any version, any fault in any phase, any probation, and peers and callers that come and go. Whatever happens,
//! each swap ends as its fault has it, who serves is who should, and no number comes twice or goes back.
//!
//! `SCENARIO_SEED=…` throws the same again.

use std::time::Duration;

use componenthost::swap::Outcome;
use fastrand::Rng;
use probe_plugin::Edition;
use probe_plugin::knobs::{Fault, Method};
use tests::short_or_full;

use crate::search::scene::dice;
use crate::swap::rig::{Rig, first_edition, second_edition};

/// Where a fault refuses a swap.
const REFUSED: [Method; 5] = [Method::New, Method::Descriptor, Method::Restore, Method::Start, Method::Activate];

/// What a swap is to come to.
struct Plan {
    to: Edition,
    fault: Option<(Method, Fault)>,
    probation: &'static str,
    outcome: Outcome,
}

impl Plan {
    /// To the other edition: a fault is for all of one edition, and the one that serves is to be well. But without a fault to
    /// any.
    fn any(dice: &mut Rng, serving: Edition) -> Self {
        let other = if serving == Edition::First { Edition::Second } else { Edition::First };
        let probation = dice.choice(["0s", "20ms", "300ms"]).expect("three");
        let well = Self { to: other, fault: None, probation, outcome: Outcome::Committed };
        match dice.u32(..10) {
            0..5 => Self { to: dice.choice([Edition::First, Edition::Second]).expect("two"), ..well },
            5 => Self { fault: Some((Method::OnPeer, Fault::Slow)), ..well },
            // Its first beat panics, long before a minute is over.
            6 => Self {
                fault: Some((Method::Background, Fault::Panic)),
                probation: "1m",
                outcome: Outcome::RolledBack,
                ..well
            },
            _ => {
                let method = dice.choice(REFUSED).expect("some");
                // A descriptor has no error to return.
                let fails = dice.bool() && method != Method::Descriptor;
                let how = if fails { Fault::Fail } else { Fault::Panic };
                Self { fault: Some((method, how)), outcome: Outcome::Refused, ..well }
            }
        }
    }

    /// Carries it out; gives the generation that was made, if it serves now.
    async fn carry_out(&self, rig: &Rig) -> Option<u64> {
        let (file, only) = match self.to {
            Edition::First => (first_edition(), "<2"),
            Edition::Second => (second_edition(), "^2"),
        };
        if let Some(fault) = self.fault {
            rig.turn(only, [fault], Default::default());
        }
        let swapped = rig.alpha.swap("alpha", &file, &["--probation", self.probation]).await;
        let made = swapped.assert(self.outcome).view().to;
        if self.fault.is_some() {
            rig.heal();
        }
        made.filter(|_| self.outcome == Outcome::Committed)
    }
}

/// A peer or a caller goes and comes back.
async fn meanwhile(rig: &Rig, mut dice: Rng) {
    let host = if dice.bool() { &rig.beta } else { &rig.gamma };
    tokio::time::sleep(Duration::from_millis(dice.u64(..300))).await;
    if dice.bool() {
        host.kill9();
        host.restart().await.healthy().await;
    } else {
        host.sigstop().await;
        host.cont();
    }
}

async fn steps(rig: &Rig, dice: &mut Rng) {
    let mut serving = (1, Edition::First);
    for _ in 0..short_or_full(25, 400) {
        let plan = Plan::any(dice, serving.1);
        let swap = plan.carry_out(rig);
        let made = if dice.u32(..4) == 0 { tokio::join!(swap, meanwhile(rig, dice.fork())).0 } else { swap.await };
        serving = made.map_or(serving, |made| (made, plan.to));
        assert_eq!(rig.answers().await, (serving.0, serving.1.version().to_string()));
    }
}

#[tokio::test]
async fn whatever_happens_in_whichever_order_clients_do_not_notice() {
    let mut dice = dice();
    let rig = Rig::start().await;
    let probe = rig.probe().await;
    let (tally, ()) = rig.clients_load(&probe).during(steps(&rig, &mut dice)).await;
    tally.print("by chance");
    tally.assert_none_failed();
    rig.is_called().await;
    rig.alpha.only_one_generation_lives("alpha").await;
}

//! A peer is lost, and comes back: what becomes of calls to it, over a host's links and over what a user would take instead.
//!
//! All of them call the same peer, which is a built host with the built probe, and lose it at the same moment.

mod beside;
mod caller;
mod plain;
mod round;
mod stage;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Barrier, Mutex};

use self::beside::Plainly;
use self::round::{CALLS, Lost, Round};
use self::stage::{Loss, Return};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "loss",
    about: "a peer lost by kill -9, SIGSTOP and black hole, and its return; beside it tonic, with keepalive, its balancer",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// A running call ends at most so long after the bare watcher has the DELETE.
const CUT: Target = Target::LaterByAtMost(0.005);

/// The slowest of the new calls is refused within this time.
const REFUSED: Target = Target::AtMost(0.005);

/// A waiting call is answered so soon after the bare watcher has the new session's put.
const READY: Target = Target::AtMost(0.020);

async fn measure(effort: Effort) -> Vec<Row> {
    let rounds = effort.pick(2, 5);
    let patience = Duration::from_secs(if effort == Effort::Quick { 2 } else { 5 });
    let together = Together { all: Barrier::new(Loss::ALL.len()), one: Mutex::new(()) };
    let measured = join_all(Loss::ALL.map(|loss| lost_so(loss, rounds, patience, &together))).await;
    Loss::ALL.into_iter().zip(measured).flat_map(|(loss, rounds)| rows(loss, &rounds, patience)).collect()
}

/// All kinds of losses are measured at the same time, since each is mostly a wait.
pub struct Together {
    /// They begin a round together: no start of a process falls into what is measured.
    pub all: Barrier,
    /// They come back one after the other.
    pub one: Mutex<()>,
}

/// So many rounds of each return.
async fn lost_so(loss: Loss, rounds: usize, patience: Duration, together: &Together) -> Vec<(Return, Lost)> {
    let mut measured = Vec::new();
    for _ in 0..rounds {
        for place in Return::ALL {
            together.all.wait().await;
            let round = Round::begin(loss).await;
            together.all.wait().await;
            measured.push((place, round.run(place, patience, &together.one).await));
        }
    }
    measured
}

fn rows(loss: Loss, rounds: &[(Return, Lost)], patience: Duration) -> Vec<Row> {
    let all: Vec<_> = rounds.iter().map(|(_, lost)| lost).collect();
    let name = |what: &str| format!("loss: {}, {what}", loss.name());
    let counts = |what: &str, plain: &dyn Fn(&Plainly) -> Option<f64>| {
        format!("{} fresh clusters, {what}; {}", all.len(), beside(&all, plain, patience))
    };
    let ends: Vec<_> = all.iter().map(|lost| (lost.running, lost.deleted)).collect();
    let refused: Vec<_> = all.iter().map(|lost| lost.slowest_refusal).collect();
    let cut = counts("to the DELETE", &|plain| plain.running);
    let new = counts("the slowest of 20 after the DELETE", &|plain| plain.new_call);
    let mut rows = vec![
        Row::later(&name("a running call"), Unit::Seconds, &ends, CUT, cut),
        Row::alone(&name("a new call"), Unit::Seconds, &refused, REFUSED, new),
    ];
    for place in Return::ALL {
        let here: Vec<_> = rounds.iter().filter(|(at, _)| *at == place).map(|(_, lost)| lost).collect();
        rows.extend(returned(&name(place.name()), &here, patience));
    }
    rows
}

/// What a return has shown.
fn returned(name: &str, rounds: &[&Lost], patience: Duration) -> Vec<Row> {
    let ready: Vec<_> = rounds.iter().map(|lost| lost.ready).collect();
    let failed: Vec<_> = rounds.iter().map(|lost| lost.after.failed as f64).collect();
    let calls: usize = rounds.iter().map(|lost| lost.after.calls).sum();
    let since_put =
        format!("{} returns, since the put; {}", rounds.len(), beside(rounds, &|plain| plain.back, patience));
    let of_all =
        format!("of {calls} calls; of {} of each begun meanwhile: {}", CALLS * rounds.len(), meanwhile(rounds));
    vec![
        Row::alone(&format!("{name}: ready"), Unit::Seconds, &ready, READY, since_put),
        Row::alone(&format!("{name}: failed"), Unit::Calls, &failed, Target::AtMost(0.0), of_all),
    ]
}

/// What became of the others' calls that were begun while the peer was away, for people.
fn meanwhile(rounds: &[&Lost]) -> String {
    let of_one = |index: usize| {
        let all = || rounds.iter().map(|lost| &lost.beside[index]);
        let (failed, hang): (usize, usize) = (all().map(|one| one.failed).sum(), all().map(Plainly::hang).sum());
        format!("{} {failed} failed, {hang} hang", rounds[0].beside[index].name)
    };
    (0..rounds[0].beside.len()).map(of_one).collect::<Vec<_>>().join("; ")
}

/// What the others have shown, for people: the middle of those that came, or how many did.
fn beside(rounds: &[&Lost], figure: &dyn Fn(&Plainly) -> Option<f64>, patience: Duration) -> String {
    let of_one = |index: usize| {
        let came: Vec<_> = rounds.iter().filter_map(|lost| figure(&lost.beside[index])).collect();
        let name = rounds[0].beside[index].name;
        match came.len() {
            0 => format!("{name} > {patience:?}"),
            all if all == rounds.len() => format!("{name} {}", Unit::Seconds.show(crate::interval::median(&came))),
            some => {
                format!("{name} {} in {some} of {}", Unit::Seconds.show(crate::interval::median(&came)), rounds.len())
            }
        }
    };
    (0..rounds[0].beside.len()).map(of_one).collect::<Vec<_>>().join(", ")
}

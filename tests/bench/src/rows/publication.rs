//! How long after a bare watcher of etcd has an event the table with it is published.

use std::time::Instant;

use etcd_client::{WatchOptions, WatchStream};
use tests::etcd::Etcd;

use super::sessions::{Sessions, until_revision};
use crate::interval::{median, quantile};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "publication",
    about: "from a bare watcher's receipt of an event to the table's publication",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// Peers of a usual cluster.
const SESSIONS: usize = 100;

async fn measure(effort: Effort) -> Vec<Row> {
    let etcd = Etcd::start().await;
    let mut sessions = Sessions::of(&etcd, SESSIONS).await;
    let (_discovery, mut table) = sessions.follow();
    until_revision(&mut table, 1).await;
    let options = WatchOptions::new().with_prefix();
    let mut bare = etcd.client().await.watch(sessions.prefix(), Some(options)).await.expect("etcd lets watch");
    let (rounds, events) = (effort.pick(5, 20), effort.pick(100, 500));
    let (mut medians, mut tails) = (Vec::new(), Vec::new());
    // The first round is the warm-up.
    for round in 0..=rounds {
        let mut delays = Vec::new();
        for event in 0..events {
            let revision = sessions.put(event % SESSIONS + 1, round * events + event).await;
            let (received, published) =
                tokio::join!(until_received(&mut bare, revision), until_revision(&mut table, revision));
            delays.push(seconds_between(received, published));
        }
        if round > 0 {
            medians.push(median(&delays));
            tails.push(quantile(&delays, 0.99));
        }
    }
    let counts = format!("{rounds} rounds of {events} events, one round of warm-up");
    vec![
        Row::alone("publication: median", Unit::Seconds, &medians, Target::AtMost(0.001), counts.clone()),
        Row::alone("publication: 99 of 100", Unit::Seconds, &tails, Target::None, counts),
    ]
}

/// When the bare watcher had the event of this revision.
async fn until_received(bare: &mut WatchStream, revision: i64) -> Instant {
    loop {
        let answer = bare.message().await.expect("the watch goes on").expect("the watch goes on");
        let now = Instant::now();
        if answer.events().iter().filter_map(|event| event.kv()).any(|stored| stored.mod_revision() >= revision) {
            return now;
        }
    }
}

/// Less than zero where the second came first.
fn seconds_between(first: Instant, second: Instant) -> f64 {
    second.saturating_duration_since(first).as_secs_f64() - first.saturating_duration_since(second).as_secs_f64()
}

//! How long after a bare watcher of etcd has an event the table with it is published.

use etcd_client::WatchOptions;
use tests::etcd::Etcd;

use super::sessions::{Sessions, until_revision};
use super::stamps::{Stamps, seconds_between};
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
    let bare = etcd.client().await.watch(sessions.prefix(), Some(options)).await.expect("etcd lets watch");
    let (mut received, mut published) = (Stamps::of_watch(bare), Stamps::of_tables(table));
    let (rounds, events) = (effort.pick(5, 20), effort.pick(100, 500));
    let (mut medians, mut tails) = (Vec::new(), Vec::new());
    // The first round is the warm-up.
    for round in 0..=rounds {
        let mut delays = Vec::new();
        for event in 0..events {
            let revision = sessions.put(event % SESSIONS + 1, round * events + event).await;
            delays.push(seconds_between(received.at(revision).await, published.at(revision).await));
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

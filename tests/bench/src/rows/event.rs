//! What one event costs with very many sessions, compared with a few.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use componenthost::discovery::Discovery;
use componenthost::discovery::table::Table;
use componenthost::etcd::watch::Change;
use tests::etcd::Etcd;

use super::sessions::{MANY, Sessions, filled, stored, until_revision};
use super::stamps::{Stamps, seconds_between};
use crate::interval::median;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "event",
    about: "one event at 10,000 sessions, to one at 10: from its put to its table, and the table's part alone",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// The few.
const FEW: usize = 10;

async fn measure(effort: Effort) -> Vec<Row> {
    vec![put_to_published(effort).await, change_alone(effort)]
}

async fn put_to_published(effort: Effort) -> Row {
    let etcd = Etcd::start().await;
    let (mut many, mut few) = (Side::of(&etcd, MANY).await, Side::of(&etcd, FEW).await);
    let (rounds, events) = (effort.pick(10, 30), effort.pick(50, 200));
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let (mut ours, mut baseline) = (Vec::new(), Vec::new());
        for event in 0..events {
            let number = round * events + event;
            ours.push(many.published_after(number).await);
            baseline.push(few.published_after(number).await);
        }
        if round > 0 {
            pairs.push((median(&ours), median(&baseline)));
        }
    }
    let counts = format!("{rounds} pairs of {events} events, one pair of warm-up");
    Row::compared("event: put to published", Unit::Seconds, &pairs, Target::RatioAtMost(1.2), counts)
}

/// Sessions that are followed.
struct Side {
    sessions: Sessions,
    published: Stamps,
    _discovery: Discovery,
}

impl Side {
    async fn of(etcd: &Etcd, count: usize) -> Self {
        let sessions = Sessions::of(etcd, count).await;
        let (discovery, mut table) = sessions.follow();
        until_revision(&mut table, 1).await;
        Self { sessions, published: Stamps::of_tables(table), _discovery: discovery }
    }

    async fn published_after(&mut self, number: usize) -> f64 {
        let begin = Instant::now();
        let revision = self.sessions.put(number % FEW + 1, number).await;
        seconds_between(begin, self.published.at(revision).await)
    }
}

/// Without etcd: what the table's own part costs.
fn change_alone(effort: Effort) -> Row {
    let (mut many, mut few) = (filled(MANY), filled(FEW));
    let (rounds, events) = (effort.pick(10, 30), effort.pick(200, 1000));
    let mut revision = i64::try_from(MANY).expect("a small number");
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let (mut ours, mut baseline) = (Vec::new(), Vec::new());
        for event in 0..events {
            revision += 1;
            let change = Change::Put(stored(event % FEW + 1, round * events + event, revision));
            ours.push(changed_in(&mut many, &change));
            baseline.push(changed_in(&mut few, &change));
        }
        if round > 0 {
            pairs.push((median(&ours), median(&baseline)));
        }
    }
    let counts = format!("{rounds} pairs of {events} events, one pair of warm-up");
    Row::compared("event: the table alone", Unit::Seconds, &pairs, Target::None, counts)
}

fn changed_in(table: &mut Table, change: &Change) -> f64 {
    // As a reader has it who has not let go of the last table yet.
    let held = Arc::clone(table.published());
    let begin = Instant::now();
    black_box(table.change(std::slice::from_ref(change), begin));
    let took = begin.elapsed().as_secs_f64();
    assert!(table.published().revision > held.revision);
    took
}

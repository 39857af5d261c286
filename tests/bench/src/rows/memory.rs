//! What a followed session holds in memory.

use std::time::Duration;

use tests::etcd::Etcd;

use super::sessions::{MANY, Sessions, until_revision};
use crate::allocator::in_use;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "memory",
    about: "the bytes in use for each of 10,000 followed sessions",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let etcd = Etcd::start().await;
    let sessions = Sessions::of(&etcd, MANY).await;
    let rounds = effort.pick(3, 8);
    let mut each = Vec::new();
    // The first round warms up: buffers of the connection grow, and stay.
    for round in 0..=rounds {
        let bytes = held(&sessions).await;
        if round > 0 {
            each.push(bytes / MANY as f64);
        }
    }
    let counts = format!("{rounds} rounds of {MANY} sessions, one round of warm-up");
    vec![Row::alone("memory: each session", Unit::Bytes, &each, Target::AtMost(1000.0), counts)]
}

/// The bytes in use for the table of all of them.
pub async fn held(sessions: &Sessions) -> f64 {
    let before = settled().await;
    let (discovery, mut table) = sessions.follow();
    until_revision(&mut table, 1).await;
    assert_eq!(table.borrow_and_update().sessions.size(), sessions.count());
    let after = settled().await;
    discovery.stop().await;
    after as f64 - before as f64
}

/// The bytes in use once that number is at rest: the answer's buffers are given back a little later.
async fn settled() -> isize {
    let mut last = in_use();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = in_use();
        if now.abs_diff(last) < MANY {
            return now;
        }
        last = now;
    }
}

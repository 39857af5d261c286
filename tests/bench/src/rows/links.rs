//! A thousand peers at once: how long it takes to link them, and what each link holds in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::caller::{Caller, proved_channel, table_of};
use crate::allocator::in_use;
use crate::peers::Peers;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "links",
    about: "1,000 peers at once to as many tonic channels with 64 dials at a time: until all are proved, and the bytes of each",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// So many peers.
const PEERS: usize = 1000;

/// As many dials begin at once as the host's default allows.
const AT_ONCE: usize = 64;

async fn measure(effort: Effort) -> Vec<Row> {
    let peers = Peers::start(PEERS);
    let rounds = effort.pick(5, 20);
    let (mut times, mut bytes) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (ours, baseline) = if round % 2 == 0 {
            let ours = linked(&peers).await;
            (ours, dialled(&peers).await)
        } else {
            let baseline = dialled(&peers).await;
            (linked(&peers).await, baseline)
        };
        if round > 0 {
            times.push((ours.0, baseline.0));
            bytes.push((ours.1, baseline.1));
        }
    }
    let counts = format!("{rounds} pairs of {PEERS} peers, {AT_ONCE} dials at a time, one pair of warm-up");
    let held = format!("{rounds} pairs; bytes in use by the allocator, of the caller's process only");
    vec![
        Row::compared("links: all ready", Unit::Seconds, &times, Target::RatioAtMost(1.3), counts),
        Row::compared("links: memory of each", Unit::Bytes, &bytes, Target::RatioAtMost(1.2), held),
    ]
}

/// Seconds until all are ready, and the bytes of each, with all that is kept of a peer.
async fn linked(peers: &Peers) -> (f64, f64) {
    let before = settled().await;
    let tables = table_of(&peers.addresses);
    let begin = Instant::now();
    let caller = Caller::of(tables.subscribe(), None);
    caller.all_ready().await;
    let took = begin.elapsed().as_secs_f64();
    let each = each_of(before, settled().await);
    caller.stop().await;
    (took, each)
}

/// The same of plain channels, each in a task of its own and proved by one call.
async fn dialled(peers: &Peers) -> (f64, f64) {
    let before = settled().await;
    let begin = Instant::now();
    let starts = Arc::new(Semaphore::new(AT_ONCE));
    let mut dials = JoinSet::new();
    for address in peers.addresses.clone() {
        let starts = Arc::clone(&starts);
        dials.spawn(async move {
            let _start = starts.acquire_owned().await.expect("it is not closed");
            proved_channel(&address).await
        });
    }
    let mut channels: Vec<Channel> = Vec::with_capacity(PEERS);
    while let Some(dial) = dials.join_next().await {
        channels.push(dial.expect("no panic"));
    }
    let took = begin.elapsed().as_secs_f64();
    let each = each_of(before, settled().await);
    drop(channels);
    (took, each)
}

fn each_of(before: isize, after: isize) -> f64 {
    (after as f64 - before as f64) / PEERS as f64
}

/// The bytes in use once that number is at rest.
async fn settled() -> isize {
    let mut last = in_use();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = in_use();
        if now.abs_diff(last) < PEERS {
            return now;
        }
        last = now;
    }
}

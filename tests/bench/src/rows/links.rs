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
            let ours = linked(&peers.addresses).await;
            (ours, dialled(&peers.addresses).await)
        } else {
            let baseline = dialled(&peers.addresses).await;
            (linked(&peers.addresses).await, baseline)
        };
        if round > 0 {
            times.push((ours.seconds, baseline.seconds));
            bytes.push((ours.bytes / PEERS as f64, baseline.bytes / PEERS as f64));
        }
    }
    let counts = format!("{rounds} pairs of {PEERS} peers, {AT_ONCE} dials at a time, one pair of warm-up");
    let held = format!("{rounds} pairs; bytes in use by the allocator, of the caller's process only");
    vec![
        Row::compared("links: all ready", Unit::Seconds, &times, Target::RatioAtMost(1.3), counts),
        Row::compared("links: memory of each", Unit::Bytes, &bytes, Target::RatioAtMost(1.2), held),
    ]
}

/// What it took to link all peers.
#[derive(Clone, Copy, Debug)]
pub struct Linked {
    /// Until all were ready.
    pub seconds: f64,
    /// In use for all of them, with all that is kept of a peer.
    pub bytes: f64,
}

/// By the host's own links.
pub async fn linked(addresses: &[String]) -> Linked {
    let before = settled().await;
    let tables = table_of(addresses);
    let begin = Instant::now();
    let caller = Caller::of(tables.subscribe(), None);
    caller.all_ready().await;
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = settled().await as f64 - before as f64;
    caller.stop().await;
    Linked { seconds, bytes }
}

/// The same of plain channels, each in a task of its own and proved by one call.
pub async fn dialled(addresses: &[String]) -> Linked {
    let before = settled().await;
    let begin = Instant::now();
    let starts = Arc::new(Semaphore::new(AT_ONCE));
    let mut dials = JoinSet::new();
    for address in addresses {
        let (starts, address) = (Arc::clone(&starts), address.clone());
        dials.spawn(async move {
            let _start = starts.acquire_owned().await.expect("it is not closed");
            proved_channel(&address).await
        });
    }
    let mut channels: Vec<Channel> = Vec::with_capacity(addresses.len());
    while let Some(dial) = dials.join_next().await {
        channels.push(dial.expect("no panic"));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = settled().await as f64 - before as f64;
    drop(channels);
    Linked { seconds, bytes }
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

//! More and more peers at once, over the host's links and over plain channels.

use super::{Growth, Line, Point, counts};
use crate::peers::Peers;
use crate::row::Effort;
use crate::rows::links::{Linked, dialled, linked};

/// How many.
const COUNTS: [usize; 7] = [1, 10, 30, 100, 300, 1000, 3000];

/// Measures it.
pub async fn measure(effort: Effort) -> Growth {
    let counts = counts(&COUNTS, effort);
    let peers = Peers::start(counts.iter().copied().max().unwrap_or_default());
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    // What is first warms up.
    linked(&peers.addresses[..1]).await;
    for count in counts {
        let addresses = &peers.addresses[..*count];
        ours.push(point(*count, linked(addresses).await));
        plain.push(point(*count, dialled(addresses).await));
    }
    Growth {
        file: "peers",
        of: "peers",
        time: "until all links are ready",
        memory: "what the links hold",
        lines: vec![Line { name: "links", points: ours }, Line { name: "tonic channels", points: plain }],
    }
}

fn point(count: usize, Linked { seconds, bytes }: Linked) -> Point {
    // The allocator's own noise may be more than one link.
    Point { count: count as f64, seconds, bytes: (bytes > 0.0).then_some(bytes) }
}

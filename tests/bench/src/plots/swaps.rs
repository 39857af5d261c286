//! More and more swaps of one component in one process.

use std::time::Instant;

use tests::Cluster;

use super::{Growth, Line, Point, counts};
use crate::row::Effort;
use crate::rows::swap::{edition, probe, swap, time_to_switch};

/// How many so far. A process can open little more than a thousand libraries.
const COUNTS: [usize; 8] = [1, 10, 50, 100, 200, 400, 700, 1000];

/// Measures it.
pub async fn measure(effort: Effort) -> Growth {
    let cluster = Cluster::start().await;
    let host = probe(&cluster).await;
    let (mut whole, mut to_switch, mut made) = (Vec::new(), Vec::new(), 0);
    for count in counts(&COUNTS, effort) {
        let (begin, of_these, mut switching) = (Instant::now(), count - made, 0.0);
        while made < *count {
            switching += time_to_switch(&swap(&host, "alpha", edition("probe_plugin", made)).await);
            made += 1;
        }
        let seconds = begin.elapsed().as_secs_f64() / of_these as f64;
        host.only_one_generation_lives("alpha").await;
        let (count, usage) = (*count as f64, host.usage());
        whole.push(Point { count, seconds, bytes: Some(usage.memory as f64) });
        to_switch.push(Point { count, seconds: switching / of_these as f64, bytes: Some(usage.private as f64) });
    }
    Growth {
        file: "swaps",
        of: "swaps so far",
        time: "each of those since the point before",
        memory: "what the process holds",
        lines: vec![
            Line { name: "all of it; in memory", points: whole },
            Line { name: "to the switch; of that private", points: to_switch },
        ],
    }
}

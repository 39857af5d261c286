//! What a plugin's call costs from a thread of its own, with a runtime of its own, compared with a plain channel there.

use bench_plugin::v1::Place;
use tests::Cluster;

use super::sides::{CALLED, CALLING, SHAPES, caller, host, peer, rounds, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "own-thread",
    about: "a plugin's calls over a link from a thread of its own, to a plain channel used from a second runtime",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let (_peers, address) = peer(&cluster).await;
    let host = host(&cluster, with_plugin(cluster.config(), CALLING, Some(CALLED))).await;
    let plain = plain::start(&Calls::Address(&address, 1));
    let (ours, baseline) = (caller(&host.address().await).await, caller(&plain.addresses[0]).await);
    let [one, many, ..] = SHAPES;
    let shapes = [one, many];
    let pairs = rounds(effort, shapes, Place::Thread, &ours, &baseline).await;
    let row = |(pairs, shape): (&super::sides::Pairs, super::sides::Shape)| {
        let name = format!("own-thread: {}, p50", shape.name());
        Row::compared(&name, Unit::Seconds, &pairs.medians, Target::RatioAtMost(1.1), pairs.counts(shape))
    };
    pairs.iter().zip(shapes).map(row).collect()
}

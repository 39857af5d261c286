//! What a call costs to a component in the same host, through the border, compared with plain code's over loopback.

use bench_plugin::v1::Place;
use tests::Cluster;

use super::sides::{CALLED, CALLING, SHAPES, caller, host, rounds, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "in-host",
    about: "a component's calls to another one in the same host, to plain code's calls to its own process over loopback",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let config = with_plugin(with_plugin(cluster.config(), CALLED, None), CALLING, Some(CALLED));
    let host = host(&cluster, config).await;
    let plain = plain::start(&Calls::Itself);
    let (ours, baseline) = (caller(&host.address().await).await, caller(&plain.addresses[0]).await);
    let [small, ..] = SHAPES;
    let [pairs] = rounds(effort, [small], Place::Task, &ours, &baseline).await;
    let (name, target) = ("in-host: 100 B x 1, p50", Target::RatioAtMost(0.06));
    vec![Row::compared(name, Unit::Seconds, &pairs.medians, target, pairs.counts(small))]
}

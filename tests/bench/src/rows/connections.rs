//! How many calls go over a link of 1, 2 and 4 connections, compared with as many plain channels used in turn.

use std::time::Duration;

use bench_plugin::v1::Place;
use tests::{Cluster, eventually, holds};

use super::sides::{CALLED, CALLING, Pairs, SHAPES, Shape, caller, host, peer, rounds, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "connections",
    about: "a plugin's calls over a link of 1, 2 and 4 connections, to plain code's over as many plain channels",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// All connections of a link are there within this time.
const LIMIT: Duration = Duration::from_secs(20);

async fn measure(effort: Effort) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in [1, 2, 4] {
        rows.extend(of(connections, effort).await);
    }
    rows
}

async fn of(connections: usize, effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let (_peers, address) = peer(&cluster).await;
    let config = cluster.config().set("connections.per_peer", connections);
    let host = host(&cluster, with_plugin(config, CALLING, Some(CALLED))).await;
    eventually(LIMIT, async || {
        let there = host.connected_to(&address);
        holds(there == connections, there)
    })
    .await;
    let plain = plain::start(&Calls::Address(&address, connections));
    let (ours, baseline) = (caller(&host.address().await).await, caller(&plain.addresses[0]).await);
    let [_, _, small, _, large, _] = SHAPES;
    let shapes = [small, large];
    let pairs = rounds(effort, shapes, Place::Task, &ours, &baseline).await;
    let row = |(pairs, shape): (&Pairs, Shape)| {
        let name = format!("connections: {connections}, {}, calls", shape.name());
        Row::compared(&name, Unit::PerSecond, &pairs.rates, Target::RatioAtLeast(1.0), pairs.counts(shape))
    };
    pairs.iter().zip(shapes).map(row).collect()
}

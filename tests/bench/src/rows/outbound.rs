//! What a plugin's call over a link costs, compared with plain code's over a plain channel, to the same peer.

use bench_plugin::v1::Place;
use tests::Cluster;

use super::sides::{CALLED, CALLING, SHAPES, caller, host, peer, rounds, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "outbound",
    about: "a plugin's calls over a link, from a handler and from tasks of its context, to a plain channel of plain code",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let (_peers, address) = peer(&cluster).await;
    let host = host(&cluster, with_plugin(cluster.config(), CALLING, Some(CALLED))).await;
    let plain = plain::start(&Calls::Address(&address, 1));
    let (ours, baseline) = (caller(&host.address().await).await, caller(&plain.addresses[0]).await);
    let mut rows = Vec::new();
    // Plain code does it in the same place: in its handler, or in tasks of tokio's.
    for (name, place) in [("outbound: handler, ", Place::Handler), ("outbound: task, ", Place::Task)] {
        let pairs = rounds(effort, SHAPES, place, &ours, &baseline).await;
        rows.extend(pairs.iter().zip(SHAPES).flat_map(|(pairs, shape)| pairs.rows(name, shape)));
    }
    rows
}

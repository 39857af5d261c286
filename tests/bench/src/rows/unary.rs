//! What a unary call costs to a component in a plugin, compared with the same service in a plain tonic server.

use bench_plugin::v1::{Measured, Place};
use bench_plugin::volley;
use tests::Cluster;
use tonic::transport::Channel;

use super::caller::endpoint;
use super::sides::{CALLED, Pairs, ROUNDS, SHAPES, Shape, host, in_turn, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "unary",
    about: "unary calls of 100 B and 64 KiB to a plugin, 1, 64 and 256 at a time, to the same service in plain tonic",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let host = host(&cluster, with_plugin(cluster.config(), CALLED, None)).await;
    let plain = plain::start(&Calls::Itself);
    let ours = endpoint(&host.address().await).connect().await.expect("it listens");
    let baseline = endpoint(&plain.addresses[0]).connect().await.expect("it listens");
    let mut pairs = SHAPES.map(|_| Pairs::default());
    for round in 0..=effort.pick(ROUNDS.0, ROUNDS.1) {
        for (pairs, shape) in pairs.iter_mut().zip(SHAPES) {
            let (ours, baseline) = in_turn(round, calls(&ours, shape), calls(&baseline, shape)).await;
            if round > 0 {
                pairs.add((&ours, &baseline));
            }
        }
    }
    pairs.iter().zip(SHAPES).flat_map(|(pairs, shape)| pairs.rows("unary: ", shape)).collect()
}

/// By a client that knows nothing of ours.
async fn calls(channel: &Channel, shape: Shape) -> Measured {
    let volley = shape.volley(Place::Task);
    volley::fly(vec![channel.clone()], volley, tokio::spawn).await.expect("all calls are answered")
}

//! What a message of a long stream costs, to and from a component in a plugin, compared with a plain tonic server.

use std::time::Instant;

use bench_plugin::target::messages;
use bench_plugin::v1::target_client::TargetClient;
use bench_plugin::v1::{Messages, Payload};
use tests::Cluster;
use tonic::Streaming;
use tonic::transport::Channel;

use super::caller::endpoint;
use super::sides::{CALLED, ROUNDS, host, in_turn, with_plugin};
use crate::plain::{self, Calls};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "streams",
    about: "streams of 100,000 messages from, to, and to and from a plugin, to the same service in plain tonic",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// So many messages a stream has.
const COUNT: u32 = 100_000;

/// So many streams a round has, one after the other.
const STREAMS: u32 = 3;

/// Bytes of each.
const SIZE: u32 = 100;

/// The three kinds of streams.
#[derive(Clone, Copy)]
enum Kind {
    Server,
    Client,
    Both,
}

const KINDS: [(&str, Kind); 3] = [
    ("streams: from the server", Kind::Server),
    ("streams: from the client", Kind::Client),
    ("streams: both ways", Kind::Both),
];

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let host = host(&cluster, with_plugin(cluster.config(), CALLED, None)).await;
    let plain = plain::start(&Calls::Itself);
    let ours = endpoint(&host.address().await).connect().await.expect("it listens");
    let baseline = endpoint(&plain.addresses[0]).connect().await.expect("it listens");
    let rounds = effort.pick(ROUNDS.0, ROUNDS.1);
    let mut pairs = KINDS.map(|_| Vec::new());
    for round in 0..=rounds {
        for (pairs, (_, kind)) in pairs.iter_mut().zip(KINDS) {
            let pair = in_turn(round, rate(&ours, kind), rate(&baseline, kind)).await;
            if round > 0 {
                pairs.push(pair);
            }
        }
    }
    let counts = format!("{rounds} pairs of {STREAMS} streams of {COUNT} messages of {SIZE} B, one of warm-up");
    let row = |((name, _), pairs): (_, Vec<_>)| {
        Row::compared(name, Unit::PerSecond, &pairs, Target::RatioAtLeast(0.9), counts.clone())
    };
    KINDS.into_iter().zip(pairs).map(row).collect()
}

/// Messages in a second. On a worker, as a client's own code runs.
async fn rate(channel: &Channel, kind: Kind) -> f64 {
    let client = TargetClient::new(channel.clone());
    let begin = Instant::now();
    for _ in 0..STREAMS {
        let passed = tokio::spawn(pass(client.clone(), kind)).await.expect("no panic");
        assert_eq!(passed, COUNT, "all messages came through");
    }
    f64::from(STREAMS * COUNT) / begin.elapsed().as_secs_f64()
}

async fn pass(mut client: TargetClient<Channel>, kind: Kind) -> u32 {
    let upload = || tokio_stream::iter(messages(COUNT, SIZE));
    match kind {
        Kind::Server => {
            let answers = client.down(Messages { count: COUNT, size: SIZE }).await;
            drain(answers.expect("a stream").into_inner()).await
        }
        Kind::Client => client.up(upload()).await.expect("an answer").into_inner().count,
        Kind::Both => drain(client.both(upload()).await.expect("a stream").into_inner()).await,
    }
}

async fn drain(mut messages: Streaming<Payload>) -> u32 {
    let mut count = 0;
    while messages.message().await.expect("no error").is_some() {
        count += 1;
    }
    count
}

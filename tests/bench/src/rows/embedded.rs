//! The embedded etcd, each in a process of its own and with a disk, compared with Debian's.

use std::time::{Duration, Instant};

use componenthost_etcd::EmbeddedEtcd;
use etcd_client::{Client, WatchOptions};
use futures_util::future::join_all;
use tests::etcd::{Etcd, Settings};

use crate::interval::median;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "embedded",
    about: "the embedded etcd: ready, puts of 1 and 64 clients, a put to its event, 10,000 leases renewed; to Debian's",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// Leases that are kept alive.
const LEASES: usize = 10_000;

/// So many leases are granted and renewed one after the other; each has a stream of its own, as `etcd-client` does it.
const LEASES_OF_A_TASK: usize = 500;

async fn measure(effort: Effort) -> Vec<Row> {
    let ours = Etcd::start_with(Settings { embedded: true, ..Settings::default() }).await;
    let real = Etcd::start_with(Settings { embedded: false, ..Settings::default() }).await;
    let both = [ours.client().await, real.client().await];
    let mut rows = vec![ready(effort).await];
    for clients in [1, 64] {
        rows.push(puts(&both, clients, effort).await);
    }
    rows.push(watched(&both, effort).await);
    rows.push(leases(&[&ours, &real], effort).await);
    rows
}

/// From its start within a process to its first answer.
async fn ready(effort: Effort) -> Row {
    let mut rounds = Vec::new();
    for _ in 0..effort.pick(10, 50) {
        let begin = Instant::now();
        let etcd = EmbeddedEtcd::start().await.expect("a port is free");
        let mut client = Client::connect([etcd.endpoint()], None).await.expect("it listens");
        client.get("ready", None).await.expect("it answers");
        rounds.push(begin.elapsed().as_secs_f64());
        etcd.stop().await;
    }
    let counts = format!("{} starts in memory, each to an answered read", rounds.len());
    Row::alone("embedded: ready", Unit::Seconds, &rounds, Target::AtMost(0.02), counts)
}

/// What one put takes of the time of all.
async fn puts(both: &[Client; 2], clients: usize, effort: Effort) -> Row {
    let (rounds, each) = (effort.pick(5, 15), effort.pick(1000, 4000) / clients);
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let mut took = [0.0; 2];
        for (took, client) in took.iter_mut().zip(both) {
            let begin = Instant::now();
            join_all((0..clients).map(|number| {
                let mut client = client.kv_client();
                async move {
                    for _ in 0..each {
                        client.put(format!("bench/{number}"), vec![b'x'; 256], None).await.expect("it answers a put");
                    }
                }
            }))
            .await;
            *took = begin.elapsed().as_secs_f64() / (each * clients) as f64;
        }
        // The first pair warms up.
        if round > 0 {
            pairs.push((took[0], took[1]));
        }
    }
    let counts = format!("{rounds} pairs of {} puts of 256 B", each * clients);
    let name = format!("embedded: a put, {clients} clients");
    Row::compared(&name, Unit::Seconds, &pairs, Target::RatioAtMost(1.0), counts)
}

/// From the sending of a put to the receipt of its event.
async fn watched(both: &[Client; 2], effort: Effort) -> Row {
    let (rounds, events) = (effort.pick(5, 20), effort.pick(50, 200));
    let mut streams = Vec::new();
    for client in both {
        let options = WatchOptions::new().with_prefix();
        streams.push(client.watch_client().watch("watched/", Some(options)).await.expect("a watch"));
    }
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let mut took = [0.0; 2];
        for ((took, client), stream) in took.iter_mut().zip(both).zip(&mut streams) {
            let mut of_events = Vec::new();
            for number in 0..events {
                let begin = Instant::now();
                let mut client = client.kv_client();
                let put = client.put(format!("watched/{number}"), "x", None);
                let told = async {
                    loop {
                        let answer = stream.message().await.expect("it lives").expect("it goes on");
                        if !answer.events().is_empty() {
                            return Instant::now();
                        }
                    }
                };
                let (put, told) = tokio::join!(put, told);
                put.expect("it answers a put");
                of_events.push((told - begin).as_secs_f64());
            }
            *took = median(&of_events);
        }
        if round > 0 {
            pairs.push((took[0], took[1]));
        }
    }
    let counts = format!("{rounds} pairs of {events} events, one pair of warm-up");
    Row::compared("embedded: a put to its event", Unit::Seconds, &pairs, Target::RatioAtMost(1.0), counts)
}

/// One renewal of all of very many leases, each answered with its time.
async fn leases(both: &[&Etcd; 2], effort: Effort) -> Row {
    const TTL: i64 = 60;
    let mut pairs = vec![[0.0; 2]; effort.pick(3, 8) + 1];
    for (index, etcd) in both.iter().enumerate() {
        let client = etcd.client().await;
        let streams = (0..LEASES / LEASES_OF_A_TASK).map(|_| {
            let mut client = client.lease_client();
            async move {
                let mut kept = Vec::new();
                for _ in 0..LEASES_OF_A_TASK {
                    let id = client.grant(TTL, None).await.expect("a lease").id();
                    kept.push(client.keep_alive(id).await.expect("a stream"));
                }
                kept
            }
        });
        let mut streams = join_all(streams).await;
        for pair in &mut pairs {
            let begin = Instant::now();
            join_all(streams.iter_mut().map(async |kept| {
                for (keeper, answers) in kept.iter_mut() {
                    keeper.keep_alive().await.expect("the stream takes it");
                    let answer = answers.message().await.expect("it lives").expect("it goes on");
                    assert_eq!(answer.ttl(), TTL, "a lease was lost");
                }
            }))
            .await;
            pair[index] = begin.elapsed().as_secs_f64();
            assert!(begin.elapsed() < Duration::from_secs(60), "leases run out before they are renewed");
        }
    }
    let pairs: Vec<_> = pairs.into_iter().skip(1).map(|[ours, real]| (ours, real)).collect();
    let counts = format!("{} renewals of {LEASES} leases, one of warm-up", pairs.len());
    Row::compared("embedded: 10,000 leases renewed", Unit::Seconds, &pairs, Target::RatioAtMost(1.0), counts)
}

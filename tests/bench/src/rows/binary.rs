//! What the host itself costs, with one component that does nothing: its start, and its rest. Beside it a bare tonic server
//! that registers in etcd under a lease of the same length.

mod program;
mod rest;

use std::time::{Duration, Instant};

use etcd_client::{EventType, KeyValue, WatchOptions, WatchStream};
use tempfile::TempDir;
use tests::binary::stripped;
use tests::{Cluster, LIMIT, within};
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response};

use self::program::{Program, Started};
use super::caller::endpoint;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "binary",
    about: "a host with one component, to a bare tonic server with an etcd lease: exec to Healthy, idle memory and processor",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// So much longer may it take from exec.
const LATER: Target = Target::LaterByAtMost(0.025);

async fn measure(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let mut rows = starts(&cluster, effort.pick(10, 40)).await;
    rows.extend(rest::measure(&cluster, effort).await);
    rows
}

async fn starts(cluster: &Cluster, rounds: usize) -> Vec<Row> {
    let folder = TempDir::with_prefix("componenthost-bench-").expect("a temporary directory can be made");
    let file = stripped("probe_plugin", folder.path());
    let (mut seen, mut healthy, mut light) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let before = start(cluster, Program::Bare).await;
        let ours = start(cluster, Program::Host).await;
        let of_less = start(cluster, Program::Stripped(&file)).await;
        let bare = if round % 2 == 0 { before } else { start(cluster, Program::Bare).await };
        if round > 0 {
            seen.push((ours.0, bare.0));
            healthy.push((ours.1, bare.1));
            light.push((of_less.1, bare.1));
        }
    }
    let counts = format!("{rounds} rounds of starts, one of warm-up");
    let serves = format!("{counts}; gRPC health says SERVING");
    let later = |name: &str, pairs: &[_], counts| Row::later(name, Unit::Seconds, pairs, LATER, counts);
    vec![
        later("binary: exec to seen in etcd", &seen, counts),
        later("binary: exec to Healthy", &healthy, serves.clone()),
        later("binary: the same, plugin stripped", &light, serves),
    ]
}

/// Seconds from its exec until a bare watcher has its key, and until its health service says that it serves.
async fn start(cluster: &Cluster, program: Program<'_>) -> (f64, f64) {
    let mut watch = watch(cluster, program).await;
    let begin = Instant::now();
    let _started = Started::of(program, cluster);
    let put = within(LIMIT, first_put(&mut watch)).await;
    let seen = begin.elapsed().as_secs_f64();
    within(LIMIT, serves(&program.address_in(put.value()))).await;
    (seen, begin.elapsed().as_secs_f64())
}

async fn watch(cluster: &Cluster, program: Program<'_>) -> WatchStream {
    let options = WatchOptions::new().with_prefix();
    let watch = cluster.etcd().client().await.watch(program.prefix(cluster), Some(options)).await;
    watch.expect("etcd lets watch")
}

/// Keys of those before may go meanwhile.
async fn first_put(watch: &mut WatchStream) -> KeyValue {
    loop {
        let answer = watch.message().await.expect("the watch goes on").expect("an answer");
        let put = answer.events().iter().find(|event| event.event_type() == EventType::Put);
        if let Some(stored) = put.and_then(|event| event.kv()) {
            return stored.clone();
        }
    }
}

/// Until the whole server says that it does.
async fn serves(address: &str) {
    let channel = endpoint(address).connect().await.expect("who is in etcd listens");
    let request = HealthCheckRequest { service: String::new() };
    let mut told = HealthClient::new(channel).watch(request).await.expect("it has a health service").into_inner();
    let serving = health_check_response::ServingStatus::from(ServingStatus::Serving);
    while told.message().await.expect("it goes on").expect("it does not end").status() != serving {}
}

/// Starts it, and returns when it serves.
async fn started(cluster: &Cluster, program: Program<'_>) -> Started {
    let mut watch = watch(cluster, program).await;
    let started = Started::of(program, cluster);
    let put = within(LIMIT, first_put(&mut watch)).await;
    within(Duration::from_secs(20), serves(&program.address_in(put.value()))).await;
    started
}

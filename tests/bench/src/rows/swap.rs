//! What a swap costs: the time until calls go to the new generation, the calls that are made meanwhile, and the memory.

mod load;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use componenthost::swap::{Outcome, Phase};
use serde_json::json;
use tempfile::TempDir;
use tests::binary::{plugin_dir, plugin_file, second};
use tests::probe::coordinator;
use tests::swap::Swapped;
use tests::vectors::Vectors;
use tests::{Cluster, Host};

use self::load::{Load, Slowest};
use super::querynode::{DIMENSION, FILE, Node};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "swap",
    about: "a swap: to its switch with 1 GiB of segments, its slowest calls to those without one, its memory, failed calls",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// 1 GiB of them.
const ROWS: usize = (1 << 30) / (DIMENSION * size_of::<f32>());

/// No generation is kept for longer than it takes to end it.
const AT_ONCE: [&str; 2] = ["--probation", "0s"];

async fn measure(effort: Effort) -> Vec<Row> {
    let mut rows = of_a_node(effort).await;
    rows.extend(under_load(effort).await);
    rows.extend(one_after_another(effort).await);
    rows
}

/// A swap of a QueryNode.
async fn of_a_node(effort: Effort) -> Vec<Row> {
    let files = TempDir::with_prefix("componenthost-bench-").expect("a temporary directory can be made");
    Vectors::random(1, ROWS, DIMENSION).write_npy(&files.path().join(FILE));
    let query = Vectors::random(2, 1, DIMENSION);
    let node = Node::start(&Cluster::start().await, files.path(), ROWS, 2).await;
    let rounds = effort.pick(6, 20);
    let (mut to_switch, mut searches) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let before = node.search(&query, 1).await;
        let swapped = swap(&node.host, "querynode", edition("querynode", round)).await;
        let first = node.search(&query, 1).await;
        if round > 0 {
            to_switch.push(time_to_switch(&swapped));
            searches.push((first, before));
        }
    }
    let counts = format!("{rounds} swaps, one of warm-up");
    vec![
        Row::alone("swap: 1 GiB, to the switch", Unit::Seconds, &to_switch, Target::AtMost(0.25), counts.clone()),
        Row::compared("swap: 1 GiB, first search, to others", Unit::Seconds, &searches, Target::None, counts),
    ]
}

/// From the order to the change of the routes, as the host has measured it.
pub fn time_to_switch(swapped: &Swapped) -> f64 {
    let phases = &swapped.view().phases;
    let to_switch = phases.iter().filter(|phase| !matches!(phase.phase, Phase::Probation | Phase::Commit));
    to_switch.map(|phase| phase.took_ms / 1000.0).sum()
}

/// The slowest calls while a swap is made, and in as long a time without one.
async fn under_load(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let host = probe(&cluster).await;
    let rounds = effort.pick(10, 60);
    let mut figures = [const { Vec::new() }; 2];
    for round in 0..=rounds {
        let (with, took) = during(&host, async { swap(&host, "alpha", edition("probe_plugin", round)).await }).await;
        let (without, _) = during(&host, tokio::time::sleep(took)).await;
        let pairs = [(with.free, without.free), (with.gated, without.gated)];
        if round > 0 {
            figures.iter_mut().zip(pairs).for_each(|(figures, pair)| figures.push(pair));
        }
    }
    let counts = format!("{rounds} swaps, each to as long without; {} callers each {:?}", load::CALLERS, load::PAUSE);
    let [free, gated] = figures;
    let target = Target::LaterByAtMost(0.005);
    vec![
        Row::later("swap: slowest call, to without", Unit::Seconds, &free, target, counts.clone()),
        Row::compared("swap: slowest gated call, to without", Unit::Seconds, &gated, Target::None, counts),
    ]
}

/// The slowest calls meanwhile, none of which failed, and how long it took.
async fn during<T>(host: &Host, work: impl Future<Output = T>) -> (Slowest, Duration) {
    let load = Load::begin(host).await;
    let begin = Instant::now();
    work.await;
    let took = begin.elapsed();
    let ended = load.end().await;
    assert_eq!(ended.failed, 0, "calls have failed");
    (ended.slowest, took)
}

/// Many swaps under a load.
async fn one_after_another(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start().await;
    let host = probe(&cluster).await;
    // A process can open little more than a thousand libraries.
    let (rounds, swaps) = (effort.pick(2, 10), effort.pick(25, 90));
    let (mut bytes, mut failed, mut calls) = (Vec::new(), Vec::new(), 0);
    for round in 0..=rounds {
        host.only_one_generation_lives("alpha").await;
        let before = host.usage().memory;
        let load = Load::begin(&host).await;
        for number in 0..swaps {
            swap(&host, "alpha", edition("probe_plugin", number)).await;
        }
        let ended = load.end().await;
        let generations = host.only_one_generation_lives("alpha").await;
        let mapped = generations.iter().map(|generation| generation.mapped_bytes).max().expect("one serves");
        let grown = host.usage().memory as f64 - before as f64;
        if round > 0 {
            bytes.push(grown / swaps as f64 - mapped as f64);
            failed.push(ended.failed as f64);
            calls += ended.calls;
        }
    }
    let counts = format!("{rounds} rounds of {swaps} swaps, one of warm-up; {calls} calls");
    vec![
        Row::alone(
            "swap: memory beyond the mapped file",
            Unit::Bytes,
            &bytes,
            Target::AtMost(1_048_576.0),
            counts.clone(),
        ),
        Row::alone("swap: failed calls in each round", Unit::Calls, &failed, Target::AtMost(0.0), counts),
    ]
}

/// A host with a probe that keeps a count over its swaps, and as many generations as there are swaps.
pub async fn probe(cluster: &Cluster) -> Host {
    let mut own = coordinator();
    own["gated"] = json!([format!("/{}/Count", probe_plugin::service_name("alpha"))]);
    let config =
        cluster.config().set("plugins.dirs", json!([plugin_dir()])).set("plugins.retired_memory_limit", "64GiB");
    let host = cluster.spawn(config.probe("alpha", own));
    host.healthy().await;
    host
}

/// The second edition in even rounds, and the first one in others.
pub fn edition(plugin: &str, round: usize) -> PathBuf {
    if round.is_multiple_of(2) { plugin_file(&second(plugin)) } else { plugin_file(plugin) }
}

/// Swaps its component, and waits for the former generation's end.
pub async fn swap(host: &Host, role: &str, file: PathBuf) -> Swapped {
    let swapped = host.swap(role, &file, &AT_ONCE).await;
    swapped.assert(Outcome::Committed);
    swapped
}

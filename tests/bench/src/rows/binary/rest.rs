//! What they use while nobody asks anything of them, as the kernel has it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use tests::Cluster;

use super::program::{Program, Started};
use super::started;
use crate::row::{Effort, Row, Target, Unit};

/// After the start: what it needs for that only is given back, or will not be.
const SETTLE: Duration = Duration::from_secs(2);

/// So many times the bare server's memory.
const MEMORY: Target = Target::RatioAtMost(2.5);

/// So much of a core.
const PROCESSOR: Target = Target::AtMost(0.002);

/// What a process uses at rest.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// All that is in memory (`VmRSS`).
    memory: f64,
    /// Of that, without pages of files (`RssAnon`).
    private: f64,
    /// The part of a core.
    processor: f64,
}

/// So many of each, at rest at the same time.
pub async fn measure(cluster: &Cluster, effort: Effort) -> Vec<Row> {
    let count = effort.pick(3, 8);
    let window = Duration::from_secs(if effort == Effort::Quick { 5 } else { 20 });
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((started(cluster, Program::Host).await, started(cluster, Program::Bare).await));
    }
    tokio::time::sleep(SETTLE).await;
    let before: Vec<_> = pairs.iter().map(|(ours, bare)| (Threads::of(ours), Threads::of(bare))).collect();
    let begin = Instant::now();
    tokio::time::sleep(window).await;
    let took = begin.elapsed().as_secs_f64();
    let rest = |started: &Started, before: Threads| Rest::of(started, Threads::of(started).since(&before) / took);
    let seen = pairs.iter().zip(before).map(|((ours, bare), before)| (rest(ours, before.0), rest(bare, before.1)));
    rows(&seen.collect::<Vec<_>>(), window)
}

fn rows(seen: &[(Rest, Rest)], window: Duration) -> Vec<Row> {
    let counts = |what: &str| format!("{} processes of each, {SETTLE:?} of warm-up; {what}", seen.len());
    let pairs =
        |figure: fn(&Rest) -> f64| -> Vec<_> { seen.iter().map(|(ours, bare)| (figure(ours), figure(bare))).collect() };
    let (memory, private) = (pairs(|rest| rest.memory), pairs(|rest| rest.private));
    let (ours, bare): (Vec<_>, Vec<_>) = pairs(|rest| rest.processor).into_iter().unzip();
    let of_core = counts(&format!("{window:?} each, all at the same time"));
    vec![
        Row::compared("binary: idle memory", Unit::Bytes, &memory, MEMORY, counts("VmRSS")),
        Row::compared("binary: idle memory, private", Unit::Bytes, &private, MEMORY, counts("RssAnon")),
        Row::alone("binary: idle processor", Unit::Share, &ours, PROCESSOR, of_core).beside(&bare),
    ]
}

impl Rest {
    fn of(started: &Started, processor: f64) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", started.pid())).expect("it runs");
        let bytes = |name: &str| {
            let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            kilobytes.and_then(|number| number.parse::<f64>().ok()).expect("Linux counts a process' memory") * 1024.0
        };
        Self { memory: bytes("VmRSS:"), private: bytes("RssAnon:"), processor }
    }
}

/// Seconds that each thread of a process has run so far, by its number.
struct Threads(BTreeMap<OsString, f64>);

impl Threads {
    fn of(started: &Started) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", started.pid())).expect("it runs");
        let seconds = tasks.flatten().filter_map(|task| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name(), times.split(' ').next()?.parse::<f64>().ok()? / 1e9))
        });
        Self(seconds.collect())
    }

    /// What those that still are there have run meanwhile. Threads that were needed at the start end after a while of rest.
    fn since(&self, before: &Self) -> f64 {
        self.0.iter().map(|(thread, seconds)| seconds - before.0.get(thread).copied().unwrap_or_default()).sum()
    }
}

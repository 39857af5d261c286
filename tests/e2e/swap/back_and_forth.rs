//! Many swaps, one after the other, under a load that does not notice them; and what they leave behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use componenthost::swap::Outcome;
use tests::binary::{second, stripped};
use tests::swap::Swapped;
use tests::usage::Usage;
use tests::{LIMIT, eventually, holds, short_or_full};

use crate::swap::rig::{Rig, copies};

/// What a generation may take beside what the ledger says of it.
const BESIDE: u64 = 1 << 20;

/// What it may write to at all and leave: its relocated data, and what its libraries make once.
const WRITTEN: u64 = 2 << 20;

/// Both editions.
struct Files {
    first: PathBuf,
    second: PathBuf,
}

impl Files {
    fn stripped(rig: &Rig) -> Self {
        let [first, second] = ["probe_plugin", &second("probe_plugin")].map(|name| stripped(name, rig.folder.path()));
        Self { first, second }
    }
}

#[tokio::test]
async fn a_hundred_swaps_at_once_fail_no_call_and_leave_nothing_behind() {
    swapped_back_and_forth(short_or_full(100, 500), "0s").await;
}

#[tokio::test]
async fn a_hundred_swaps_on_probation_fail_no_call_and_leave_nothing_behind() {
    swapped_back_and_forth(short_or_full(100, 500), "200ms").await;
}

#[tokio::test]
async fn swaps_leave_no_file_open() {
    let rig = Rig::start().await;
    let files = Files::stripped(&rig);
    let mut open = Vec::new();
    for number in 0..8 {
        one_swap(&rig, &files, number, "0s").await;
        rig.alpha.only_one_generation_lives("alpha").await;
        open.push(rig.alpha.usage().files.values().sum::<usize>());
    }
    // Those of connections come and go: one for each swap would be a leak.
    assert!(open[7] < open[1] + 4, "{open:?}");
}

#[expect(clippy::print_stdout, reason = "what was measured is shown")]
async fn swapped_back_and_forth(swaps: u64, probation: &str) {
    let rig = Rig::start().await;
    let files = Files::stripped(&rig);
    // What is made once only, by the first of each, is not counted.
    for number in 0..2 {
        one_swap(&rig, &files, number, "0s").await;
    }
    rig.alpha.only_one_generation_lives("alpha").await;
    let before = rig.alpha.usage();
    let (tally, took) = rig.load().await.during(all_swaps(&rig, &files, swaps, probation)).await;
    tally.print(&format!("{swaps} swaps with a probation of {probation}"));
    println!("on average, in milliseconds: {took:.1?}");
    tally.assert_none_failed();
    nothing_is_left(&rig, swaps, &before).await;
}

/// How long each phase took on average, and all with its command.
async fn all_swaps(rig: &Rig, files: &Files, swaps: u64, probation: &str) -> BTreeMap<String, f64> {
    let mut took = BTreeMap::new();
    let mut add = |what: String, milliseconds: f64| *took.entry(what).or_default() += milliseconds / swaps as f64;
    for number in 0..swaps {
        let began = Instant::now();
        let swapped = one_swap(rig, files, number, probation).await;
        add("All".to_owned(), began.elapsed().as_secs_f64() * 1000.0);
        swapped.view().phases.iter().for_each(|phase| add(format!("{:?}", phase.phase), phase.took_ms));
    }
    took
}

async fn one_swap(rig: &Rig, files: &Files, number: u64, probation: &str) -> Swapped {
    let (file, version) = if number.is_multiple_of(2) { (&files.second, "2.0.0") } else { (&files.first, "0.1.0") };
    let swapped = rig.alpha.swap("alpha", file, &["--probation", probation]).await;
    let generation = swapped.assert(Outcome::Committed).view().to.expect("one was made");
    assert_eq!(rig.answers().await, (generation, version.to_owned()));
    swapped
}

/// No thread, no copy, nothing of a former generation but its library; and not more memory than is shown.
#[expect(clippy::print_stdout, reason = "what was measured is shown")]
async fn nothing_is_left(rig: &Rig, swaps: u64, before: &Usage) {
    let generations = rig.alpha.only_one_generation_lives("alpha").await;
    let mapped = generations.iter().map(|generation| generation.mapped_bytes).max().expect("one serves");
    assert!(mapped > 0, "what a generation takes is shown");
    eventually(LIMIT, async || {
        let now = rig.alpha.usage();
        let own = now.threads.keys().filter(|name| name.contains("alpha")).count();
        // Pools of threads come and go: one thread for each ten swaps would be a leak.
        let others = now.thread_count() < before.thread_count() + 10;
        holds(own == 1 && others, (before, now.clone())).map(|()| now).map_err(|seen| format!("{seen:#?}"))
    })
    .await;
    let now = rig.alpha.usage();
    let (grown, written) = (now.memory.saturating_sub(before.memory), now.private.saturating_sub(before.private));
    let each = [grown, written].map(|bytes| bytes / swaps / 1024);
    println!("{} KiB a swap, {} of them written to; {} are shown", each[0], each[1], mapped / 1024);
    assert!(grown <= swaps * (mapped + BESIDE), "{swaps} swaps took {grown} bytes, shown are {mapped} for each");
    assert!(written <= swaps * WRITTEN, "{swaps} swaps left {written} bytes that they wrote to");
    let copies = copies(&rig.alpha);
    assert!(copies.is_empty(), "private copies are left: {copies:?}");
}

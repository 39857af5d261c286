//! Which seeds are run, and what is printed of one that fails.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::simulation::journal::Journal;

/// So many seeds are run unless `SIMULATION_SEEDS` says another number.
const SEEDS: u64 = 2000;

/// Lines that are printed of a seed that failed; of `SIMULATION_SEED` all are.
const LAST_LINES: usize = 60;

/// One history by a seed; the error is what did not hold.
pub type Run = fn(u64, &Journal) -> Result<(), String>;

/// The seeds of one of several tests that share them.
fn seeds(part: u64, parts: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| {
        let text = env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number but '{text}'")))
    };
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    seeds.filter(move |seed| seed % parts == part)
}

/// Every seed must pass. This is one part of several that share the seeds.
pub fn all_pass(run: Run, part: u64, parts: u64) {
    for seed in seeds(part, parts) {
        // Without a journal first: nearly all pass.
        if attempt(run, seed, &Journal::new(0)).is_err() {
            let kept = if env::var_os("SIMULATION_SEED").is_some() { usize::MAX } else { LAST_LINES };
            let journal = Journal::new(kept);
            let why = attempt(run, seed, &journal).err().unwrap_or_else(|| "it passes when run again".to_owned());
            panic!("\n{journal}\nseed {seed}: {why}\nrun it again, with all its events: SIMULATION_SEED={seed}\n");
        }
    }
}

/// Some seed of those that each test run has must fail: else the simulation would not see this fault in the host either.
pub fn is_found(run: Run) {
    let found = (0..SEEDS).find(|seed| attempt(run, *seed, &Journal::new(0)).is_err());
    assert!(found.is_some(), "the simulation does not find a seeded fault in {SEEDS} seeds");
}

fn attempt(run: Run, seed: u64, journal: &Journal) -> Result<(), String> {
    let ended = catch_unwind(AssertUnwindSafe(|| run(seed, journal)));
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("it panicked: {}", text.unwrap_or("with something that is no text")))
    })
}

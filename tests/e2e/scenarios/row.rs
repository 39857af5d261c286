//! A row of the table of scenarios: what was measured, within which bounds, and by which chance.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::short_or_full;

use super::calls::Tally;
use crate::search::searches;

/// Running calls end within this time of the event, on a machine that does much else.
pub const CUT_WITHIN: Duration = Duration::from_millis(250);
/// A peer is called again within this time of its session's appearance.
pub const READY_WITHIN: Duration = Duration::from_secs(1);
/// A component is told within this time of the event.
pub const TOLD_WITHIN: Duration = Duration::from_millis(250);

/// A row in the making. One that is not ended says that its scenario has failed.
pub struct Row {
    place: &'static str,
    scenario: &'static str,
    seed: u64,
    chance: fastrand::Rng,
    begin: Instant,
    made: usize,
    failed: usize,
    slowest: Option<Duration>,
    cut: Option<Duration>,
    ready: Option<Duration>,
    ended: bool,
}

impl Row {
    /// Begins a row; rows are in the order of their places.
    pub fn begin(place: &'static str, scenario: &'static str) -> Self {
        let given = std::env::var("SCENARIO_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("SCENARIO_SEED is a number"));
        let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        // Another story for each row, also where all have one seed.
        let own = place.bytes().fold(seed, |own, byte| own.wrapping_mul(256).wrapping_add(byte.into()));
        let chance = fastrand::Rng::with_seed(own);
        let (made, failed, slowest, cut, ready) = (0, 0, None, None, None);
        let begin = Instant::now();
        Self { place, scenario, seed, chance, begin, made, failed, slowest, cut, ready, ended: false }
    }

    /// The dice.
    pub fn chance(&mut self) -> &mut fastrand::Rng {
        &mut self.chance
    }

    /// A pause of so many milliseconds, by chance.
    pub async fn pause(&mut self, milliseconds: Range<u64>) {
        let pause = self.chance.u64(milliseconds);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// What goes wrong goes wrong from now on; before, from the row's begin.
    pub fn faults_begin(&mut self) {
        self.begin = Instant::now();
    }

    /// Have the faults gone on for so long?
    pub fn is_over(&self, short: Duration, full: Duration) -> bool {
        self.begin.elapsed() >= short_or_full(short, full)
    }

    /// Calls that were made.
    pub fn calls(&mut self, tally: &Tally) {
        self.made += tally.made();
        self.failed += tally.failed.len();
        self.slowest = self.slowest.max(Some(tally.slowest()));
    }

    /// Searches that were made; a partial answer is none.
    pub fn searches(&mut self, tally: &searches::Tally) {
        self.made += tally.made();
        self.failed += tally.failed.len() + tally.partial.len();
        self.slowest = self.slowest.max(Some(tally.slowest));
    }

    /// Running calls ended so long after the event.
    pub fn cut_after(&mut self, took: Duration) {
        self.cut = self.cut.max(Some(took));
        assert!(took <= CUT_WITHIN, "cut after {took:?}");
    }

    /// A call went through so long after its peer's session had appeared.
    pub fn ready_after(&mut self, took: Duration) {
        self.ready_after_within(took, READY_WITHIN);
    }

    /// The same with another bound, where a lease or a watch has its part in it.
    pub fn ready_after_within(&mut self, took: Duration, bound: Duration) {
        self.ready = self.ready.max(Some(took));
        assert!(took <= bound, "ready after {took:?}");
    }

    /// All that had to hold has held.
    pub fn end(mut self) {
        self.ended = true;
    }

    fn line(&self) -> String {
        let mut line = format!("{:<54}", self.scenario);
        let number = |number: usize| if self.made == 0 { "-".to_owned() } else { number.to_string() };
        let _ = write!(line, "{:>8}{:>8}", number(self.made), number(self.failed));
        for took in [self.slowest, self.cut, self.ready] {
            let took = took.map_or("-".to_owned(), |took| format!("{:.1} ms", took.as_secs_f64() * 1e3));
            let _ = write!(line, "{took:>12}");
        }
        let verdict = if self.ended { "" } else { "  FAILED" };
        let _ = write!(line, "{:>8}{verdict}", self.seed);
        line
    }

    /// Where `tests/run` finds it.
    fn file(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scenarios");
        std::fs::create_dir_all(&folder).expect("cargo gives a folder that can be written");
        folder.join(self.place)
    }
}

impl Drop for Row {
    #[expect(clippy::print_stdout, reason = "what was measured is shown")]
    fn drop(&mut self) {
        let line = self.line();
        println!("{line}");
        if let Err(error) = std::fs::write(self.file(), format!("{line}\n")) {
            println!("this line is not in the table: {error}");
        }
    }
}

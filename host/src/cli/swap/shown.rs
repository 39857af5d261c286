//! How a swap goes, as text: a line for each phase that is over, and the outcome. On a terminal also the phase that runs,
//! where it takes long; what is over then takes its place.

use std::time::Duration;

use plugin_api::identity::Role;
use tokio::time::Instant;

use crate::swap::{Outcome, Phase, PhaseView, SwapView};

/// A phase that runs longer is shown, and so often anew.
const LONG: Duration = Duration::from_millis(500);

/// Back to the line's beginning, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

/// What was shown of a swap.
pub(super) struct Shown {
    role: Role,
    live: bool,
    /// How many phases that are over were shown; `None` before the title.
    phases: Option<usize>,
    /// What runs, since when, and when it is shown next.
    runs: Option<(Phase, Instant, Instant)>,
    /// There is a line to clear.
    running: bool,
}

impl Shown {
    /// Nothing yet. `live` is for a terminal, where a line can be taken back.
    pub fn new(role: &Role, live: bool) -> Self {
        Self { role: role.clone(), live, phases: None, runs: None, running: false }
    }

    /// What is new.
    pub fn next(&mut self, swap: &SwapView) -> String {
        let mut text = if std::mem::take(&mut self.running) { CLEAR.to_owned() } else { String::new() };
        if self.phases.is_none() {
            let SwapView { number, from, order, .. } = swap;
            text.push_str(&format!("{}: swap {number}, of generation {from} by {}\n", self.role, order.plugin));
        }
        swap.phases.iter().skip(self.phases.unwrap_or(0)).for_each(|phase| text.push_str(&line(phase)));
        self.phases = Some(swap.phases.len());
        if swap.phase != self.runs.map(|(phase, ..)| phase) {
            let now = Instant::now();
            self.runs = swap.phase.map(|phase| (phase, now, now + LONG));
        }
        if let Some(outcome) = swap.outcome {
            text.push_str(&ended(outcome, swap));
        }
        text
    }

    /// Returns when the running phase is to be shown.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn takes_long(&self) {
        match self.runs {
            Some((_, _, next)) if self.live => tokio::time::sleep_until(next).await,
            _ => std::future::pending().await,
        }
    }

    /// The running phase, in place of what was shown of it before.
    pub fn running(&mut self) -> String {
        let Some((phase, since, next)) = &mut self.runs else { return String::new() };
        *next = Instant::now() + LONG;
        self.running = true;
        format!("{CLEAR}  {:<10} {:>8} …", name(*phase), time(since.elapsed().as_secs_f64() * 1000.0))
    }
}

fn line(PhaseView { phase, took_ms, detail, failed }: &PhaseView) -> String {
    let failed = if *failed { "failed: " } else { "" };
    let line = format!("  {:<10} {:>8}  {failed}{detail}", name(*phase), time(*took_ms));
    format!("{}\n", line.trim_end())
}

fn ended(outcome: Outcome, swap: &SwapView) -> String {
    let from = swap.from;
    let text = match outcome {
        Outcome::Committed => match swap.to {
            Some(to) => format!("committed: generation {to} serves"),
            None => "committed".to_owned(),
        },
        Outcome::Refused => format!("refused: generation {from} serves as if nothing had been"),
        Outcome::RolledBack => {
            format!("rolled back: the new code had served and failed; generation {from} serves again")
        }
        Outcome::Failed => "failed: neither generation serves; the component is started again".to_owned(),
    };
    // Most often it is what the failed phase's line says already.
    let is_told = swap.phases.iter().any(|phase| phase.failed && phase.detail == swap.reason);
    let reason = if swap.reason.is_empty() || is_told { String::new() } else { format!(": {}", swap.reason) };
    format!("{text}{reason}\n")
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Wait => "wait",
        Phase::Prepare => "prepare",
        Phase::Gate => "gate",
        Phase::HandOver => "hand over",
        Phase::Warm => "warm",
        Phase::Switch => "switch",
        Phase::Probation => "probation",
        Phase::Commit => "commit",
        Phase::RollBack => "roll back",
    }
}

/// Of milliseconds, with two digits or three.
fn time(ms: f64) -> String {
    match ms {
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

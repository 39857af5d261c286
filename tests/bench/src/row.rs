//! One line of the result: a figure of ours, what it is compared with, and what was promised.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::interval::{Interval, median};

/// What is measured together, because it needs the same preparation.
pub struct Subject {
    /// By which it is chosen; its rows' names begin so.
    pub name: &'static str,
    /// What it measures, in one sentence.
    pub about: &'static str,
    /// Measures it.
    pub measure: fn(Effort) -> Measuring,
}

/// A subject that is being measured.
pub type Measuring = Pin<Box<dyn Future<Output = Vec<Row>>>>;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Enough to see whether something is badly wrong.
    Quick,
    /// Enough for figures that can be quoted.
    Full,
}

impl Effort {
    /// The one of the two numbers that fits.
    pub fn pick(self, quick: usize, full: usize) -> usize {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Calls.
    Calls,
    /// A part of a whole.
    Share,
    /// Calls or messages in a second.
    PerSecond,
    /// Allocations.
    Allocations,
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Ours is at most so many times the baseline.
    RatioAtMost(f64),
    /// Ours is at least so many times the baseline.
    RatioAtLeast(f64),
    /// Ours is at most so much, in the row's unit.
    AtMost(f64),
    /// Ours is at most so much later than the baseline, or so much more, in the row's unit.
    LaterByAtMost(f64),
    /// Nothing: the row explains another.
    None,
}

/// Is the promise kept?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least a part of the interval keeps it.
    Ok,
    /// All of the interval misses it.
    Short,
    /// Nothing was promised.
    Told,
}

/// A line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What the figures count.
    pub unit: Unit,
    /// Ours: the middle of the rounds.
    pub ours: f64,
    /// What was waited for had not come by then: more than `ours`.
    pub not_within: bool,
    /// What it is compared with, of the same run.
    pub baseline: Option<f64>,
    /// Ours to the baseline, or by how much it is later; where there is none, ours itself.
    pub interval: Interval,
    /// What was promised.
    pub target: Target,
    /// Is it kept?
    pub verdict: Verdict,
    /// What was counted: rounds, and what each was made of.
    pub counts: String,
}

impl Row {
    /// Ours against the baseline, in pairs of rounds that came one after the other.
    pub fn compared(name: &str, unit: Unit, pairs: &[(f64, f64)], target: Target, counts: String) -> Self {
        let (ours, baseline): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let interval = Interval::of_ratio(pairs);
        let verdict = target.verdict(interval);
        let (ours, baseline) = (median(&ours), Some(median(&baseline)));
        Self { name: name.to_owned(), unit, ours, not_within: false, baseline, interval, target, verdict, counts }
    }

    /// By how much ours is later than the baseline, in pairs of rounds that came one after the other.
    pub fn later(name: &str, unit: Unit, pairs: &[(f64, f64)], target: Target, counts: String) -> Self {
        let differences: Vec<_> = pairs.iter().map(|(ours, baseline)| ours - baseline).collect();
        let interval = Interval::of_mean(&differences);
        Self { interval, verdict: target.verdict(interval), ..Self::compared(name, unit, pairs, target, counts) }
    }

    /// What did not come within so many seconds, as it was expected of a baseline.
    pub fn not_within(name: &str, seconds: f64, counts: String) -> Self {
        Self { not_within: true, ..Self::alone(name, Unit::Seconds, &[seconds; 2], Target::None, counts) }
    }

    /// Ours alone.
    pub fn alone(name: &str, unit: Unit, rounds: &[f64], target: Target, counts: String) -> Self {
        let interval = Interval::of_mean(rounds);
        let (verdict, ours) = (target.verdict(interval), median(rounds));
        let (name, not_within, baseline) = (name.to_owned(), false, None);
        Self { name, unit, ours, not_within, baseline, interval, target, verdict, counts }
    }

    /// The same, with what the rounds of something else gave, for people to compare: the target is not of it.
    pub fn beside(self, rounds: &[f64]) -> Self {
        Self { baseline: Some(median(rounds)), ..self }
    }
}

impl Target {
    fn verdict(self, interval: Interval) -> Verdict {
        match self {
            Self::None => Verdict::Told,
            Self::RatioAtMost(most) | Self::AtMost(most) | Self::LaterByAtMost(most) if interval.low <= most => {
                Verdict::Ok
            }
            Self::RatioAtLeast(least) if interval.high >= least => Verdict::Ok,
            Self::RatioAtMost(_) | Self::RatioAtLeast(_) | Self::AtMost(_) | Self::LaterByAtMost(_) => Verdict::Short,
        }
    }
}

impl Unit {
    /// A figure for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.0 => format!("-{}", self.show(-value)),
            Self::Seconds => format!("{:.3?}", Duration::from_secs_f64(value)),
            Self::Bytes => format!("{value:.0} B"),
            Self::Calls | Self::Allocations => format!("{value:.2}"),
            Self::Share => format!("{:.3} %", value * 100.0),
            Self::PerSecond => format!("{value:.0}/s"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Short => "short",
            Self::Told => "-",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_broken_only_where_the_whole_interval_misses_it() {
        let interval = Interval { low: 1.9, middle: 2.1, high: 2.3 };
        assert_eq!(Target::RatioAtMost(2.0).verdict(interval), Verdict::Ok);
        assert_eq!(Target::RatioAtMost(1.8).verdict(interval), Verdict::Short);
        assert_eq!(Target::AtMost(1.9).verdict(interval), Verdict::Ok);
        assert_eq!(Target::RatioAtLeast(2.0).verdict(interval), Verdict::Ok);
        assert_eq!(Target::RatioAtLeast(2.4).verdict(interval), Verdict::Short);
        assert_eq!(Target::None.verdict(interval), Verdict::Told);
    }

    #[test]
    fn later_is_a_difference_and_no_ratio() {
        let row = |most| {
            let pairs = [(1.2, 1.0), (2.2, 2.0), (3.2, 3.0)];
            Row::later("row", Unit::Seconds, &pairs, Target::LaterByAtMost(most), String::new())
        };
        let Interval { low, high, .. } = row(0.3).interval;
        assert!((low - 0.2).abs() < 0.001 && (high - 0.2).abs() < 0.001, "{low} {high}");
        assert_eq!((row(0.3).verdict, row(0.1).verdict), (Verdict::Ok, Verdict::Short));
    }

    #[test]
    fn what_is_shown_beside_is_not_what_is_promised() {
        let row =
            Row::alone("row", Unit::Share, &[0.5, 0.5], Target::AtMost(0.6), String::new()).beside(&[0.1, 0.2, 0.3]);
        assert_eq!((row.baseline, row.interval.middle, row.verdict), (Some(0.2), 0.5, Verdict::Ok));
    }

    #[test]
    fn figures_have_units() {
        assert_eq!(Unit::Seconds.show(0.000_25), "250.000µs");
        assert_eq!(Unit::Seconds.show(-0.001), "-1.000ms");
        assert_eq!(Unit::Bytes.show(612.4), "612 B");
        assert_eq!(Unit::Share.show(0.001_25), "0.125 %");
        assert_eq!(Unit::PerSecond.show(12_345.6), "12346/s");
        assert_eq!(Unit::Allocations.show(7.5), "7.50");
    }
}

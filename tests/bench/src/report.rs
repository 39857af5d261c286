//! The result, as a table for people while it comes and as JSON at the end.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what the program is run for")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::interval::Interval;
use crate::machine::Machine;
use crate::plots::{Growth, Line, Point};
use crate::row::{Effort, Row, Subject, Target, Unit};

/// A result in the making.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    effort: Effort,
    rows: Vec<Row>,
    #[serde(skip)]
    begin: Instant,
}

/// The names of all subjects, each with what it measures.
pub fn list(subjects: &[Subject]) {
    for subject in subjects {
        println!("{:<24} {}", subject.name, subject.about);
    }
}

/// What was asked for is not there.
pub fn nothing_chosen() {
    eprintln!("no row has a name that begins so; --list shows them");
}

/// What was measured of growing numbers.
pub fn grown(growth: &Growth) {
    println!("{}: {}", growth.file, growth.time);
    for Line { name, points } in &growth.lines {
        for Point { count, seconds, bytes } in points {
            let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| Unit::Bytes.show(bytes));
            println!("{name:<32} {count:>8} {:>12} {bytes:>14}", Unit::Seconds.show(*seconds));
        }
    }
}

/// The result could not be kept.
pub fn failed(error: &std::io::Error) {
    eprintln!("the result cannot be written: {error}");
}

impl Report {
    /// Says where it is measured, and begins the table.
    pub fn begin(machine: Machine, effort: Effort) -> Self {
        let Machine { processor, threads, memory, kernel, load, etcd, debug } = &machine;
        println!("{processor}, {threads} threads, {memory} MiB, Linux {kernel}, load {load}, etcd {etcd}, {effort:?}");
        if *debug {
            println!("WITHOUT OPTIMIZATION: these figures say nothing; cargo run --release -p bench");
        }
        println!(
            "\nRatios and figures with their 95 % interval; `short` only where the whole interval misses the target.\n"
        );
        let head = ["name", "ours", "baseline", "ratio, delay, or ours", "target", "verdict", "counts"];
        print_line(head.map(str::to_owned));
        println!("{}", "-".repeat(150));
        Self { machine, effort, rows: Vec::new(), begin: Instant::now() }
    }

    /// One line more.
    pub fn add(&mut self, row: Row) {
        let show = |value: f64| row.unit.show(value);
        let Interval { low, middle, high } = row.interval;
        let interval = match (row.baseline, row.target) {
            (Some(_), Target::LaterByAtMost(_)) => {
                format!("{}{} [{}, {}]", if middle < 0.0 { "" } else { "+" }, show(middle), show(low), show(high))
            }
            (Some(_), Target::RatioAtMost(_) | Target::RatioAtLeast(_) | Target::None) => {
                format!("{middle:.2} [{low:.2}, {high:.2}]")
            }
            (None, _) if row.not_within => "-".to_owned(),
            (_, _) => format!("[{}, {}]", show(low), show(high)),
        };
        let target = match row.target {
            Target::RatioAtMost(most) => format!("<= {most:.2}"),
            Target::RatioAtLeast(least) => format!(">= {least:.2}"),
            Target::AtMost(most) => format!("<= {}", show(most)),
            Target::LaterByAtMost(most) => format!("<= +{}", show(most)),
            Target::None => "-".to_owned(),
        };
        let baseline = row.baseline.map_or_else(|| "-".to_owned(), show);
        let verdict = row.verdict.to_string();
        let ours = if row.not_within { format!("> {}", show(row.ours)) } else { show(row.ours) };
        print_line([row.name.clone(), ours, baseline, interval, target, verdict, row.counts.clone()]);
        self.rows.push(row);
    }

    /// Says how long a subject took, preparation and all: beside the table, on standard error.
    pub fn measured(&self, subject: &str, took: Duration) {
        eprintln!("{subject}: {took:.1?}");
    }

    /// Says how long it took.
    pub fn end(&self) {
        println!("\n{} rows in {:.0?}", self.rows.len(), self.begin.elapsed());
    }

    /// Keeps it for programs.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn write_json(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a report is JSON");
        std::fs::write(path, text + "\n")
    }
}

fn print_line([name, ours, baseline, interval, target, verdict, counts]: [String; 7]) {
    println!("{name:<36} {ours:>11} {baseline:>11}  {interval:<26} {target:<13} {verdict:<8} {counts}");
}

//! The figures that are promised, measured: `cargo run --release -p bench`.
//!
//! # Layout
//!
//! * [`rows`]: what is measured, one file for each subject; here a new row begins
//! * [`row`]: one line of the result, with its target and verdict; [`interval`]: what rounds allow to say
//! * [`plots`]: the cost of growth, drawn
//! * [`report`]: the table and the JSON; [`machine`]: where it was measured
//! * [`built`]: the programs of users' that are measured
//! * [`allocator`]: counts the bytes that are in use; [`peers`]: those that are called, in a process of their own;
//!   [`plain`]: the baseline of what a plugin does
//!
//! A row compares ours with a baseline of the same run: rounds of both alternate, so that whatever the machine does beside
//! meets both. Where there is nothing to compare with, a row has a bound of its own.

mod allocator;
mod built;
mod interval;
mod machine;
mod peers;
mod plain;
mod plots;
mod report;
mod row;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::machine::Machine;
use crate::report::Report;
use crate::row::Effort;

/// Measures what is promised. It needs `etcd` in the path, and a quiet machine.
#[derive(Parser)]
struct Arguments {
    /// The rows to measure, by the beginning of their names; all where none is given.
    names: Vec<String>,
    /// Fewer rounds: wider intervals, within five minutes.
    #[arg(long)]
    quick: bool,
    /// Writes the result as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures no rows, and draws what growth costs into SVG files in this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Names all rows and measures nothing.
    #[arg(long)]
    list: bool,
    /// Serves so many peers in this role of this cluster, for another process of this program.
    #[arg(long, hide = true, num_args = 3, value_names = ["COUNT", "ROLE", "CLUSTER"])]
    serve: Vec<String>,
    /// Does by tonic alone what the bench's plugin does; it calls this address over so many connections.
    #[arg(long, hide = true, num_args = 2, value_names = ["ADDRESS", "CONNECTIONS"])]
    plain: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    if let [count, role, cluster] = &arguments.serve[..] {
        runtime.block_on(peers::serve(count.parse().expect("a number"), role, cluster));
        return ExitCode::SUCCESS;
    }
    if let [address, connections] = &arguments.plain[..] {
        runtime.block_on(plain::serve(address, connections.parse().expect("a number")));
        return ExitCode::SUCCESS;
    }
    if arguments.list {
        report::list(rows::ALL);
        return ExitCode::SUCCESS;
    }
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    if let Some(directory) = &arguments.plots {
        built::build();
        return done(runtime.block_on(plots::write(directory, effort)));
    }
    let is_chosen = |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|one| name.starts_with(one));
    let chosen: Vec<_> = rows::ALL.iter().filter(|subject| is_chosen(subject.name)).collect();
    if chosen.is_empty() {
        report::nothing_chosen();
        return ExitCode::from(64);
    }
    built::build();
    let mut report = Report::begin(Machine::this(), effort);
    for subject in chosen {
        let begin = Instant::now();
        for row in runtime.block_on((subject.measure)(effort)) {
            report.add(row);
        }
        report.measured(subject.name, begin.elapsed());
    }
    report.end();
    done(arguments.json.map_or(Ok(()), |path| report.write_json(&path)))
}

fn done(written: std::io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failed(&error);
            ExitCode::FAILURE
        }
    }
}

//! The cost of growth, drawn: time and memory against what there is more and more of. `--plots DIR` writes them.

mod calls;
mod draw;
mod peers;
mod sessions;
mod swaps;

use std::path::Path;

use crate::report;
use crate::row::Effort;

/// What was measured of growing numbers of something.
pub struct Growth {
    /// The file's name, without its ending.
    pub file: &'static str,
    /// What there is more and more of.
    pub of: &'static str,
    /// What the times are.
    pub time: &'static str,
    /// What the memory is.
    pub memory: &'static str,
    /// Ours, and what it is compared with.
    pub lines: Vec<Line>,
}

/// One of the lines.
pub struct Line {
    /// Whose figures.
    pub name: &'static str,
    /// In the order of growth.
    pub points: Vec<Point>,
}

/// What was measured at one number.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// How many there were.
    pub count: f64,
    /// The time.
    pub seconds: f64,
    /// The memory; `None` where it was not measured.
    pub bytes: Option<f64>,
}

/// Measures all, and writes a file for each.
///
/// # Errors
///
/// A file's.
pub async fn write(directory: &Path, effort: Effort) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    write_one(directory, &peers::measure(effort).await)?;
    write_one(directory, &sessions::measure(effort).await)?;
    write_one(directory, &calls::measure(effort).await)?;
    write_one(directory, &swaps::measure(effort).await)
}

fn write_one(directory: &Path, growth: &Growth) -> std::io::Result<()> {
    report::grown(growth);
    draw::draw(growth, &directory.join(growth.file).with_extension("svg"))
}

/// Those of the numbers that are measured: the last one only where there is time.
fn counts(all: &[usize], effort: Effort) -> &[usize] {
    &all[..effort.pick(all.len() - 1, all.len())]
}

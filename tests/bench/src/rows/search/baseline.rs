//! What others search with: faiss-cpu or NumPy where a Python has them, whichever is faster; plain loops elsewhere.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Instant;

use tests::vectors::Vectors;

/// In the environment, the Python to ask. Where it is not there: that of `target/venv`, or else `python3`.
const PYTHON: &str = "BENCH_PYTHON";

/// Searches the same rows with the same number of threads.
pub enum Baseline<'a> {
    /// In a process of its own.
    Python {
        /// Of which packages.
        name: String,
        child: Child,
        ask: ChildStdin,
        answers: Lines<BufReader<ChildStdout>>,
    },
    /// In this one.
    Loops { rows: &'a Vectors, queries: &'a Vectors, threads: usize, top: usize },
}

impl<'a> Baseline<'a> {
    /// The best that this machine has.
    pub fn find(files: [&Path; 2], rows: &'a Vectors, queries: &'a Vectors, threads: usize, top: usize) -> Self {
        python(files, threads, top).unwrap_or(Self::Loops { rows, queries, threads, top })
    }

    /// Which one it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Python { name, .. } => name,
            Self::Loops { .. } => "plain loops (no NumPy here)",
        }
    }

    /// Seconds for one search of the first so many queries.
    ///
    /// # Panics
    ///
    /// Where the process has ended.
    pub fn search(&mut self, batch: usize) -> f64 {
        match self {
            Self::Python { ask, answers, .. } => {
                writeln!(ask, "{batch}").expect("the baseline reads");
                let answer = answers.next().expect("the baseline answers").expect("in UTF-8");
                answer.parse().expect("with a number")
            }
            Self::Loops { rows, queries, threads, top } => {
                let begin = Instant::now();
                std::hint::black_box(loops(rows, &queries.values[..batch * queries.dimension], *threads, *top));
                begin.elapsed().as_secs_f64()
            }
        }
    }
}

impl Drop for Baseline<'_> {
    fn drop(&mut self) {
        if let Self::Python { child, .. } = self {
            // It fails where the process has ended already, which is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// None where there is no Python, or it has no NumPy.
fn python(files: [&Path; 2], threads: usize, top: usize) -> Option<Baseline<'static>> {
    let program = std::env::var_os(PYTHON).map_or_else(own_python, PathBuf::from);
    let mut child = Command::new(program)
        .args(["-c", include_str!("baseline.py")])
        .args(files)
        .arg(top.to_string())
        .env("OMP_NUM_THREADS", threads.to_string())
        .env("OPENBLAS_NUM_THREADS", threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let ask = child.stdin.take()?;
    let mut answers = BufReader::new(child.stdout.take()?).lines();
    match answers.next() {
        Some(Ok(name)) => Some(Baseline::Python { name, child, ask, answers }),
        _ => {
            drop(child.wait());
            None
        }
    }
}

/// That of `target/venv`, where somebody has made it.
fn own_python() -> PathBuf {
    let program = std::env::current_exe().expect("a process knows its executable");
    let of_target = program.ancestors().nth(2).map(|target| target.join("venv/bin/python3"));
    of_target.filter(|python| python.is_file()).unwrap_or_else(|| "python3".into())
}

/// Each thread its share of the rows, each query by itself; the nearest so far in order.
fn loops(rows: &Vectors, queries: &[f32], threads: usize, top: usize) -> Vec<Vec<(f32, usize)>> {
    let share = rows.rows().div_ceil(threads);
    let nearest = |query: &[f32], first: usize| {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(top + 1);
        for number in first..rows.rows().min(first + share) {
            let pairs = rows.row(number).iter().zip(query);
            let distance = pairs.map(|(one, other)| (one - other) * (one - other)).sum::<f32>();
            if best.len() < top || distance < best[top - 1].0 {
                let at = best.partition_point(|other| other.0 <= distance);
                best.insert(at, (distance, number));
                best.truncate(top);
            }
        }
        best
    };
    let nearest = &nearest;
    let of_share = |thread: usize| queries.chunks(rows.dimension).map(move |query| nearest(query, thread * share));
    thread::scope(|scope| {
        let shares: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || of_share(thread).collect::<Vec<_>>())).collect();
        let found = shares.into_iter().map(|share| share.join().expect("it does not panic"));
        let merge = |one: Vec<Vec<_>>, other: Vec<Vec<_>>| {
            let both = one.into_iter().zip(other).map(|(one, other)| [one, other].concat());
            let sorted = both.map(|mut both: Vec<(f32, usize)>| {
                both.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
                both.truncate(top);
                both
            });
            sorted.collect()
        };
        found.reduce(merge).unwrap_or_default()
    })
}

//! For how long a machine that does much else has let a process wait for a processor, as the kernel counts it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The waits of one process.
pub(super) struct Withheld {
    tasks: PathBuf,
    /// Of each thread, how long it has waited in all.
    threads: BTreeMap<String, Duration>,
    /// The sum of the longest waits up to each moment at which it was noted.
    total: Vec<(Duration, Duration)>,
}

impl Withheld {
    /// Of this process.
    pub fn of(pid: i32) -> Self {
        let tasks = format!("/proc/{pid}/task").into();
        let mut new = Self { tasks, threads: BTreeMap::new(), total: Vec::new() };
        new.threads = new.read();
        new
    }

    /// Reads how it stands: whichever thread has waited longest since the last time may have been the one that mattered.
    pub fn note(&mut self, now: Duration) {
        let threads = self.read();
        let since = |(thread, total): (&String, &Duration)| {
            total.saturating_sub(self.threads.get(thread).copied().unwrap_or_default())
        };
        let longest = threads.iter().map(since).max().unwrap_or_default();
        let before = self.total.last().map_or(Duration::ZERO, |(_, total)| *total);
        self.total.push((now, before + longest));
        self.threads = threads;
    }

    /// How long it has waited between two moments, at most.
    pub fn between(&self, begin: Duration, end: Duration) -> Duration {
        let before = self.total.iter().rev().find(|(at, _)| *at <= begin).map_or(Duration::ZERO, |(_, total)| *total);
        let after = self.total.iter().find(|(at, _)| *at >= end).or(self.total.last());
        after.map_or(Duration::ZERO, |(_, total)| *total).saturating_sub(before)
    }

    /// The second number of a thread's `schedstat`, in nanoseconds. A thread that has ended meanwhile is left out.
    fn read(&self) -> BTreeMap<String, Duration> {
        let entries = std::fs::read_dir(&self.tasks).into_iter().flatten().flatten();
        let wait = |entry: std::fs::DirEntry| {
            let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
            let wait = text.split(' ').nth(1)?.parse().ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), Duration::from_nanos(wait)))
        };
        entries.filter_map(wait).collect()
    }
}

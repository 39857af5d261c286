//! What a process uses, as the kernel has it.

use std::collections::BTreeMap;
use std::fs;

use crate::host::Host;

/// What a process uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, without pages of files that nobody has written to (`RssAnon`): these the kernel takes back.
    pub memory: u64,
    /// How many threads have each name.
    pub threads: BTreeMap<String, usize>,
    /// How many files and sockets are open.
    pub files: usize,
}

impl Usage {
    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.values().sum()
    }
}

impl Host {
    /// What its present process uses.
    ///
    /// # Panics
    ///
    /// Where `/proc` is not that of Linux.
    pub fn usage(&self) -> Usage {
        self.assert_running();
        let process = format!("/proc/{}", self.pid());
        let status = fs::read_to_string(format!("{process}/status")).expect("Linux shows a process' status");
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        let memory =
            kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("Linux counts a process' memory") * 1024;
        let mut threads = BTreeMap::new();
        let tasks = fs::read_dir(format!("{process}/task")).expect("Linux shows a process' threads");
        // A thread that has ended meanwhile has no name any more.
        for name in tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()) {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
        let files = fs::read_dir(format!("{process}/fd")).expect("Linux shows a process' files").count();
        Usage { memory, threads, files }
    }
}
